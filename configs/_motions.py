"""Studies of referring models on synthetic videos where often only motion identifies the object."""

from vseg_jax.settings import RowConfig, StudyConfig

MOTIONS = {"data.options.flow": True, "data.options.differs": (3.0, 1.0, 1.0, 1.0, 3.0),
           "train.steps": 2000}
BASELINE = {"model.ccl": False, "model.lcf": False, "model.rhic": False}   # of cvls


def text() -> StudyConfig:
    """Compares cvls, mmvt and qvim, two of them with and without parts."""
    return StudyConfig(
        rows={
            "cvls_baseline": RowConfig("cvls:shapes", {**MOTIONS, **BASELINE}),
            "cvls": RowConfig("cvls:shapes", MOTIONS),
            "mmvt_still": RowConfig("mmvt:shapes", {**MOTIONS, "model.motion": False}),
            "mmvt": RowConfig("mmvt:shapes", MOTIONS),
            "qvim": RowConfig("qvim:shapes", MOTIONS),
        },
        columns=_by_attribute(),
        baseline="cvls_baseline",
    )


def cvls_modules() -> StudyConfig:
    """Table 3 and Figure 6 of the paper of cvls."""
    rows = {
        "cvls_baseline": BASELINE,
        "ccl": {"model.lcf": False, "model.rhic": False},
        "ccl_rhic": {"model.lcf": False},
        "ccl_lcf": {"model.rhic": False},
        "cvls": {},   # the hard share is a quarter, lambda 0.8
        **{f"rhic_{hard}_{easy}": {"model.rhic_ratio": (hard, easy)} for hard, easy in
           ((1, 1), (1, 2), (1, 4), (1, 5), (2, 1), (3, 1), (4, 1))},
        **{f"lambda_{share}": {"model.lambda_ccl": share} for share in (0.2, 0.4, 0.6, 0.9)},
    }
    return StudyConfig(
        rows={name: RowConfig("cvls:shapes", {**MOTIONS, **row}) for name, row in rows.items()},
        columns=_by_attribute(), baseline="cvls_baseline",
    )


def mmvt_steps() -> StudyConfig:
    """The steps from mmvt's baseline to its full network, and the number of frames in a clip."""
    bmtl = {"model.align": "none"}
    bmt = {**bmtl, "model.lgff": "none"}
    bm = {**bmt, "model.transformer": False}
    rows = {
        "mmvt_b": {**bm, "model.motion": False},
        "mmvt_bm": bm,
        "mmvt_bmt": bmt,
        "mmvt_bmtl": bmtl,
        "mmvt": {},   # all five; 3 frames
        **{f"frames_{n}": {"clip.length": n, "clip.target": n // 2} for n in (1, 5, 7)},
    }
    return StudyConfig(
        rows={name: RowConfig("mmvt:shapes", {**MOTIONS, **row}) for name, row in rows.items()},
        columns=_by_attribute(), baseline="mmvt_b",
    )


def mmvt_colors() -> StudyConfig:
    """Changes one of the properties of mmvt that may delay colors in each row."""
    rows = {
        "mmvt": {}, "sentence_mean": {"model.sentence": "mean"},
        "sentence_norm": {"model.sentence_norm": "own"},
        "cells_6x6": {"clip.height": 96, "clip.width": 96},
        "align_0.1": {"model.align_weight": 0.1},
    }
    return StudyConfig(
        rows={name: RowConfig("mmvt:shapes", {**MOTIONS, **row}) for name, row in rows.items()},
        columns=_by_attribute(),
        baseline="mmvt",
    )


def _by_attribute() -> dict[str, str]:
    """Returns the metrics, and the mean IoU by the attribute that tells an object apart."""
    return {
        "P@0.5": "source/precision@0.5", "P@0.7": "source/precision@0.7",
        "P@0.9": "source/precision@0.9", "mAP": "source/mAP",
        "overall IoU": "source/overall_iou", "mean IoU": "source/mean_iou",
        "motion only": "source/by/differs_in/motion/mean_iou",
        "color only": "source/by/differs_in/color/mean_iou",
        "shuffled": "source_shuffled_expressions/mean_iou",
    }
