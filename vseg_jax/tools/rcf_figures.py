"""Analyses of rcf's paper, as commands that write figures and numbers.

    vseg figures rcf slots RUN --dataset FOLDER --split val --output OUT
    vseg figures rcf attention RUN --dataset ... --sample 12 --output OUT
    vseg figures rcf lipschitz RUN --dataset ... --output OUT
    vseg figures rcf audio --truth instances.json --with A/results.json \\
        --without B/results.json
    vseg figures rcf latency --stream 6 --model 23.9 [--frames 36]

RUN is the working directory of a training run or an export, FOLDER a prepared dataset. OUT is a
folder, created if missing, for the numbers as JSON and, if matplotlib is installed, a PNG.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import expit

from vseg_jax.arguments import Parser
from vseg_jax.config import parse
from vseg_jax.inference.restore import restore
from vseg_jax.input_pipeline.instances import InstanceSamples
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.settings import InstanceConfig
from vseg_jax.metrics.youtube_vis import YouTubeVISMetric, metric_of_files
from vseg_jax.models.rcf import Rcf, analysis, lipschitz
from vseg_jax.models.rcf.network import prepare
from vseg_jax.tasks.vis import Instances
from vseg_jax.tools.figures import (
    batches,
    figure,
    principal_colors,
    run,
    takes_dataset,
    write,
)

NORMS = {"1": 1.0, "2": 2.0, "inf": math.inf}


def slots(
    model: Rcf, variables: Any, samples: Any, limit: int
) -> Float[np.ndarray, "K N"]:
    """Returns Figure 9 over the target frames of up to `limit` samples, evenly spread.

    Args:
      model: of rcf.
      variables: of the model.
      samples: `InstanceSamples`, or a list of such samples.
      limit: number of samples.
    """
    fired, categories = [], []
    for batch in batches(samples, limit):
        prediction = _predict(model, variables, batch)
        firing = np.flatnonzero(prediction.identities[0] >= 0)
        fired.append(firing)
        categories.append(np.asarray(prediction.probabilities)[0, firing, :-1].argmax(-1))
    return analysis.fired_slots(
        np.concatenate(fired), np.concatenate(categories), model.config.queries,
        model.config.categories,
    )


def lipschitz_constants(
    model: Rcf, variables: Any, samples: Any, limit: int
) -> dict[str, dict[str, Any]]:
    """Returns the bound (log10) for each norm, and the constants between consecutive frames.

    The network's output is each slot's probabilities and its mask at the input's size.

    Returns:
      {norm: {"bound_log10", "local": one per pair of frames, "order": one per pair of frames with
      at least two objects}}.
    """
    kept: dict[str, dict[str, Any]] = {
        name: {"bound_log10": lipschitz.product_bound(variables["params"], p), "local": [],
               "order": []}
        for name, p in NORMS.items()
    }
    for batch in batches(samples, limit):
        frames = batch["frames"][0]
        if len(frames) < 2 or (frames[-1] == frames[-2]).all():
            continue
        # The previous frame, predicted from the frames before it in the clip.
        earlier = {**batch, "frames": np.concatenate([frames[:1], frames[:-1]])[None]}
        for name in ("audio", "audio_valid"):
            if name in batch:
                earlier[name] = np.concatenate([batch[name][:, :1], batch[name][:, :-1]], axis=1)
        before, after = (_predict(model, variables, b) for b in (earlier, batch))
        rows = [_row(prediction) for prediction in (before, after)]
        inputs = tuple(np.asarray(prepare(jnp.asarray(frames[k]))) for k in (-2, -1))
        both = np.flatnonzero((before.identities[0] >= 0) & (after.identities[0] >= 0))
        for name, p in NORMS.items():
            kept[name]["local"].append(lipschitz.local_constant(tuple(rows), inputs, p))
            if len(both) > 1:
                kept[name]["order"].append(
                    lipschitz.order_constant(rows[0], rows[1], inputs, p, both.tolist()))
    return kept


def best_overlaps(metric: YouTubeVISMetric) -> Float[np.ndarray, " S"]:
    """Returns each true object's largest IoU with a prediction of its category, 0 without any.

    Args:
      metric: with all videos added.
    """
    best = [np.zeros(0)]
    for row in sorted(metric.rows, key=lambda r: (r["video"], r["category"])):
        objects = len(row["true_areas"])
        best.append(np.max([[0.0] * objects, *row["ious"]], axis=0))
    return np.concatenate(best)


@functools.partial(jax.jit, static_argnums=0)
def _predict(model: Rcf, variables: Any, batch: Any) -> Instances:
    return model.predict(variables, batch)


def _row(prediction: Instances) -> Float[np.ndarray, "N D"]:
    """Returns the probabilities and the mask of each slot, in one row."""
    masks = expit(np.asarray(prediction.logits[0], np.float64))
    return np.concatenate([prediction.probabilities[0], masks.reshape(len(masks), -1)], axis=1)


def _opened(arguments: argparse.Namespace) -> tuple[Rcf, Any, InstanceSamples]:
    restored = restore(arguments.run)
    if not isinstance(restored.model, Rcf):
        raise ValueError(f"{arguments.run} does not hold an rcf model; these analyses need one")
    settings = parse(InstanceConfig, restored.about["config"]["instances"], "config.instances")
    dataset = open_dataset(arguments.dataset, arguments.split)
    samples = InstanceSamples(dataset, restored.clip, settings, train=False)
    return restored.model, restored.variables, samples


def _slots(arguments: argparse.Namespace) -> None:
    model, variables, samples = _opened(arguments)
    table = slots(model, variables, samples, arguments.limit)
    write(arguments.output, "slots", {
        "categories": list(samples.categories), "share": table.tolist()})

    def draw(axes):
        axes[0].imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=1)
        axes[0].set_yticks(range(len(samples.categories)), samples.categories, fontsize=6)
        axes[0].set_xlabel("slot")

    figure(arguments.output / "slots.png", 1, draw)


def _attention(arguments: argparse.Namespace) -> None:
    model, variables, samples = _opened(arguments)
    if not 0 <= arguments.sample < len(samples):
        raise ValueError(f"there is no sample {arguments.sample}; the split has {len(samples)}")
    item = samples[arguments.sample]
    batch = {k: np.asarray(x)[None] for k, x in item.items()}
    maps = np.asarray(jax.jit(
        lambda v, b: analysis.reference_attention(model, v, b, arguments.layer)
    )(variables, batch))[0]
    write(arguments.output, "attention", {"layer": arguments.layer, "heads": maps.tolist()})

    def draw(axes):
        height, width = item["frames"].shape[1:3]
        pictures = (item["frames"][-1], principal_colors(maps), *maps)
        names = ("target", "PCA", *(f"head {n}" for n in range(len(maps))))
        for axis, picture, name in zip(axes, pictures, names, strict=True):
            axis.imshow(picture, extent=(0, width, height, 0))
            axis.set_title(name)
            axis.axis("off")

    figure(arguments.output / "attention.png", 2 + len(maps), draw)


def _lipschitz(arguments: argparse.Namespace) -> None:
    model, variables, samples = _opened(arguments)
    found = lipschitz_constants(model, variables, samples, arguments.limit)
    write(arguments.output, "lipschitz", found)

    def draw(axes):
        for axis, (name, row) in zip(axes, found.items(), strict=True):
            for which in ("local", "order"):
                values = [v for v in row[which] if v > 0]
                if values:
                    axis.hist(np.log10(values), bins=30, alpha=0.6, label=which)
            axis.set_xlabel(f"log10 of the constant, p = {name}")
            axis.legend()

    figure(arguments.output / "lipschitz.png", len(found), draw)


def _audio(arguments: argparse.Namespace) -> None:
    ours = [best_overlaps(metric_of_files(arguments.truth, found))
            for found in (arguments.with_audio, arguments.without_audio)]
    print(json.dumps({
        str(t): analysis.audio_p_value(*ours, t) for t in (0.5, 0.75)
    }, indent=1))


def _latency(arguments: argparse.Namespace) -> None:
    seconds = analysis.online_latency(arguments.stream, arguments.model)
    if arguments.frames:
        seconds = analysis.offline_latency(arguments.stream, arguments.model, arguments.frames)
    print(f"{seconds:.3f} s")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; see the module's docstring."""
    parser = Parser(prog="vseg figures rcf", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("slots", _slots), ("attention", _attention), ("lipschitz", _lipschitz)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("run", type=Path, help="workdir of a training run, or an export")
        takes_dataset(command)
        if name == "attention":
            command.add_argument("--sample", type=int, default=0)
            command.add_argument("--layer", type=int, default=-1)
        else:
            command.add_argument("--limit", type=int, default=500,
                                 help="samples that are measured, evenly spread")
    command = commands.add_parser("audio")
    command.set_defaults(function=_audio)
    command.add_argument("--truth", required=True, help="ground truth in YouTube-VIS form")
    command.add_argument("--with", dest="with_audio", required=True,
                         help="results of the model with audio")
    command.add_argument("--without", dest="without_audio", required=True,
                         help="results of the model without audio")
    command = commands.add_parser("latency")
    command.set_defaults(function=_latency)
    command.add_argument("--stream", type=float, required=True, help="frames/s of the video")
    command.add_argument("--model", type=float, required=True, help="frames/s of the model")
    command.add_argument("--frames", type=int, default=0, help="of the clip of an offline model")
    run(parser, arguments)


if __name__ == "__main__":
    main()
