"""Shows where an expression points in qvim, and how QFA changes the features.

    vseg figures qvim pointing RUN... --dataset FOLDER --split test \\
        --output OUT
    vseg figures qvim augmented RUN --dataset ... --output OUT

RUN is the working directory of a training or an export, and FOLDER a prepared dataset. OUT is
created; it receives the numbers as JSON and, if matplotlib is installed, a PNG. `pointing` takes
several runs and shows their predictions side by side, as in the paper's Figures 4 to 7.

The picture shows --rows evenly spread samples, or those that --samples names. A sample is an
expression with one annotated frame of its object; its number stands beside the picture.
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

from vseg_jax.arguments import Parser
from vseg_jax.binarize import foreground
from vseg_jax.inference.geometry import inside
from vseg_jax.inference.restore import restore
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.media import overlay
from vseg_jax.models.qvim import Qvim, analysis
from vseg_jax.models.qvim.config import SCALES
from vseg_jax.tools.figures import (
    batch_of,
    batches,
    chosen,
    figure,
    principal_colors,
    run,
    takes_dataset,
    write,
)

SIDE = 192  # longer side of the picture in a panel, in pixels


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


class Shape:
    """Brings what the model sees of a sample back to the shape of its frame, `SIDE` long.

    Args:
      samples: whose clips have a geometry.
      number: of the sample.
    """

    def __init__(self, samples: ReferringSamples, number: int):
        self._sample, self._truth = samples[number], samples.truth(number)
        height, width = self._truth.mask.shape
        scale = SIDE / max(height, width)
        self._size = round(width * scale), round(height * scale)

    def frame(self) -> np.ndarray:
        """Returns the target frame, uint8 RGB."""
        frame = self._sample["frames"][int(self._sample["target"])].astype(np.float32)
        channels = [self.map(frame[..., k]) for k in range(3)]
        return np.clip(np.rint(np.stack(channels, -1)), 0, 255).astype(np.uint8)

    def mask(self) -> np.ndarray:
        """Returns the mask of the named object, uint8."""
        mask = (self._truth.mask == self._truth.object_id).astype(np.uint8)
        return cv2.resize(mask, self._size, interpolation=cv2.INTER_NEAREST)

    def map(self, values: np.ndarray) -> np.ndarray:
        """Returns a map over the whole input, of any size; cells stay visible."""
        input_size = self._sample["frames"].shape[1:3]
        how = cv2.INTER_LINEAR
        if values.shape != input_size:   # of a coarser scale
            how = cv2.INTER_NEAREST
            values = cv2.resize(values, input_size[::-1], interpolation=how)
        inner = inside(values, self._sample["geometry"], self._truth.mask.shape)
        return cv2.resize(inner, self._size, interpolation=how)


def _pointing(arguments: argparse.Namespace) -> None:
    runs = {str(run): _opened(run, arguments) for run in arguments.runs}
    samples = next(iter(runs.values()))[2]
    shown = chosen(samples, arguments.samples, arguments.rows)
    tables = {name: pointing(*opened, arguments.limit) for name, opened in runs.items()}
    for name, table in tables.items():
        print(f"{name}\n  scale  on the object  its area  largest there")
        for k, row in table.items():
            values = ("-" if row[key] is None else f"{100 * row[key]:.1f} %"
                      for key in ("weight", "area", "hit"))
            print("  {:>5}  {:>13}  {:>8}  {:>13}".format(k, *values))
    write(arguments.output, "pointing", tables)
    k = arguments.scale
    infer = {name: jax.jit(functools.partial(analysis.infer, model))
             for name, (model, _, _) in runs.items()}

    def draw(axes: Any) -> None:
        for row, number in enumerate(shown):
            shape = Shape(samples, number)
            panels = [(overlay.draw(shape.frame(), shape.mask()),
                       f"{number}: {samples.truth(number).text}")]
            for name, (_, variables, own) in runs.items():  # each with its tokenizer and size
                output, _ = infer[name](variables, batch_of(own, [number]))
                fit = Shape(own, number)
                prediction = foreground(expit(fit.map(np.asarray(output.logits[0]))), "legacy")
                panels.append((overlay.draw(shape.frame(), prediction.astype(np.uint8)), name))
                panels.append((fit.map(np.asarray(output.pooling[k - 1][0])), f"a, scale {k}"))
            for axis, (picture, title) in zip(axes[row], panels, strict=True):
                _show(axis, picture, title if row == 0 or picture is panels[0][0] else "")

    figure(arguments.output / "pointing.png", 1 + 2 * len(runs), draw, rows=len(shown), side=2.2)


def _augmented(arguments: argparse.Namespace) -> None:
    model, variables, samples = _opened(arguments.run, arguments)
    c, k = model.config, arguments.scale
    beta = c.qfa_beta_max if arguments.beta is None else arguments.beta
    shown = chosen(samples, arguments.samples, max(2, arguments.rows))
    if len(shown) < 2:
        raise ValueError("QFA takes features from another sample; name at least two --samples")
    batch = batch_of(samples, shown)
    results = jax.tree.map(np.asarray, jax.jit(
        lambda v, b: analysis.augment(model, v, b, k, beta))(variables, batch))
    shares = []
    for number, kept, named in zip(shown, results.retained, results.named, strict=True):
        shares.append({"sample": number, "text": samples.truth(number).text, **{
            name: float(kept[where].mean()) if where.any() else None
            for name, where in (("object_kept", named), ("rest_kept", ~named))}})
    write(arguments.output, "augmented", {"scale": k, "beta": beta, "samples": shares})

    def draw(axes: Any) -> None:
        for row, number in enumerate(shown):
            frames = [batch["frames"][n % len(shown), batch["target"][n % len(shown)]]
                      for n in (row, row + 1)]
            maps = (results.features[row], results.other[row], results.augmented[row])
            colors = principal_colors(np.moveaxis(np.concatenate(maps, axis=1), -1, 0))
            panels = {
                f"{number}: {samples.truth(number).text}": frames[0], "another video": frames[1],
                "A": results.weights[row], f"A > {beta:g}": results.retained[row],
                **dict(zip(("Y", "Y of the other", "augmented"),
                           np.split(colors, 3, axis=1), strict=True)),
            }
            for column, (title, picture) in enumerate(panels.items()):
                _show(axes[row][column], picture, title if row == 0 or not column else "")

    figure(arguments.output / "augmented.png", 7, draw, rows=len(shown), side=2.0)


def _show(axis: Any, picture: np.ndarray, title: str) -> None:
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(title, fontsize=7, wrap=True)
    axis.axis("off")


def _opened(run: Path, arguments: argparse.Namespace) -> tuple[Qvim, Any, ReferringSamples]:
    restored = restore(run)
    if not isinstance(restored.model, Qvim):
        raise ValueError(f"{run} is not a qvim; this command only analyzes qvim")
    dataset = open_dataset(arguments.dataset, arguments.split)
    samples = ReferringSamples(dataset, restored.clip, restored.tokenizer, train=False, frames=1)
    return restored.model, restored.variables, samples


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line described at the top of this file."""
    parser = Parser(prog="vseg figures qvim", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("pointing", _pointing), ("augmented", _augmented)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        if name == "pointing":
            command.add_argument("runs", type=Path, nargs="+", metavar="RUN",
                                 help="working directory or export")
            command.add_argument("--limit", type=int, default=500,
                                 help="samples that are measured, evenly spread")
        else:
            command.add_argument("run", type=Path, metavar="RUN")
            command.add_argument("--beta", type=float,
                                 help="threshold; the config's qfa_beta_max by default")
        takes_dataset(command)
        command.add_argument("--scale", type=int, choices=range(1, SCALES + 1), default=1)
        command.add_argument("--rows", type=int, default=4,
                             help="samples in the picture, evenly spread")
        command.add_argument("--samples", type=int, nargs="+", metavar="N",
                             help="numbers of the samples in the picture, in place of --rows")
    run(parser, arguments)


if __name__ == "__main__":
    main()
