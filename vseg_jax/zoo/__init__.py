"""The models that ship with the library: for each a `.safetensors` file and a card, NAME.toml.

A model is added by putting these two files into this folder. `vseg models`, the pages of the
documentation and `vseg_jax.load(NAME)` follow from them. What a model file says itself (system,
prompt, size, packages that it needs) is not repeated in its card.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

from vseg_jax import model_file
from vseg_jax.config import parse
from vseg_jax.packages import PACKAGES, SCHEME

FOLDER = Path(__file__).parent
LIMIT = 12_000_000   # bytes of a model file


@dataclasses.dataclass(frozen=True)
class Score:
    """A measured score of a model.

    Attributes:
      data: what was predicted: dataset, split, size of the frames.
      metric: name of the metric.
      value: in [0, 1].
      command: that measured it.
    """

    data: str
    metric: str
    value: float
    command: str


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a model beyond what its file says; the content of NAME.toml.

    Attributes:
      summary: one sentence: what the model does.
      config: that trained it, `NAME:VARIANT`.
      data: what it was trained on.
      training: commands that trained it, in order.
      scores: the most important one first.
      speed: with the size of the frames and the machine.
      license: of the arrays.
      sources: public weights that the training started from, each with its license.
      limits: what the model does badly, or must not be used for.
    """

    summary: str
    config: str
    data: str
    training: tuple[str, ...]
    scores: tuple[Score, ...]
    speed: str
    license: str
    sources: str
    limits: str


def names() -> list[str]:
    """Returns the names of the shipped models."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(name: str) -> Path | None:
    """Returns the file of a shipped model, None where none has that name."""
    return FOLDER / f"{name}{model_file.SUFFIX}" if name in names() else None


def card(name: str) -> Card:
    """Returns the card of a shipped model.

    Raises:
      ValueError: the card lacks something, or has a key that `Card` does not know.
    """
    path = FOLDER / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the card {path} cannot be read: {error}") from error
    return parse(Card, content, path.name)


def describe(name: str) -> dict[str, Any]:
    """Returns all that is known of a shipped model as JSON values: its card and what its file says.

    The keys are those of `Card`, and: `name`; `system`; `prompt`, "query", "mask" or ""; `bytes` of
    the file; `parameters`, the number of values in `params`; `packages`, {package of public weights
    that must be installed: command that installs it}.

    Raises:
      ValueError: the card or the file cannot be read.
    """
    path = FOLDER / f"{name}{model_file.SUFFIX}"
    about, shapes = model_file.read_about(path)
    left_out = about.get("left_out", {})
    model = about["config"]["model"]
    sources = [model[key].removeprefix(SCHEME) for key in model
               if key.endswith("_weights") and str(model[key]).startswith(SCHEME)]
    return {
        "name": name, "system": about["config"]["system"], "prompt": about["prompt"],
        "bytes": path.stat().st_size,
        "parameters": sum(math.prod(shape) for key, shape in {**shapes, **left_out}.items()
                          if key.startswith("params/")),
        "packages": {PACKAGES[source].distribution: PACKAGES[source].install
                     for source in sources if left_out},
        **dataclasses.asdict(card(name)),
    }
