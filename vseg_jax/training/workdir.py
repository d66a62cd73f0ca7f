"""The files that describe a run in its working directory, and whether a run may resume there."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jax

from vseg_jax.atomic import write_text
from vseg_jax.training.settings import MAY_CHANGE

_MISSING = object()  # equal to no value of a config


def plain(value: Any) -> Any:
    """Returns `value` as it comes back from JSON: tuples as lists, keys as strings."""
    return json.loads(json.dumps(value, default=str))


def save_description(workdir: Path, about: dict[str, Any]) -> None:
    """Writes `config.json` and, with versions and shapes, `run.json` from the first process.

    Args:
      workdir: where to write.
      about: what describes the run; its `config` goes into `config.json`.
    """
    if jax.process_index() == 0:
        write_text(workdir / "config.json", json.dumps(about["config"], indent=2) + "\n")
        write_text(workdir / "run.json", json.dumps(about, indent=2) + "\n")


def check_config(workdir: Path, description: dict[str, Any]) -> None:
    """Checks that the run in `workdir` was started with this config; keys in MAY_CHANGE may differ.

    Raises:
      ValueError: another key differs (the message lists all), or `config.json` is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        before = _flat(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); restore it from "
                         "`config` in a checkpoint's `about`, or use another workdir") from error
    now = _flat(description)
    differences = [
        f"{key}: {before.get(key, 'not set')!r} there, {now.get(key, 'not set')!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, _MISSING) != now.get(key, _MISSING) and not _may_change(key)
    ]
    if differences:
        raise ValueError(
            f"{workdir} holds a run with a different config; use another workdir, or the config in "
            f"{path}. The differences:\n  " + "\n  ".join(differences))
    if before.get("train.steps") != now.get("train.steps") and \
            now.get("train.schedule") in ("cosine", "poly"):
        logging.warning("train.steps was %s and is now %s: the %s schedule ends there",
                        before.get("train.steps"), now.get("train.steps"), now["train.schedule"])


def _may_change(key: str) -> bool:
    return (key in {f"train.{name}" for name in MAY_CHANGE} or key.startswith("evaluation.")
            # Where the data lies; a model's own copy of train.steps.
            or key.rsplit(".", 1)[-1] in ("source", "prepared", "total_steps"))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for name, inner in value.items()
            for k, v in _flat(inner, f"{prefix}.{name}" if prefix else name).items()}
