"""Checkpoints: the state, the position in the data and their provenance, written atomically.

A checkpoint is an orbax one with three items: `state` (the arrays), `data` (grain's iterator state,
one file per process) and `about` (JSON: names and shapes of the arrays, resolved config, batch
shapes, package versions, running means). Orbax writes into a temporary folder and renames it, so a
killed save leaves nothing that looks like a checkpoint. Reading the arrays does not reveal all
damage (such as a flipped bit in a large one), so the CRC-32 of every file is stored with them.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import grain.checkpoint
import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from jax.experimental import multihost_utils

from vseg_jax.training import checksums
from vseg_jax.training.sharding import path_name

_UNREADABLE = "unreadable"  # folder in the working directory to which bad checkpoints are moved


class Checkpoints:
    """The checkpoints of one working directory; use as a context manager.

    Args:
      workdir: checkpoints lie in `workdir/checkpoints/<step>`.
      keep: how many of the latest ones are kept.
    """

    def __init__(self, workdir: str | Path, keep: int = 2):
        self._workdir = Path(workdir).resolve()
        self.folder = self._workdir / "checkpoints"
        self._keep = keep
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        # Saving blocks: the state is donated to the next step, errors should name the step they
        # come from, and at this size a save takes a second or two.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep, cleanup_tmp_directories=True, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, in rising order."""
        return sorted(self._manager.all_steps())

    def about(self) -> dict[str, Any]:
        """Returns what describes the newest checkpoint; {} where there is none."""
        if not self.steps():
            return {}
        return self._manager.restore(
            self.steps()[-1], args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]

    def save(self, step: int, state: Any, batches: Any, about: dict[str, Any]) -> None:
        """Saves and waits until everything is on disk.

        Args:
          step: of the state.
          state: the train state.
          batches: grain iterator, whose position is saved.
          about: JSON values that describe the run.

        Raises:
          ValueError: the disk is full or a file-size limit is reached; the message names the last
            good checkpoint.
        """
        about = {"arrays": describe(state), **about}
        last = max(self.steps(), default=None)
        try:
            self._manager.save(step, args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=grain.checkpoint.CheckpointSave(batches),
                about=ocp.args.JsonSave(about)))
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                checksums.write(self.folder / str(step))
        except Exception as error:
            if not _no_space(error):
                raise
            good = f"the last good checkpoint is {self.folder / str(last)}" if last is not None \
                else "there is no earlier checkpoint"
            raise ValueError(
                f"no space to save the checkpoint of step {step} in {self.folder}: {error}; "
                f"{good}; free some space (or lower train.keep) and run the same command again to "
                "resume from there"
            ) from error

    def restore(self, like: Any, batches: Any) -> tuple[Any, dict[str, Any]] | None:
        """Returns the newest readable checkpoint as (state, about), or None where there is none.

        Args:
          like: the state's shapes with the shardings to restore into; the mesh may differ from the
            one that saved.
          batches: grain iterator, set to its saved position.

        Raises:
          ValueError: the checkpoint is of another model or another number of processes, or there
            are checkpoints but none can be read.
        """
        steps = self.steps()
        for step in reversed(steps):
            intact = False  # if the files are as they were saved, an error has another cause
            try:
                intact = checksums.verify(self.folder / str(step))
                about = self._manager.restore(
                    step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
                recorded = about["arrays"]
            except Exception as error:
                if intact:
                    raise
                self._set_aside(step, error)
                continue
            compare(recorded, describe(like), str(self.folder / str(step)))
            _check_processes(about, self.folder / str(step))
            try:
                restored = self._manager.restore(step, args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(like),
                    data=grain.checkpoint.CheckpointRestore(batches)))
            except Exception as error:
                if intact:
                    raise
                self._set_aside(step, error)
                continue
            return restored["state"], about
        if steps:
            raise ValueError(
                f"none of the checkpoints of steps {', '.join(map(str, steps))} can be read; they "
                f"were moved to {self._workdir / _UNREADABLE}; run the same command again to train "
                "from the beginning"
            )
        return None

    def _set_aside(self, step: int, error: Exception) -> None:
        """Moves an unreadable checkpoint away, so that its step can be saved again."""
        target = self._workdir / _UNREADABLE / str(step)
        logging.warning("checkpoint %s cannot be read (%s: %s); it was moved to %s and skipped",
                        self.folder / str(step), type(error).__name__, error, target)
        self._manager.close()
        if jax.process_index() == 0:
            target.parent.mkdir(exist_ok=True)
            while target.exists():
                target = target.with_name(target.name + "-")
            os.replace(self.folder / str(step), target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager = self._open()


def load(workdir: str | Path, step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Loads (variables, about) for inference: the newest checkpoint's, or those of `step`.

    The variables are numpy arrays on whatever devices they were saved: averaged parameters where
    the run averages, and the collections.

    Raises:
      ValueError: there is no such checkpoint, or one of its files is damaged.
    """
    folder = Path(workdir).resolve() / "checkpoints"
    # Orbax names only complete checkpoints by a bare number.
    steps = sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())
    step = steps[-1] if step is None and steps else step
    if step not in steps:
        raise ValueError(
            f"no checkpoint{'' if step is None else f' of step {step}'} in {folder}; "
            f"there {'are those of ' + ', '.join(map(str, steps)) if steps else 'are none'}; "
            "train first, or name another working directory")
    where = folder / str(step)
    try:
        checksums.verify(where)
    except ValueError as error:
        raise ValueError(f"the checkpoint {where} cannot be used: {error}; use an earlier one, or "
                         "resume training, which skips it") from error
    about = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(where / "about")
    wanted = {
        name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for name, (shape, dtype) in about["arrays"].items()
        if name.startswith(("params/", "collections/", "ema/"))
    }
    item = traverse_util.unflatten_dict(wanted, sep="/")
    state = ocp.PyTreeCheckpointer().restore(where / "state", args=ocp.args.PyTreeRestore(
        item, restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item),
        partial_restore=True))
    params = state.get("ema") or state["params"]
    return {"params": params, **state.get("collections", {})}, about


def describe(tree: Any) -> dict[str, list]:
    """Returns {path: [shape, dtype]} of every leaf."""
    return {
        path_name(path): [list(leaf.shape), str(leaf.dtype)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def compare(found: dict[str, list], wanted: dict[str, list], where: str) -> None:
    """Checks that two descriptions of arrays (see `describe`) are the same.

    Args:
      found: of the checkpoint.
      wanted: of the model.
      where: names the checkpoint in the message.

    Raises:
      ValueError: they differ; the message lists the first 20 leaves that are missing, extra or of
        another shape or dtype.
    """
    problems = [f"missing {name} {wanted[name]}" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"extra {name} {found[name]}" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} is {found[name]}, the model wants {wanted[name]}"
        for name in sorted(wanted.keys() & found.keys()) if list(found[name]) != list(wanted[name])
    ]
    if problems:
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ValueError(
            f"the checkpoint {where} is of another model or optimizer ({len(problems)} leaves "
            "differ); use the config of the run that wrote it, or another working directory:\n  "
            + "\n  ".join(problems[:20]) + more)


def _check_processes(about: dict[str, Any], where: Path) -> None:
    saved_by = about.get("processes", jax.process_count())
    if saved_by != jax.process_count():
        raise ValueError(
            f"{where} was saved by {saved_by} processes, this run has {jax.process_count()}: a "
            "checkpoint holds each process's position in its share of the data, so resume with as "
            "many processes as the run started with")


def _no_space(error: BaseException | None) -> bool:
    """Returns whether a full disk or a file-size limit caused an error, however it is wrapped."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        text = str(error)
        if any(os.strerror(n) in text for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)) \
                or "RESOURCE_EXHAUSTED" in text:
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
