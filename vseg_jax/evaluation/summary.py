"""What the scores of referring segmentation show, in words: the end of a training run."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vseg_jax.evaluation import runner

COLUMNS = ("mean_iou", "best_iou", "grounded", "guess_iou")
LEGEND = """\
In percent. mean_iou: overlap of the prediction with the named object. best_iou: with the visible
object that it matches best. grounded: share of the frames where the prediction covers the named
object most. guess_iou: the perfect mask of one of the visible objects, chosen at random."""
_READABLE = 0.1  # below this mean IoU nothing can be concluded from a control
_EQUAL = 0.02  # IoUs that differ by less count as equal


@dataclasses.dataclass(frozen=True)
class Role:
    """What an evaluated dataset is for.

    Attributes:
      control_of: for a dataset with the expressions of other objects, the dataset that has the same
        samples with their own expressions, "" if there is none; else None.
      unseen: whether no training sample is of its domain.
    """

    control_of: str | None = None
    unseen: bool = False


def report(
    results: Mapping[str, Mapping[str, Any]], roles: Mapping[str, Role],
    remarks: Sequence[str] = (),
) -> None:
    """Prints a table of scores, and in sentences what they show.

    Args:
      results, roles: see `sentences`.
      remarks: further sentences, those of the model.
    """
    runner.print_table(COLUMNS, {name: [100 * result[c] for c in COLUMNS]
                                 for name, result in results.items()})
    print(f"\n{LEGEND}\n")
    for sentence in (*sentences(results, roles), *remarks):
        print(textwrap.fill(sentence, 99, initial_indent="- ", subsequent_indent="  "))


def sentences(
    results: Mapping[str, Mapping[str, Any]], roles: Mapping[str, Role]
) -> list[str]:
    """Returns what the scores show: a sentence for each dataset.

    Args:
      results: {dataset: scores of `vseg_jax.evaluation.frames.evaluate`}.
      roles: {dataset: what it is for}; the default role where a dataset is missing.
    """
    said = []
    for name, scores in results.items():
        role = roles.get(name, Role())
        if role.control_of:
            said.append(_of_control(role.control_of, results[role.control_of], scores))
        elif role.control_of is None:
            said.append(_of_dataset(name, scores, role.unseen))
    return said


def _of_control(name: str, scores: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    """Returns whether the model uses its expression."""
    own, others = scores["mean_iou"], control["mean_iou"]
    change = f"from {_percent(own)} to {_percent(others)}"
    if own < _READABLE:
        return (f"{name}: with the expressions of other objects the mean IoU goes {change}. The "
                "first is too low to tell whether the model uses the expression.")
    if others > 0.9 * own:
        return (f"{name}: with the expressions of other objects the mean IoU hardly falls, "
                f"{change}: the model does not use the expression.")
    how = "uses the expression" if others <= 0.5 * own else "uses only a part of the expression"
    return (f"{name}: with the expressions of other objects the mean IoU falls {change}: the model "
            f"{how}.")


def _of_dataset(name: str, scores: Mapping[str, Any], unseen: bool) -> str:
    """Returns whether the model is better than guessing, and if not, what it lacks."""
    reached, best, guess = scores["mean_iou"], scores["best_iou"], scores["guess_iou"]
    where = f"{name}{' (a domain not seen in training)' if unseen else ''}"
    if guess > 0.95:
        return (f"{where}: mean IoU {_percent(reached)}. Hardly any frame shows a second object, "
                "so there is nothing to choose from.")
    said = (f"{where}: mean IoU {_percent(reached)}, against {_percent(guess)} for the perfect "
            "mask of a random object. The prediction covers the named object most in "
            f"{_percent(scores['grounded'])} % of the frames ({_percent(guess)} % by chance)")
    if abs(reached - guess) < _EQUAL:
        return f"{said}: no better than guessing."
    if reached > guess:
        return f"{said}: better than guessing."
    cause = "the masks themselves are poor" if best < guess else "it often segments another object"
    return f"{said}: worse than guessing, because {cause} (best_iou {_percent(best)})."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
