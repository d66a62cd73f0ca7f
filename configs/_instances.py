"""The studies of rcf on synthetic videos; they are variants of `studies.py`."""

import dataclasses

from vseg_jax.configs import rcf
from vseg_jax.models.rcf import RcfConfig
from vseg_jax.settings import RowConfig, StudyConfig


def recipe() -> StudyConfig:
    """Compares `rcf:shapes` with what it is without its parts, and with the paper's rules."""
    study = _rcf({
        "shapes": {}, "eos_0.1": {"model.eos_coef": 0.1}, "stride_32": {"model.fuse_stride": 32},
        "without_pooling": {"model.class_pooling": False},
        "without_coordinates": {"model.coordinates": False, "model.positions": "each_layer"},
        "without_ema": {"train.ema": 0.0}, "queries_5": {"model.queries": 5},
        "crops": {"clip.crop": 0.6, "clip.color": 0.3},
    }, baseline="shapes")
    # The same models with the paper's rules of firing and identities, and with one of ours each.
    papers = {key: getattr(RcfConfig, key) for key in rcf.RULES}
    rules = {"papers_rules": papers, **{f"with_{key}": papers | {key: value}
                                        for key, value in rcf.RULES.items()}}
    evaluated = {
        title: RowConfig("rcf:shapes", {f"model.{key}": value for key, value in row.items()},
                         init_from="shapes", trains=False)
        for title, row in rules.items()}
    return dataclasses.replace(study, rows={**study.rows, **evaluated})


def references() -> StudyConfig:
    """Table III."""
    return _rcf({_named(f"delta_{k}", k == 1): {"model.references": k} for k in range(6)},
                baseline="delta_0")


def fusion() -> StudyConfig:
    """Table IV."""
    return _rcf({
        "full_enc": {"model.fusion": "full_enc"},
        "full_dec": {"model.fusion": "full_dec"},
        "full_dec_separate": {"model.fusion": "full_dec", "model.separate_encoders": True},
        "shapes": {},
    }, baseline="shapes")


def tokens() -> StudyConfig:
    """Table V."""
    return _rcf({_named(f"tokens_{k}", k == 4): {"model.token_size": k} for k in (1, 4, 16, 64)},
                baseline="shapes")


def queries() -> StudyConfig:
    """Table VI."""
    numbers = (5, 10, 15, 20, 25)
    return _rcf({_named(f"queries_{k}", k == 10): {"model.queries": k} for k in numbers},
                baseline="shapes")


def order() -> StudyConfig:
    """Table VII."""
    return _rcf({"supervised": {"model.order_supervision": True}, "shapes": {}},
                baseline="supervised")


def weight() -> StudyConfig:
    """Table VIII."""
    return _rcf({"without_w": {"model.ref_weight": False}, "shapes": {}}, baseline="without_w")


def _named(title: str, default: bool) -> str:
    """Returns the title of a row, "shapes" for the one without changes, which studies share."""
    return "shapes" if default else title


def _rcf(rows: dict[str, dict], baseline: str) -> StudyConfig:
    return StudyConfig(
        rows={title: RowConfig("rcf:shapes", row) for title, row in rows.items()},
        columns={**_instances("source"), "long HOTA": "long/HOTA", "long IDF1": "long/IDF1",
                 "long switches": "long/identity_switches",
                 "long preservation": "long/identity_preservation",
                 "target AP50": "target/AP50", "target track recall": "target/track_recall"},
        baseline=baseline,
    )


def audio(references: tuple[int, ...] = (1,)) -> StudyConfig:
    """Without and with audio, on look-alikes whose category it reveals; Table X by references."""
    rows = {}
    for k in references:
        number = f"_{k}" * (k > 1)
        silent = {"model.references": k, "model.audio": False}
        rows |= {f"without_audio{number}": silent, f"with_audio{number}": {"model.references": k}}
    return StudyConfig(
        rows={title: RowConfig("rcf:shapes_audio", row) for title, row in rows.items()},
        columns=_instances("source"),
        baseline="without_audio",
    )


def audio_which() -> StudyConfig:
    """On look-alikes of which audio and motion together reveal which one sounds."""
    which = {"data.options.look_alikes": "which"}
    rows = {"neither": {"model.references": 0, "model.audio": False},
            "reference": {"model.audio": False}, "audio": {"model.references": 0}, "both": {}}
    return StudyConfig(
        rows={title: RowConfig("rcf:shapes_audio", {**which, **row})
              for title, row in rows.items()},
        columns=_instances("source"), baseline="neither",
    )


def _instances(dataset: str) -> dict[str, str]:
    names = ("AP", "AP50", "AP75", "AR1", "AR10", "HOTA", "IDF1", "track_recall",
             "identity_preservation")
    return {name.replace("_", " "): f"{dataset}/{name}" for name in names}
