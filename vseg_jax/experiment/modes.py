"""The modes of the command line: train, evaluate, predict, export, dry_run, study, cost."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from vseg_jax import model_file
from vseg_jax.atomic import atomic_folder, write_text
from vseg_jax.experiment import study
from vseg_jax.experiment.build import batch_shapes, build_model, build_task, describe, read
from vseg_jax.inference import segmenter
from vseg_jax.inference.restore import ABOUT, Restored, restore, same, save
from vseg_jax.input_pipeline.loader import train_batches
from vseg_jax.media.excerpt import Part
from vseg_jax.models.base import Model, Variables
from vseg_jax.settings import Settings
from vseg_jax.training import checkpoints, loop, reports, runtime
from vseg_jax.training.initial import without

# In the workdir.
METRICS, OVERLAY, OVERVIEW = "metrics.json", "overlay.mp4", "overview.png"
EXAMPLE = "example"  # a video, and the folder of its predictions


def train(settings: Settings, workdir: str | Path) -> dict[str, Any]:
    """Prepares missing datasets, trains, evaluates on every dataset and writes `metrics.json`.

    A run is resumed from the last checkpoint in `workdir`.

    Returns:
      The scores of the last evaluation, which `metrics.json` holds; empty where the run was
      interrupted before its end.

    Raises:
      ValueError: settings, data or workdir cannot be used. The message says which and why.
      FloatingPointError: the loss is not finite.
    """
    workdir = Path(workdir)
    runtime.enable_compilation_cache()
    model = build_model(settings)
    task = build_task(settings, model, workdir)
    batches = train_batches(
        task.samples(), settings.train.batch_size, settings.train.seed, settings.workers,
        jax.process_index(), jax.process_count(),
    )
    results: dict[str, Any] = {}

    def score(variables: Variables, step: int) -> dict[str, float]:
        ended = step == settings.train.steps
        results.update(task.evaluate(variables, only="" if ended else settings.evaluation.chooses))
        write_text(workdir / METRICS, _json(results))
        return {f"{name}/{key}": value for name, result in results.items()
                for key, value in result.items() if isinstance(value, float)}

    initial = None
    if settings.init_from:
        initial = without(restore(settings.init_from).variables, settings.init_fresh)
    trained = loop.train(model, batches, settings.train, workdir, evaluate=score,
                         choose_by=settings.evaluation.choose_by,
                         description=describe(settings, model), notes=task.notes(),
                         initial=initial)
    if not trained.finished:
        return {}
    if not results:   # the run was complete before, and this call evaluated nothing
        results = json.loads((workdir / METRICS).read_text())
    if jax.process_index() == 0:
        shows = settings.evaluation.overlay_clips > 0
        if shows and not (workdir / OVERLAY).exists():
            task.overview(lambda: loop.initial_variables(model, batches, settings.train, initial),
                          trained.variables, workdir / OVERVIEW)
            task.showcase(trained.variables, workdir / OVERLAY)
        task.conclude(results, reports.last_report(workdir, "train"))
        _print_files(workdir, task.example(workdir / f"{EXAMPLE}.mp4") if shows else None)
    return results


def evaluate(settings: Settings, workdir: str | Path, model_name: str | None = None
             ) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run, an export or an import on every dataset.

    Writes `evaluations/<dataset>.json` in `workdir`, and the predictions to the folder
    `evaluations/<dataset>` where `evaluation.save` is set.

    Args:
      settings: must describe the model of the checkpoint.
      workdir: of the run; or with `model_name`, a folder to which the model is written once it
        fits `settings`: a new one, or one that holds this model already.
      model_name: what `vseg_jax.load` takes, for a model that is not a folder: a file, a shipped
        model, or one on the Hugging Face Hub.

    Returns:
      {dataset: scores}.

    Raises:
      ValueError: settings, data or workdir cannot be used, or the checkpoint is of another model.
    """
    workdir = Path(workdir)
    runtime.enable_compilation_cache()
    model = build_model(settings)
    restored = _fitting(settings, model, str(model_name or workdir))
    # A folder with the same model is left by a call that failed later, such as at a dataset.
    if model_name and not ((workdir / ABOUT).is_file() and same(restore(workdir), restored)):
        with atomic_folder(workdir) as new:
            save(restored, new)
    task = build_task(settings, model, workdir)
    folder = workdir / "evaluations"
    results = task.evaluate(restored.variables, folder if settings.evaluation.save else None)
    folder.mkdir(exist_ok=True)
    for name, result in results.items():
        write_text(folder / f"{name}.json", _json(result))
    task.report(results)
    return results


def _fitting(settings: Settings, model: Model, name: str) -> Restored:
    """Returns a trained model; raises ValueError where it is not the one of the settings."""
    restored = restore(name)
    wanted = jax.eval_shape(model.init, jax.random.key(0), batch_shapes(settings, model))
    try:
        checkpoints.compare(
            checkpoints.describe(restored.variables), checkpoints.describe(wanted), name)
    except ValueError as error:
        hint = _hint(restored.about["config"], describe(settings, model))
        raise ValueError(f"{error}{hint}") from error
    return restored


def _hint(saved: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Returns a line about the keys of the model in which two configs differ, or nothing."""
    if saved.get("system") != given["system"]:
        return f"\n  it is of the model {saved.get('system')}, the config of {given['system']}"
    theirs, ours = (flatten_dict(json.loads(json.dumps(config.get("model", {}))), sep=".")
                    for config in (saved, given))
    keys = [f"--config.model.{key}={value}" for key, value in theirs.items()
            if key in ours and ours[key] != value and not key.endswith("_weights")]
    return f"\n  it was written with {' '.join(keys)}" if keys else ""


def predict(model: str | Path, videos: Sequence[str], output: str | Path, *,
            short_side: int | None = None, changes: Mapping[str, Any] | None = None,
            raft: str = "", device: str | None = None, start: int | None = None,
            end: int | None = None, every: int | None = None, size: tuple[int, int] | None = None,
            follow: str = "", **settings: Any) -> int:
    """Segments videos and writes masks, an overlay video and a table of scores for each.

    Args:
      model: what `vseg_jax.load` takes.
      videos: see `vseg_jax.inference.many.find_videos`.
      output: folder to write.
      short_side: see `vseg_jax.load`; with `follow`, of that model.
      changes: see `vseg_jax.load`.
      raft: weights of RAFT, for a model that reads optical flow; empty uses OpenCV's DIS.
      device: where to compute: "cpu", "gpu", "tpu", or with a number "gpu:1"; None for JAX's own
        choice.
      start, end, every, size: of `vseg_jax.media.Part`; None for all frames at their own size.
      follow: a model with mask prompts that follows what the query names, see
        `vseg_jax.inference.predict_to_folder`; empty for none.
      settings: see `vseg_jax.inference.predict_videos`.

    Returns:
      The number of videos that failed, where there were several.

    Raises:
      ValueError: an input is missing or cannot be used.
    """
    from vseg_jax.inference.many import predict_videos

    if not any(videos):
        raise ValueError("--video is missing: the video to segment")
    part = Part(start or 0, end, 1 if every is None else every, size)
    if device:
        runtime.use_device(device)
    runtime.enable_compilation_cache()
    follower = _follower(follow, short_side) if follow else None
    loaded = segmenter.load(model, None if follow else short_side, changes)
    if loaded.engine.flow is not None:
        _use_flow(loaded, raft)
    elif raft:
        raise ValueError("this model reads no optical flow; leave out --raft")
    summary = predict_videos(loaded, videos, output, part=part, follow=follower, **settings)
    if summary["done"]:
        print(f"wrote {output}")
    elif not summary["failed"]:
        print(f"{output} is complete; no frame was segmented again")
    return summary["failed"]


def _follower(model: str, short_side: int | None) -> segmenter.Segmenter:
    """Returns the model that follows what another one finds.

    Raises:
      ValueError: it does not take mask prompts.
    """
    follower = segmenter.load(model, short_side)
    try:
        follower.check_prompt(None, "a mask")
    except ValueError as error:
        raise ValueError(f"--follow {model}: {error}; name a model that takes mask prompts, such "
                         "as swiftnet-lite0") from error
    return follower


def _use_flow(loaded: segmenter.Segmenter, raft: str) -> None:
    """Computes flow by RAFT, if its weights are given, with the iterations of the training's flow.

    Warns where the flow of the training was computed in another way.
    """
    trained, now = loaded.trained_flow, {"method": "dis"}
    if raft:
        from vseg_jax.tools.flow_estimators import raft_estimator

        estimator = raft_estimator(raft, trained.get("iterations", 12))
        loaded.engine.flow, now = estimator.pairs, estimator.provenance
    elif not trained:
        print("note: OpenCV's DIS computes the optical flow; if the model was trained with RAFT's, "
              "name its weights with --raft")
    if any(trained[key] != now.get(key) for key in ("method", "weights_blake2b") if key in trained):
        weights = f" with {trained['weights']}" if "weights" in trained else ""
        warnings.warn(f"the model was trained with flow by {trained['method']}{weights}, but here "
                      f"{now['method']} computes it; --raft names weights", stacklevel=3)


def export(model: str | Path, output: str | Path, size: tuple[int, int] | None = None,
           changes: Mapping[str, Any] | None = None, *, format: str = "", half: bool = False,
           slim: bool = False) -> None:
    """Writes a trained model to a folder or a file, see `vseg_jax.export.export`.

    Raises:
      ValueError: the model cannot be read, or an option does not fit the kind of output.
    """
    from vseg_jax.export import export as exporting

    writers = {"jax": exporting.export, "onnx": exporting.export_onnx}
    if format and format not in writers:
        raise ValueError(f"--format is {format!r}; it must be {' or '.join(writers)}")
    if Path(output).suffix != model_file.SUFFIX:
        if half or slim:
            raise ValueError(f"--{'half' if half else 'slim'} is for one file; end --output with "
                             f"{model_file.SUFFIX}")
        print(f"wrote {writers[format or 'jax'](model, output, size=size, changes=changes)}")
        return
    if format:
        raise ValueError("--format is for a folder; a file has none, leave it out, or end --output "
                         "without a suffix")
    if size:
        raise ValueError("--size is for the programs in a folder; a file has none, leave it out")
    left_out = exporting.export_file(model, output, half=half, slim=slim, changes=changes)
    print(f"wrote {output} ({Path(output).stat().st_size / 1e6:.1f} MB"
          + (f", without {len(left_out)} arrays of public weights)" if left_out else ")"))


def dry_run(settings: Settings) -> dict[str, Any]:
    """Compiles and runs one training step on random data, and prints and returns its cost."""
    from vseg_jax.training.dry_run import dry_run as run

    model = build_model(settings)
    report = run(model, batch_shapes(settings, model), settings.train, run=True)
    print(json.dumps(report, indent=2))
    return report


def run_study(name_and_variant: str, workdir: str | Path, overrides: Mapping[str, str]) -> None:
    """Trains and evaluates the missing cells of a study; prints and writes its table."""

    def evaluate_start(settings: Settings, folder: Path) -> dict[str, Any]:
        runtime.enable_compilation_cache()
        model = build_model(settings)
        start = _fitting(settings, model, settings.init_from)
        task = build_task(settings, model, folder)
        results = task.evaluate(start.variables)
        task.report(results)
        return results

    def cell(
        name: str, changes: Mapping[str, str], folder: Path, trains: bool
    ) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
        settings = read(name, changes)
        run = train if trains else evaluate_start
        return describe(settings, build_model(settings)), lambda: run(settings, folder)

    print(study.run(*study.load(name_and_variant), workdir, overrides, cell))


def study_cost(name_and_variant: str, workdir: str | Path, overrides: Mapping[str, str]) -> None:
    """Counts parameters and operations of a study's rows; prints and writes the table."""
    from vseg_jax.training import dry_run as costs

    def count(name: str, changes: Mapping[str, str]) -> dict[str, Any]:
        settings = read(name, changes)
        model = build_model(settings)
        return costs.count(model, batch_shapes(settings, model), settings.train)

    print(study.cost(*study.load(name_and_variant), workdir, overrides, count))


def _print_files(workdir: Path, example: Sequence[str] | None) -> None:
    """Prints where the results of a training run lie, and how to use the model.

    Args:
      workdir: of the run.
      example: options of `vseg predict` that segment an example.
    """
    print(f"\nIn {workdir}:")
    for name, content in (
        (OVERVIEW, "predictions before and after the training"),
        (OVERLAY, "predictions as a video"), (METRICS, "all scores"),
        ("metrics.jsonl", "loss and other means in the course of the training"),
    ):
        if (workdir / name).exists():
            print(f"  {name:15} {content}")
    if example:
        installed = Path(sys.executable).parent / "vseg"
        hidden = installed.is_file() and not shutil.which("vseg")   # .venv is not activated
        arguments = [os.path.relpath(installed) if hidden else "vseg", "predict", "--workdir",
                     str(workdir), *example, "--output", str(workdir / EXAMPLE)]
        print(f"\nSegment a video (this one, or one of your own):\n  {shlex.join(arguments)}")


def _json(results: Mapping[str, Any]) -> str:
    """Returns scores as indented JSON, with each list of numbers in one line."""
    text = json.dumps(results, indent=2) + "\n"
    return re.sub(r"\[[^][{}\"]*\]", lambda match: " ".join(match[0].split()), text)
