"""Is there anything to adapt? The losses of first-frame adaptation over an evaluation.

A model that adapts to the first frame reports both of its losses before and after (see
`vseg_jax.models.swiftnet.adaptation.Adaptation`). Where they are near 0 before the first step, the
first frame is read as it should be, and adaptation cannot help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vseg_jax.evaluation.runner import gather

Row = list[float]  # of one object: L_obj before and after, L_bg before and after, collapsed


def rows(report: Any, masks: Sequence[UInt8[np.ndarray, "H W"]]) -> list[Row]:
    """Returns a row for each object of the streams that have just started.

    Args:
      report: `Session.adaptation`; None without adaptation.
      masks: the first mask of each stream.
    """
    found: list[Row] = []
    for stream, mask in enumerate(masks if report is not None else ()):
        failed = bool(report.collapsed[stream])
        steps = (0, 0 if failed else -1)   # after a collapse the trained keys are used
        curves = report.objects[stream], report.background[stream]
        for slot in range(len(np.unique(mask[mask > 0]))):
            found.append([*(float(c[step, slot]) for c in curves for step in steps), float(failed)])
    return found


def means(found: list[Row]) -> dict[str, Any] | None:
    """Returns the means over the objects of all processes; None without adaptation.

    Returns:
      `L_obj` and `L_bg`, each {"before", "after"}: the share of what the background reads that is
      the object, and the share of what the object reads that is not; `collapsed`: the share of the
      objects whose adaptation failed, for which "after" is as "before".
    """
    together = [row for part in gather(found) for row in part]
    if not together:
        return None
    obj_before, obj_after, bg_before, bg_after, collapsed = np.mean(together, axis=0).tolist()
    return {"L_obj": {"before": obj_before, "after": obj_after},
            "L_bg": {"before": bg_before, "after": bg_after}, "collapsed": collapsed}


def text(result: dict[str, Any]) -> str:
    """Returns the result of `means` in words, in percent."""
    both = (f"{name} {100 * result[name]['before']:.1f} -> {100 * result[name]['after']:.1f}"
            for name in ("L_obj", "L_bg"))
    collapsed = 100 * result["collapsed"]
    return f"adaptation to the first frame: {', '.join(both)}, collapsed {collapsed:.1f}"
