"""The studies of swiftnet's first-frame adaptation; they are variants of `studies.py`.

One trained model serves many rows: they differ in settings of inference alone and train nothing.
"""

import itertools

from vseg_jax.settings import EndpointConfig, RowConfig, StudyConfig

STATIC = {"model.memory_update": False}
ADAPTED = {"model.adaptation_steps": 50}   # as in the paper; its rate, 1, is that of the config


def look_alikes() -> StudyConfig:
    """Returns the study of one small model per seed on three sets of look-alikes."""
    grid = [*itertools.product(("mean_i", "object"), (10, 50), (0.1, 1.0)),
            *itertools.product(("sum",), (50,), (0.1, 1.0))]
    keys = ("model.reduction", "model.adaptation_steps", "model.adaptation_rate")
    adapted = {"_".join(map(str, values)): dict(zip(keys, values, strict=True)) for values in grid}
    copies = {**ADAPTED, "model.adaptation_copies": 4}
    adapted |= {"unscaled": {**ADAPTED, "model.affinity_scale": "none"}, "copies": copies,
                "copies_object": {**copies, "model.reduction": "object"}}
    evaluated = {"updated_adapted": ADAPTED, "static": STATIC,
                 **{name: {**STATIC, **row} for name, row in adapted.items()}}
    return StudyConfig(
        rows={"updated": RowConfig("swiftnet:adaptation"), **{
            name: RowConfig("swiftnet:adaptation", row, init_from="updated", trains=False)
            for name, row in evaluated.items()}},
        columns={**_adapted("shapes"), **_adapted("cutouts"), "dogs J": "dogs/J/mean"},
        seeds=(0, 1, 2, 3, 4),
        endpoint=EndpointConfig("shapes", "mean_i_50_1.0", ("static",)),
        paired={"updated_adapted": "updated", **dict.fromkeys(adapted, "static")},
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
