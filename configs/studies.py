"""Studies: rows of settings by seeds, one table each.

    vseg study --config studies:text --workdir runs/text

A study that was stopped resumes with the same command. A key that all its configs have can be set
for all runs: `--config.train.steps=100`. The documentation lists the results. `vseg cost` reports
the parameter counts and FLOPs of the rows without running them.

Variants:
  text  The three referring systems on the same synthetic videos: cvls with and without all of its
        modules, mmvt with and without the motion stream, qvim. A third of the objects differ from
        the others only in how they move.

  methods  qvim's Table 1 on synthetic videos: the baseline, the five compared methods, the full
        model, and, from Table 2, the full model without QFA, L_const or AM-AdaIN; scored on the
        source, on the target domain and on single shifts; five seeds.
  power  Only the baseline and the full model of `methods`, with ten seeds.
  parts  Tables 2 and 3 and Figure 3c: the full model without each of its parts.
  layers  Figure 3: QFA and AM-AdaIN at each scale and at all; QFA's final threshold from the start.

        These four have runs in common. In a common --workdir, each run is executed once:

            for study in methods power parts layers; do
              vseg study --config studies:$study --workdir runs/qvim
            done

  references  rcf on synthetic videos: without a frame before the target (delta 0), with one (delta
        1), and with supervised order of the slots. Three seeds.
  audio  rcf on look-alikes whose category only audio reveals, without and with audio. Three seeds.

  a2d, rvos  Tables 1 to 3 at the paper's size, trained as `qvim:a2d` (A2J, A2R) and `qvim:rvos`
        (R2A); `vseg cost` of either gives Table 4 and needs no data. We have not run them.
"""

import functools

from vseg_jax.configs._common import variant_of
from vseg_jax.settings import RowConfig, StudyConfig

SHIFTS = ("background", "light", "style", "crowd", "lexicon")  # test sets with a single shift
FRESH = (2, 3, 4, 5, 6)  # seeds; `qvim:benchmark` was set up on 0 and 1

# Rows of qvim's studies, as changes of the full model.
FULL = {"full": {}}
BASELINE = {"model.qfa_scales": (), "model.am_adain_scales": (), "model.contrast": False}
COMPARED = ("sfa", "adain", "mixstyle", "dsu", "isw")
WITHOUT = {  # Table 2
    "without_qfa": {"model.qfa_scales": ()},
    "without_contrast": {"model.contrast": False},
    "without_am_adain": {"model.am_adain_scales": ()},
}
PARTS = {
    "without_qgap": {"model.qgap": False},  # Table 2
    "without_cross_attention": {"model.cross_attention": False},
    "qfa_without_b": {"model.qfa_foreground": False},  # Table 3
    "qfa_without_m_aug": {"model.qfa_augment_matrix": False},
    "qfa_constant": {"model.qfa_schedule": "constant"},  # Figure 3c
    "qfa_from_start": {"model.qfa_schedule": "from_start"},
}
SCALES = {"1": (1,), "2": (2,), "3": (3,), "4": (4,), "5": (5,), "all": (1, 2, 3, 4, 5)}


def get_study(variant: str = "text") -> StudyConfig:
    """Returns the study of a variant; raises ValueError where there is none of that name."""
    return variant_of(VARIANTS, variant, "studies")


def _text() -> StudyConfig:
    shared = {
        "data.options.flow": True, "data.options.differs": (3.0, 1.0, 1.0, 1.0, 3.0),
        "train.steps": 2000,
    }
    baseline = {"model.ccl": False, "model.lcf": False, "model.rhic": False}
    return StudyConfig(
        rows={
            "cvls_baseline": RowConfig("cvls:shapes", {**shared, **baseline}),
            "cvls": RowConfig("cvls:shapes", shared),
            "mmvt_still": RowConfig("mmvt:shapes", {**shared, "model.motion": False}),
            "mmvt": RowConfig("mmvt:shapes", shared),
            "qvim": RowConfig("qvim:shapes", shared),
        },
        columns={
            "P@0.5": "source/precision@0.5", "P@0.7": "source/precision@0.7",
            "P@0.9": "source/precision@0.9", "mAP": "source/mAP",
            "overall IoU": "source/overall_iou", "mean IoU": "source/mean_iou",
            "motion only": "source/by/differs_in/motion/mean_iou",
            "color only": "source/by/differs_in/color/mean_iou",
            "shuffled": "source_shuffled_expressions/mean_iou",
        },
        baseline="cvls_baseline",
    )


def _methods() -> StudyConfig:
    # ISW must measure its covariances, and SFA must start, before the training ends.
    numbers = {"sfa": {"sfa_start": 100}, "isw": {"isw_trials": 2, "isw_images": 200}}
    return StudyConfig(
        rows=_rows("benchmark", {**_compared(numbers), **FULL, **WITHOUT}),
        columns=_mean_iou("source", "target", *SHIFTS),
        seeds=FRESH,
        baseline="baseline",
    )


def _power() -> StudyConfig:
    return StudyConfig(
        rows=_rows("benchmark", {"baseline": BASELINE, **FULL}),
        columns=_mean_iou("source", "target", *SHIFTS),
        seeds=(*FRESH, 7, 8, 9, 10, 11),
        baseline="baseline",
    )


def _parts() -> StudyConfig:
    return StudyConfig(
        rows=_rows("benchmark", {**FULL, **WITHOUT, **PARTS}),
        columns=_mean_iou("source", "target", *SHIFTS),
        seeds=FRESH[:3],
        baseline="full",
    )


def _layers() -> StudyConfig:
    # The full model has QFA at scale 1 and AM-AdaIN at scale 4. Each is moved by itself, and in one
    # row QFA has its final threshold from the start.
    qfa = {k: "full" if k == "1" else f"qfa_{k}" for k in SCALES}
    am_adain = {k: "full" if k == "4" else f"am_adain_{k}" for k in SCALES}
    rows = {
        **FULL,
        "without_qfa": WITHOUT["without_qfa"],
        **{qfa[k]: {"model.qfa_scales": at} for k, at in SCALES.items() if k != "1"},
        "without_am_adain": WITHOUT["without_am_adain"],
        **{am_adain[k]: {"model.am_adain_scales": at} for k, at in SCALES.items() if k != "4"},
        "qfa_constant": PARTS["qfa_constant"],
        "qfa_from_start": PARTS["qfa_from_start"],
    }
    return StudyConfig(
        rows=_rows("benchmark", rows),
        columns=_mean_iou("source", "target", *SHIFTS),
        seeds=FRESH[:3],
        baseline="full",
        lines={"QFA at scale": {"none": "without_qfa", **qfa},
               "QFA, constant threshold": {"1": "qfa_constant"},
               "QFA, constant threshold from the start": {"1": "qfa_from_start"},
               "AM-AdaIN at scale": {"none": "without_am_adain", **am_adain}},
    )


def _references() -> StudyConfig:
    shapes = "rcf:shapes"
    return StudyConfig(
        rows={"delta_0": RowConfig(shapes, {"model.references": 0}), "delta_1": RowConfig(shapes),
              "ordered": RowConfig(shapes, {"model.order_supervision": True})},
        columns={**_instances("source"), "target AP50": "target/AP50",
                 "target track recall": "target/track_recall"},
        baseline="delta_0",
    )


def _audio() -> StudyConfig:
    shapes = "rcf:shapes_audio"
    return StudyConfig(
        rows={"without_audio": RowConfig(shapes, {"model.audio": False}),
              "with_audio": RowConfig(shapes)},
        columns=_instances("source"),
        baseline="without_audio",
    )


def _instances(dataset: str) -> dict[str, str]:
    names = ("AP", "AP50", "AP75", "AR1", "AR10", "track_recall", "identity_preservation")
    return {name.replace("_", " "): f"{dataset}/{name}" for name in names}


def _paper(variant: str) -> StudyConfig:
    scored = {"a2d": {"A2D": "a2d_test", "A2J": "jhmdb", "A2R": "a2r"},
              "rvos": {"RVOS": "rvos_dev", "R2A": "a2d_test"}}[variant]
    metrics = {"P@0.5": "precision@0.5", "mAP": "mAP", "overall": "overall_iou",
               "mean": "mean_iou"}
    return StudyConfig(
        rows=_rows(variant, {**_compared({}), **FULL, **WITHOUT, **PARTS}),
        columns={f"{task} {heading}": f"{dataset}/{metric}"
                 for task, dataset in scored.items() for heading, metric in metrics.items()},
        baseline="baseline",
    )


def _compared(numbers: dict[str, dict]) -> dict[str, dict]:
    """Returns the baseline, and the methods of Table 1 on it with settings from `numbers`."""
    methods = {name: {"method": name, **numbers.get(name, {})} for name in COMPARED}
    return {"baseline": BASELINE, **{
        name: {**BASELINE, **{f"model.compared.{key}": value for key, value in changes.items()}}
        for name, changes in methods.items()
    }}


def _rows(variant: str, rows: dict[str, dict]) -> dict[str, RowConfig]:
    return {name: RowConfig(f"qvim:{variant}", rows[name]) for name in rows}


def _mean_iou(*datasets: str) -> dict[str, str]:
    return {name: f"{name}/mean_iou" for name in datasets}


VARIANTS = {
    "text": _text, "methods": _methods, "power": _power, "parts": _parts, "layers": _layers,
    "references": _references, "audio": _audio, "a2d": functools.partial(_paper, "a2d"),
    "rvos": functools.partial(_paper, "rvos"),
}
