"""Studies: rows of settings by seeds, one table each.

    python -m vseg_jax.main --mode study --config configs/studies.py:text --workdir runs/text

A study that was stopped goes on. Any key that all its configs have can be set for all cells:
`--config.train.steps=100`. Results: docs/results.md. What the rows cost, without running them:
`--mode cost`.

Variants:
  text  The three systems of sentences on the same made videos: cvls with all modules and without,
        mmvt with and without the motion stream, qvim. A third of the objects differ from the
        others in how they move alone.

  methods  qvim's Table 1 on made videos: the baseline, the five compared methods, the full model,
        and, of Table 2, the full model without QFA, L_const, AM-AdaIN; scored on the source, on the
        target domain and on single shifts; five seeds.
  power  Of methods the baseline and the full model alone, on ten seeds.
  parts  Tables 2 and 3 and Figure 3c: the full model without each of its parts.
  layers  Figure 3: QFA and AM-AdaIN at each scale, and at all; QFA's threshold from the start.

        These four have cells in common. Give them one --workdir and each is run once:

            for study in methods power parts layers; do
              python -m vseg_jax.main --mode study --config configs/studies.py:$study \\
                --workdir runs/qvim
            done

  references, hearing  rcf on made videos: without a frame before the target (delta 0) and with one
        (delta 1), and with the slots' order supervised; on look-alikes of which one hums, deaf and
        hearing. Three seeds each.

  a2d, rvos  Tables 1 to 3 at the paper's size, as configs/qvim.py:a2d (A2J, A2R) and :rvos (R2A)
        train; `--mode cost` of either gives Table 4 and needs no data. Not run by us.
"""

from __future__ import annotations

from vseg_jax.configs.qvim import SHIFTS
from vseg_jax.settings import RowConfig, StudyConfig

VARIANTS = ("text", "methods", "power", "parts", "layers", "references", "hearing", "a2d", "rvos")

FRESH = (2, 3, 4, 5, 6)  # seeds; configs/qvim.py:benchmark was set up on 0 and 1

# Rows of qvim's studies: changes of the full model.
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
    "qfa_not_progressive": {"model.qfa_progressive": False},  # Figure 3c
}
SCALES = {"1": (1,), "2": (2,), "3": (3,), "4": (4,), "5": (5,), "all": (1, 2, 3, 4, 5)}


def get_study(variant: str = "text") -> StudyConfig:
    """The study of a variant; raises ValueError where there is none of that name."""
    if variant not in VARIANTS:
        raise ValueError(f"no study '{variant}'; there are {', '.join(VARIANTS)}")
    studies = {"text": _text, "methods": _methods, "power": _power, "parts": _parts,
               "layers": _layers, "references": _references, "hearing": _hearing}
    return studies[variant]() if variant in studies else _paper(variant)


def _text() -> StudyConfig:
    shared = {
        "data.options.flow": True, "data.options.differs": (3.0, 1.0, 1.0, 1.0, 3.0),
        "train.steps": 2000,
    }
    baseline = {"model.ccl": False, "model.lcf": False, "model.rhic": False}
    return StudyConfig(
        rows={
            "cvls_baseline": RowConfig("configs/cvls.py:shapes", {**shared, **baseline}),
            "cvls": RowConfig("configs/cvls.py:shapes", shared),
            "mmvt_still": RowConfig("configs/mmvt.py:shapes", {**shared, "model.motion": False}),
            "mmvt": RowConfig("configs/mmvt.py:shapes", shared),
            "qvim": RowConfig("configs/quickstart.py", shared),
        },
        columns={
            "P@0.5": "source/precision@0.5", "P@0.7": "source/precision@0.7",
            "P@0.9": "source/precision@0.9", "mAP": "source/mAP",
            "overall IoU": "source/overall_iou", "mean IoU": "source/mean_iou",
            "motion alone": "source/by/differs_in/motion/mean_iou",
            "color alone": "source/by/differs_in/color/mean_iou",
            "exchanged": "source_shuffled_expressions/mean_iou",
        },
        baseline="cvls_baseline",
    )


def _methods() -> StudyConfig:
    # ISW must have measured its covariances before the training ends, and SFA have begun.
    numbers = {"sfa": {"sfa_start": 100}, "isw": {"isw_trials": 2, "isw_images": 200}}
    return StudyConfig(
        rows=_rows("benchmark", {**_compared(numbers), **FULL, **WITHOUT}),
        columns=_mean_iou("source", "target", "unworded", *SHIFTS),
        seeds=FRESH,
        baseline="baseline",
    )


def _power() -> StudyConfig:
    return StudyConfig(
        rows=_rows("benchmark", {"baseline": BASELINE, **FULL}),
        columns=_mean_iou("source", "target", "unworded", *SHIFTS),
        seeds=(*FRESH, 7, 8, 9, 10, 11),
        baseline="baseline",
    )


def _parts() -> StudyConfig:
    return StudyConfig(
        rows=_rows("benchmark", {**FULL, **WITHOUT, **PARTS}),
        columns=_mean_iou("source", "target", "unworded", "background", "light", "wording"),
        seeds=FRESH[:3],
        baseline="full",
    )


def _layers() -> StudyConfig:
    """In the full model QFA stands at scale 1 and AM-AdaIN at 4; each is moved by itself, and QFA's
    threshold is held where it ends."""
    qfa = {k: "full" if k == "1" else f"qfa_{k}" for k in SCALES}
    am_adain = {k: "full" if k == "4" else f"am_adain_{k}" for k in SCALES}
    rows = {
        **FULL,
        "without_qfa": WITHOUT["without_qfa"],
        **{qfa[k]: {"model.qfa_scales": at} for k, at in SCALES.items() if k != "1"},
        "without_am_adain": WITHOUT["without_am_adain"],
        **{am_adain[k]: {"model.am_adain_scales": at} for k, at in SCALES.items() if k != "4"},
        "qfa_not_progressive": PARTS["qfa_not_progressive"],
    }
    return StudyConfig(
        rows=_rows("benchmark", rows),
        columns=_mean_iou("source", "target", "unworded", "background", "light", "wording"),
        seeds=FRESH[:3],
        baseline="full",
        lines={"QFA at scale": {"none": "without_qfa", **qfa},
               "QFA, threshold not progressive": {"1": "qfa_not_progressive"},
               "AM-AdaIN at scale": {"none": "without_am_adain", **am_adain}},
    )


def _references() -> StudyConfig:
    shapes = "configs/rcf.py:shapes"
    return StudyConfig(
        rows={"delta_0": RowConfig(shapes, {"model.references": 0}), "delta_1": RowConfig(shapes),
              "ordered": RowConfig(shapes, {"model.order_supervision": True})},
        columns={**_instances("source"), "target AP50": "target/AP50",
                 "target track recall": "target/track_recall"},
        baseline="delta_0",
    )


def _hearing() -> StudyConfig:
    heard = "configs/rcf.py:shapes_audio"
    return StudyConfig(
        rows={"deaf": RowConfig(heard, {"model.audio": False}), "hearing": RowConfig(heard)},
        columns=_instances("source"),
        baseline="deaf",
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
    """The baseline, and the methods of Table 1 on it with `numbers` of their own."""
    methods = {name: {"method": name, **numbers.get(name, {})} for name in COMPARED}
    return {"baseline": BASELINE, **{
        name: {**BASELINE, **{f"model.compared.{key}": value for key, value in changes.items()}}
        for name, changes in methods.items()
    }}


def _rows(variant: str, rows: dict[str, dict]) -> dict[str, RowConfig]:
    return {name: RowConfig(f"configs/qvim.py:{variant}", rows[name]) for name in rows}


def _mean_iou(*datasets: str) -> dict[str, str]:
    return {name: f"{name}/mean_iou" for name in datasets}
