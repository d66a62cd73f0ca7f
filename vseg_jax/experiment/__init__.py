"""A config joined to what it names: datasets, model, training, evaluation.

The only room that knows both how to train and how to answer. What the tasks of the field have in
common stands here, what is particular to one in a module of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax

from vseg_jax import config as configs
from vseg_jax import models
from vseg_jax.atomic import write_text
from vseg_jax.experiment import rvos, study, vis, vos
from vseg_jax.inference import restore as checkpoint
from vseg_jax.input_pipeline.loader import train_batches
from vseg_jax.models.base import Model, Variables
from vseg_jax.settings import Settings
from vseg_jax.training import checkpoints, loop, runtime
from vseg_jax.training.runtime import initialize_distributed

__all__ = [
    "dry_run", "evaluate", "export", "initialize_distributed", "predict", "read", "run_study",
    "study_cost", "train",
]

OVERLAY = "overlay.mp4"  # in the workdir


class Task(Protocol):
    """What a task of the field adds to a run: its samples and its scores."""

    def samples(self) -> Any:
        """What `vseg_jax.input_pipeline.loader.train_batches` draws from; writes what else the answering
        will need into the workdir."""

    def evaluate(self, variables: Variables, save: Path | None = None) -> dict[str, Any]:
        """{dataset: scores} of every dataset of the evaluation; masks are kept below `save`."""

    def showcase(self, variables: Variables, path: Path) -> None:
        """A video that shows answers."""

    def report(self, results: dict[str, Any]) -> None:
        """Prints what `evaluate` returned."""


# Each with `Task(settings, model, workdir)` and `batch_shapes(settings, model)`.
TASKS = {"rvos": rvos, "vis": vis, "vos": vos}


def read(file_and_variant: str, overrides: Mapping[str, str]) -> Settings:
    """The settings of a config file, checked whole; see `vseg_jax.config.load`."""
    return configs.parse(Settings, configs.load(file_and_variant, overrides).to_dict())


def describe(settings: Settings) -> dict[str, Any]:
    """The settings as plain values with every key of the model's config: what a run saves."""
    return dataclasses.asdict(dataclasses.replace(settings, model=_model_settings(settings)))


def train(settings: Settings, workdir: str | Path) -> dict[str, Any]:
    """Builds what is missing, trains, evaluates on every dataset, writes `metrics.json`.

    Goes on where `workdir` was left. Returns what `metrics.json` holds; empty where the run was
    stopped before its end.

    Raises:
      ValueError: settings, data or workdir that cannot be used; the message says which and why.
      FloatingPointError: the loss stopped being a number.
    """
    workdir = Path(workdir)
    runtime.enable_compilation_cache()
    model = build_model(settings)
    task = TASKS[model.task].Task(settings, model, workdir)
    batches = train_batches(
        task.samples(), settings.train.batch_size, settings.train.seed, settings.workers,
        jax.process_index(), jax.process_count(),
    )

    def score(variables: Variables, step: int) -> dict[str, float]:
        del step
        results = task.evaluate(variables)
        write_text(workdir / "metrics.json", json.dumps(results, indent=2) + "\n")
        return {f"{name}/{key}": value for name, result in results.items()
                for key, value in result.items() if isinstance(value, float)}

    trained = loop.train(model, batches, settings.train, workdir, evaluate=score,
                         description=describe(settings), initial=_initial(settings))
    if not trained.finished:
        return {}
    results = json.loads((workdir / "metrics.json").read_text())
    task.report(results)
    if settings.evaluation.overlay_clips and jax.process_index() == 0 and not (workdir / OVERLAY).exists():
        task.showcase(trained.variables, workdir / OVERLAY)
    return results


def evaluate(settings: Settings, workdir: str | Path) -> dict[str, Any]:
    """Scores the newest checkpoint on every dataset; writes `evaluations/<name>.json`, and the
    masks beside it where `evaluation.save` is set."""
    workdir = Path(workdir)
    runtime.enable_compilation_cache()
    model = build_model(settings)
    variables, _ = checkpoints.load(workdir)
    wanted = jax.eval_shape(model.init, jax.random.key(0), batch_shapes(settings))
    checkpoints.compare(checkpoints.describe(variables), checkpoints.describe(wanted), str(workdir))
    task = TASKS[model.task].Task(settings, model, workdir)
    folder = workdir / "evaluations"
    results = task.evaluate(variables, folder if settings.evaluation.save else None)
    folder.mkdir(exist_ok=True)
    for name, result in results.items():
        write_text(folder / f"{name}.json", json.dumps(result, indent=2) + "\n")
    task.report(results)
    return results


def predict(workdir: str | Path, video: str, output: str | Path, *, query: str | None = None,
            mask: str | None = None, short_side: int = 0,
            changes: Mapping[str, Any] | None = None, raft: str = "") -> None:
    """Segments a video: masks, an overlay video and a table of scores in `output`.

    The prompt is a sentence, a mask or nothing, as the model wants; see
    `vseg_jax.inference.predict`, and `vseg_jax.load` for `changes`. A model that reads optical flow
    gets RAFT's with the weights `raft`, OpenCV's DIS without.
    """
    from vseg_jax.inference import segmenter
    from vseg_jax.inference.predict import predict_to_folder

    if not video:
        raise ValueError("--video is missing: the video to segment")
    runtime.enable_compilation_cache()
    flow = None
    if raft:   # its module brings all of tensorflow-datasets
        from vseg_jax.tools.add_flow import raft_with

        flow = raft_with(raft).pairs
    loaded = segmenter.load(workdir, short_side, changes, flow)
    predict_to_folder(loaded, video, output, query=query, mask=mask)
    print(f"wrote {output}")


def export(workdir: str | Path, output: str | Path, size: tuple[int, int] | None = None,
           changes: Mapping[str, Any] | None = None) -> None:
    """Writes the newest checkpoint and the compiled streaming step into `output`."""
    from vseg_jax.export import export as exporting

    print(f"wrote {exporting.export(workdir, output, size=size, changes=changes)}")


def dry_run(settings: Settings) -> dict[str, Any]:
    """Compiles and runs one training step on random data; prints what it costs."""
    from vseg_jax.training.dry_run import dry_run as run

    report = run(build_model(settings), batch_shapes(settings), settings.train, run=True)
    print(json.dumps(report, indent=2))
    return report


def run_study(file_and_variant: str, workdir: str | Path, overrides: Mapping[str, str]) -> None:
    """Trains and scores the cells of a study that are missing; prints and writes its table."""

    def cell(config: str, changes: Mapping[str, str], folder: Path) -> tuple[Any, Any]:
        settings = read(config, changes)
        return describe(settings), lambda: train(settings, folder)

    print(study.run(*study.load(file_and_variant), workdir, overrides, cell))


def study_cost(file_and_variant: str, workdir: str | Path, overrides: Mapping[str, str]) -> None:
    """Counts parameters and operations of a study's rows; prints and writes the table."""
    from vseg_jax.training import dry_run as dry

    def count(config: str, changes: Mapping[str, str]) -> dict[str, Any]:
        settings = read(config, changes)
        return dry.count(build_model(settings), batch_shapes(settings), settings.train)

    print(study.cost(*study.load(file_and_variant), workdir, overrides, count))


def build_model(settings: Settings) -> Model:
    """The model that the settings describe.

    Raises:
      ValueError: an unknown model or key, or a value that the model cannot be built with.
    """
    return models.build(settings.system, _model_settings(settings))


def batch_shapes(settings: Settings) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of one global training batch, without any data."""
    model = build_model(settings)
    return TASKS[model.task].batch_shapes(settings, model)


def _model_settings(settings: Settings) -> dict[str, Any]:
    cls = models.load(settings.system).Config
    return dataclasses.asdict(configs.parse(cls, settings.model, "config.model"))


def _initial(settings: Settings) -> Variables | None:
    """The variables of the run that this one goes on from."""
    if not settings.init_from:
        return None
    return checkpoint.restore(settings.init_from).variables
