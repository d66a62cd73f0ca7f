"""A config joined to what it names: datasets, tokenizer, model, training, evaluation.

The only module that knows both how to train and how to answer.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from input_pipeline.builders import prepare
from input_pipeline.loader import train_batches
from input_pipeline.records import Dataset, open_dataset
from input_pipeline.samples import ReferringSamples
from input_pipeline.settings import DatasetConfig
from input_pipeline.text import Tokenizer, load_tokenizer, make_tokenizer
from vseg_jax import config as configs
from vseg_jax import models
from vseg_jax.inference import evaluate as scoring
from vseg_jax.inference.checkpoint import TOKENIZER
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.models.base import Model, Variables
from vseg_jax.settings import Settings
from vseg_jax.training import checkpoints, loop, runtime
from vseg_jax.training.reports import write_text
from vseg_jax.training.runtime import initialise_distributed

__all__ = [
    "dry_run", "evaluate", "export", "initialise_distributed", "predict", "read", "train",
]

FILM = "overlay.mp4"  # in the workdir


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
    dataset = _open(settings.data)
    scored = _open_scored(settings)  # what cannot be opened is said before the training
    tokenizer = _tokenizer(settings, model, dataset, workdir)
    samples = _samples(settings, settings.data, dataset, tokenizer, train=True)
    batches = train_batches(
        samples, settings.train.batch_size, settings.train.seed, settings.workers,
        jax.process_index(), jax.process_count(),
    )

    def score(variables: Variables, step: int) -> dict[str, float]:
        del step
        results = _evaluate(settings, model, variables, scored, tokenizer)
        write_text(workdir / "metrics.json", json.dumps(results, indent=2) + "\n")
        return {f"{name}/{key}": value for name, result in results.items()
                for key, value in result.items() if isinstance(value, float)}

    trained = loop.train(model, batches, settings.train, workdir,
                         evaluate=score, description=describe(settings))
    if not trained.finished:
        return {}
    results = json.loads((workdir / "metrics.json").read_text())
    _report(results)
    if settings.evaluation.film and not (workdir / FILM).exists():
        _film(settings, scored, Segmenter(model, trained.variables, tokenizer, settings.clip,
                                          settings.evaluation.protocol), workdir / FILM)
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
    tokenizer = load_tokenizer(workdir / TOKENIZER, settings.text.length)
    results = _evaluate(settings, model, variables, _open_scored(settings), tokenizer,
                        save=workdir / "evaluations" if settings.evaluation.save else None)
    (workdir / "evaluations").mkdir(exist_ok=True)
    for name, result in results.items():
        path = workdir / "evaluations" / f"{name}.json"
        write_text(path, json.dumps(result, indent=2) + "\n")
    _report(results)
    return results


def predict(workdir: str | Path, video: str, query: str, output: str | Path) -> None:
    """Segments a film: masks, an overlay film and a table of scores in `output`."""
    from vseg_jax.inference import predict as prediction
    from vseg_jax.inference import segmenter

    if not video:
        raise ValueError("--video is missing: the film to segment")
    runtime.enable_compilation_cache()
    prediction.predict(segmenter.load(workdir), video, query, output)
    print(f"wrote {output}")


def export(workdir: str | Path, output: str | Path) -> None:
    """Writes the newest checkpoint and the compiled streaming step into `output`."""
    from vseg_jax.inference import export as exporting

    print(f"wrote {exporting.export(workdir, output)}")


def dry_run(settings: Settings) -> dict[str, Any]:
    """Compiles and runs one training step on random data; prints what it costs."""
    from vseg_jax.training.dry_run import dry_run as run

    report = run(build_model(settings), batch_shapes(settings), settings.train, run=True)
    print(json.dumps(report, indent=2))
    return report


def build_model(settings: Settings) -> Model:
    """The model that the settings describe.

    Raises:
      ValueError: an unknown model or key, or a value that the model cannot be built with.
    """
    return models.build(settings.system, _model_settings(settings))


def batch_shapes(settings: Settings) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of one global batch of referring segmentation, without any data."""
    b, t, (h, w) = (settings.train.batch_size, settings.clip.length,
                    (settings.clip.height, settings.clip.width))
    words = settings.text.length
    shapes = {
        "frames": ((b, t, h, w, 3), np.uint8), "masks": ((b, t, h, w), np.uint8),
        "masks_valid": ((b, t), bool), "target": ((b,), np.int32), "object_id": ((b,), np.int32),
        "tokens": ((b, words), np.int32), "tokens_valid": ((b, words), bool),
        "video": ((b,), np.int32), "sample": ((b,), np.int32), "valid": ((b,), bool),
        "geometry": ((b, 4), np.float32),
    }
    return {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}


def _model_settings(settings: Settings) -> dict[str, Any]:
    cls = models.load(settings.system).Config
    return dataclasses.asdict(configs.parse(cls, settings.model, "config.model"))


def _open(data: DatasetConfig) -> Dataset:
    if jax.process_count() > 1:
        if jax.process_index() == 0:
            prepare(data.name, data.source, data.prepared, data.options)
        multihost_utils.sync_global_devices("dataset prepared")
    return open_dataset(prepare(data.name, data.source, data.prepared, data.options), data.split)


def _open_scored(settings: Settings) -> dict[str, Dataset]:
    return {name: _open(data) for name, data in settings.evaluation.datasets.items()}


def _samples(settings: Settings, data: DatasetConfig, dataset: Dataset, tokenizer: Tokenizer, *,
             train: bool) -> ReferringSamples:
    return ReferringSamples(
        dataset, settings.clip, tokenizer, train=train, seed=settings.train.seed,
        styles=data.styles, categories=data.categories, frames=data.frames,
        shuffle_sentences=data.shuffle_sentences,
    )


def _tokenizer(settings: Settings, model: Model, dataset: Dataset,
               workdir: Path) -> Tokenizer:
    """The tokenizer that the workdir's checkpoints were made with, else a new one, saved there."""
    folder = workdir / TOKENIZER
    if folder.is_dir() and any((workdir / "checkpoints").glob("[0-9]*")):
        return load_tokenizer(folder, settings.text.length)
    sentences = {e.text for entry in dataset.index for e in entry.expressions}
    tokenizer = make_tokenizer(settings.text, sentences)
    known = getattr(model, "vocabulary", tokenizer.size)
    if tokenizer.size > known:
        raise ValueError(
            f"the tokenizer has {tokenizer.size} token ids, but the model knows {known}; raise the "
            "vocabulary in config.model, or take the tokenizer that its text weights came with"
        )
    if jax.process_index() == 0:
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that saved no checkpoint
        tokenizer.save(folder)
    return tokenizer


def _evaluate(settings: Settings, model: Model, variables: Variables, scored: dict[str, Dataset],
              tokenizer: Tokenizer, save: Path | None = None) -> dict[str, Any]:
    e = settings.evaluation
    return {
        name: scoring.evaluate(
            model, variables, _samples(settings, data, scored[name], tokenizer, train=False),
            batch_size=e.batch_size, protocol=e.protocol, gt_roundtrip=e.gt_roundtrip,
            save=save / name if save else None, workers=settings.workers,
        )
        for name, data in e.datasets.items()
    }


def _film(settings: Settings, scored: dict[str, Dataset], segmenter: Segmenter,
          path: Path) -> None:
    if jax.process_index() == 0:
        from vseg_jax.inference.showcase import showcase

        shown = [scored[name] for name, data in settings.evaluation.datasets.items()
                 if not data.shuffle_sentences]
        showcase(segmenter, shown, settings.evaluation.film, path)


def _report(results: dict[str, Any]) -> None:
    """A table of the scores, in per cent."""
    columns = ("precision@0.5", "precision@0.7", "precision@0.9", "mAP", "overall_iou", "mean_iou")
    width = max((len(name) for name in results), default=0)
    print(" " * width, *(f"{c:>13}" for c in columns))
    for name, result in results.items():
        print(f"{name:{width}}", *(f"{100 * result[c]:13.1f}" for c in columns))
