"""Shows where an expression points in qvim, and how QFA changes the features.

    vseg figures qvim pointing RUN... --dataset FOLDER --split test \\
        --output OUT
    vseg figures qvim augmented RUN --dataset ... --output OUT

RUN is the working directory of a training or an export, and FOLDER a prepared dataset. OUT is
created; it receives the numbers as JSON and, if matplotlib is installed, a PNG. `pointing` takes
several runs and shows their predictions side by side.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from scipy.special import expit

from vseg_jax.binarize import foreground
from vseg_jax.inference.restore import restore
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.media import overlay
from vseg_jax.models.qvim import Qvim, analysis
from vseg_jax.models.qvim.config import SCALES
from vseg_jax.tools.figures import (
    batch_of,
    batches,
    evenly,
    figure,
    principal_colors,
    run,
    takes_dataset,
    write,
)

SIDE = 192  # of the picture in a panel, in pixels


def pointing(
    model: Qvim, variables: Any, samples: Any, limit: int
) -> dict[str, dict[str, float | int | None]]:
    """Returns {scale: means of `analysis.Pointing` and the number of samples, at most `limit`}."""
    measure = jax.jit(lambda v, b: analysis.pointing(analysis.infer(model, v, b)[0], b))
    results = [measure(variables, batch) for batch in batches(samples, limit)]
    table = {}
    for k, scale in enumerate(zip(*results, strict=True), start=1):
        weight, area, hit, counted = (np.concatenate(x) for x in zip(*scale, strict=True))
        table[str(k)] = {
            name: float(x[counted].mean()) if counted.any() else None
            for name, x in (("weight", weight), ("area", area), ("hit", hit))
        } | {"samples": int(counted.sum())}
    return table


def _pointing(arguments: argparse.Namespace) -> None:
    runs = {str(run): _opened(run, arguments) for run in arguments.runs}
    tables = {name: pointing(*opened, arguments.samples) for name, opened in runs.items()}
    for name, table in tables.items():
        print(f"{name}\n  scale  on the object  its area  largest there")
        for k, row in table.items():
            values = ("-" if row[key] is None else f"{100 * row[key]:.1f} %"
                      for key in ("weight", "area", "hit"))
            print("  {:>5}  {:>13}  {:>8}  {:>13}".format(k, *values))
    write(arguments.output, "pointing", tables)
    samples = next(iter(runs.values()))[2]
    shown = evenly(samples, arguments.rows)
    k = arguments.scale
    infer = {name: jax.jit(functools.partial(analysis.infer, model))
             for name, (model, _, _) in runs.items()}

    def draw(axes: Any) -> None:
        for row, number in enumerate(shown):
            truth, batch = samples.truth(number), batch_of(samples, [number])
            frame = batch["frames"][0, batch["target"][0]]
            mask = (truth.mask == truth.object_id).astype(np.uint8)
            panels = [(overlay.draw(_large(frame), _large(mask)), truth.text)]
            for name, (_, variables, own) in runs.items():  # each with its tokenizer and size
                output, _ = infer[name](variables, batch_of(own, [number]))
                prediction = foreground(expit(_large(np.asarray(output.logits[0]))), "legacy")
                panels.append((overlay.draw(_large(frame), prediction.astype(np.uint8)), name))
                panels.append((np.asarray(output.pooling[k - 1][0]), f"a, scale {k}"))
            for axis, (picture, title) in zip(axes[row], panels, strict=True):
                _show(axis, picture, title if row == 0 or picture is panels[0][0] else "")

    figure(arguments.output / "pointing.png", 1 + 2 * len(runs), draw, rows=len(shown), side=2.2)


def _augmented(arguments: argparse.Namespace) -> None:
    model, variables, samples = _opened(arguments.run, arguments)
    c, k = model.config, arguments.scale
    beta = c.qfa_beta_max if arguments.beta is None else arguments.beta
    chosen = evenly(samples, max(2, arguments.rows))
    batch = batch_of(samples, chosen)
    results = jax.tree.map(np.asarray, jax.jit(
        lambda v, b: analysis.augment(model, v, b, k, beta))(variables, batch))
    shares = []
    for number, kept, named in zip(chosen, results.retained, results.named, strict=True):
        shares.append({"text": samples.truth(number).text, **{
            name: float(kept[where].mean()) if where.any() else None
            for name, where in (("object_kept", named), ("rest_kept", ~named))}})
    write(arguments.output, "augmented", {"scale": k, "beta": beta, "samples": shares})

    def draw(axes: Any) -> None:
        for row, number in enumerate(chosen):
            frames = [batch["frames"][n % len(chosen), batch["target"][n % len(chosen)]]
                      for n in (row, row + 1)]
            maps = (results.features[row], results.other[row], results.augmented[row])
            colors = principal_colors(np.moveaxis(np.concatenate(maps, axis=1), -1, 0))
            panels = {
                samples.truth(number).text: frames[0], "another video": frames[1],
                "A": results.weights[row], f"A > {beta:g}": results.retained[row],
                **dict(zip(("Y", "Y of the other", "augmented"),
                           np.split(colors, 3, axis=1), strict=True)),
            }
            for column, (title, picture) in enumerate(panels.items()):
                _show(axes[row][column], picture, title if row == 0 or not column else "")

    figure(arguments.output / "augmented.png", 7, draw, rows=len(chosen), side=2.0)


def _show(axis: Any, picture: np.ndarray, title: str) -> None:
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(title, fontsize=7, wrap=True)
    axis.axis("off")


def _large(picture: np.ndarray) -> np.ndarray:
    mask = picture.dtype == np.uint8 and picture.ndim == 2
    how = cv2.INTER_NEAREST if mask else cv2.INTER_CUBIC
    return cv2.resize(picture, (SIDE, SIDE), interpolation=how)


def _opened(run: Path, arguments: argparse.Namespace) -> tuple[Qvim, Any, ReferringSamples]:
    restored = restore(run)
    if not isinstance(restored.model, Qvim):
        raise ValueError(f"{run} is not a qvim; this command only analyzes qvim")
    dataset = open_dataset(arguments.dataset, arguments.split)
    samples = ReferringSamples(dataset, restored.clip, restored.tokenizer, train=False, frames=1)
    return restored.model, restored.variables, samples


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line described at the top of this file."""
    parser = argparse.ArgumentParser(prog="vseg figures qvim", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("pointing", _pointing), ("augmented", _augmented)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        if name == "pointing":
            command.add_argument("runs", type=Path, nargs="+", metavar="RUN",
                                 help="working directory or export")
            command.add_argument("--samples", type=int, default=500)
        else:
            command.add_argument("run", type=Path, metavar="RUN")
            command.add_argument("--beta", type=float,
                                 help="threshold; the config's qfa_beta_max by default")
        takes_dataset(command)
        command.add_argument("--scale", type=int, choices=range(1, SCALES + 1), default=1)
        command.add_argument("--rows", type=int, default=4, help="samples in the picture")
    run(parser, arguments)


if __name__ == "__main__":
    main()
