"""The studies of swiftnet's first-frame adaptation; they are variants of `studies.py`.

One trained model serves many rows: they differ in settings of inference alone and train nothing.
"""

from vseg_jax.settings import RowConfig, StudyConfig

SHIPPED = {"init_from": "swiftnet-lite0"}
STATIC = {"model.memory_update": False}
ADAPTED = {"model.adaptation_steps": 50}   # as in the paper; its rate, 1, is that of the config


def look_alikes() -> StudyConfig:
    """Returns the study of the shipped model on three sets of look-alikes."""
    object_mean, slow = {"model.reduction": "object"}, {"model.adaptation_rate": 0.1}
    adapted = {
        "paper": {}, "slow": slow, "object": object_mean, "object_slow": {**object_mean, **slow},
        "copies": {**object_mean, **slow, "model.adaptation_copies": 4},
    }
    rows = {"static": STATIC, "updated": {}, "updated_paper": ADAPTED,
            **{name: {**STATIC, **ADAPTED, **row} for name, row in adapted.items()}}
    return StudyConfig(
        rows={name: RowConfig("swiftnet:adaptation", {**SHIPPED, **row}, trains=False)
              for name, row in rows.items()},
        columns={**_adapted("shapes"), **_adapted("cutouts"), **_adapted("dogs")},
        seeds=(0,),
        paired={**dict.fromkeys(adapted, "static"), "updated_paper": "updated"},
    )


def ovis() -> StudyConfig:
    """Returns the paper's Table 1, of a model that `init_from` names."""
    rows = {"static": STATIC, "static_adapted": {**STATIC, **ADAPTED},
            "updated": {}, "updated_adapted": ADAPTED}
    return StudyConfig(
        rows={name: RowConfig("swiftnet:ovis", row, trains=False) for name, row in rows.items()},
        columns=_adapted("vos25"),
        seeds=(0,),
        paired={"static_adapted": "static", "updated_adapted": "updated"},
    )


def davis() -> StudyConfig:
    """Returns the two rows of the paper's Table 2 that are its own, likewise."""
    rows = {"plain": {}, "adapted": ADAPTED}
    return StudyConfig(
        rows={name: RowConfig("swiftnet:stage2", row, trains=False) for name, row in rows.items()},
        columns={"J&F": "davis_val/J&F", "F": "davis_val/F/mean", **_adapted("davis_val")},
        seeds=(0,),
        paired={"adapted": "plain"},
    )


def _adapted(dataset: str) -> dict[str, str]:
    """Returns J, and the adaptation's losses before and after as shares of their largest values."""
    losses = {f"{loss} {when}": f"{loss}/{when}" for loss in ("L_obj", "L_bg")
              for when in ("before", "after")}
    return {f"{dataset} J": f"{dataset}/J/mean", **{
        f"{dataset} {heading}": f"{dataset}/adaptation/{path}"
        for heading, path in {**losses, "collapsed": "collapsed"}.items()}}
