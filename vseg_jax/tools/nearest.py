"""A baseline without training for mask prompts: labels carried to the most similar features.

    vseg nearest --prepared data/davis/0123456789ab/1.0.0 --split val --short_side 480

scores it by the metrics of a model's evaluation with the same protocol. A trained model should be
better than this on every video.

Each place of a frame's feature map gets the mean label of the most similar places of the first
frame, which is the only memory. The features are those of an EfficientNet-Lite0 that was trained to
classify ImageNet (`pip install 'vseg_jax[models]'`), at stride 16 as the models' keys.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from vseg_jax import packages
from vseg_jax.arguments import Parser
from vseg_jax.backbones.efficientnet import COLORS, EfficientNetLite
from vseg_jax.evaluation.propagation import PROTOCOLS, evaluate
from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.metrics.command import print_scores
from vseg_jax.weights import efficientnet

STRIDE = 16         # of the features
SIMILAR = 10        # how many places of the first frame a place is labeled by
TEMPERATURE = 0.05  # of the softmax over their cosines

Features = Float[Array, "h w C"]


class NearestFeatures:
    """Takes the place of a `vseg_jax.Segmenter` in `vseg_jax.evaluation.propagation.evaluate`."""

    def __init__(self, short_side: int = 0):
        """Reads the public weights.

        Args:
          short_side: of the frames whose features are compared, in pixels; 0: the video's own.

        Raises:
          ValueError: the package with the weights is missing or differs from the published one.
        """
        network, image = EfficientNetLite(levels=4), jnp.zeros((1, 32, 32, 3))
        like = jax.eval_shape(
            functools.partial(network.init, train=False), jax.random.key(0), image)
        self.short_side = short_side
        self._variables = efficientnet.load(packages.locate("package:efficientnet-lite0"), like)
        self._apply = jax.jit(functools.partial(network.apply, train=False))

    def start_many(
        self, frames: Sequence[UInt8[np.ndarray, "H W 3"]], *,
        masks: Sequence[UInt8[np.ndarray, "H W"]],
    ) -> NearestSession:
        """Returns a session of streams that all begin with the same frame, each with its mask."""
        return NearestSession(self, frames[0], masks)

    def features(self, frame: UInt8[np.ndarray, "H W 3"]) -> Features:
        """Returns the features of a frame, each of length 1."""
        height, width = frame.shape[:2]
        scale = self.short_side / min(height, width) if self.short_side else 1.0
        size = [max(1, round(scale * side / STRIDE)) * STRIDE for side in (width, height)]
        image = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        x = self._apply(self._variables, jnp.asarray((image - COLORS[0]) / COLORS[1])[None])[-1][0]
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Labeled:
    """The index mask of a frame, uint8 [H, W]."""

    index: UInt8[np.ndarray, "H W"]


class NearestSession:
    """The streams of `NearestFeatures.start_many`.

    Attributes:
      first: what the prompts say of the first frame.
      adaptation: None; see `Session.adaptation`.
    """

    adaptation = None

    def __init__(self, baseline: NearestFeatures, frame: UInt8[np.ndarray, "H W 3"],
                 masks: Sequence[UInt8[np.ndarray, "H W"]]):
        self._baseline, self._first = baseline, baseline.features(frame)
        masks = [np.where(mask == VOID, np.uint8(0), mask) for mask in masks]
        self.first = [Labeled(mask) for mask in masks]
        self._ids = [np.unique(mask) for mask in masks]
        height, width, _ = self._first.shape
        self._labels = [_shares(mask, ids, (height, width))
                        for mask, ids in zip(masks, self._ids, strict=True)]

    def step(
        self, frames: Sequence[UInt8[np.ndarray, "H W 3"]], masks: Any = None
    ) -> list[Labeled]:
        """Returns the index masks of the next frame, the same one for all streams.

        Raises:
          ValueError: there is a mask; objects that enter later are not supported.
        """
        if masks is not None:
            raise ValueError("this baseline knows the objects of the first frame only; use the "
                             "protocol davis or ovis")
        found = self._baseline.features(frames[0])
        height, width = frames[0].shape[:2]
        predictions = []
        for ids, labels in zip(self._ids, self._labels, strict=True):
            maps = np.asarray(carried(found, self._first, labels))
            maps = np.stack([cv2.resize(m, (width, height)) for m in np.moveaxis(maps, -1, 0)])
            predictions.append(Labeled(ids[maps.argmax(0)]))
        return predictions


@jax.jit
def carried(
    features: Features, first: Float[Array, "h0 w0 C"], labels: Float[Array, "h0 w0 N"]
) -> Float[Array, "h w N"]:
    """Returns the mean label of the most similar places of the first frame.

    Args:
      features: of a frame, of length 1.
      first: of the first frame.
      labels: share of each label in the places of the first frame.
    """
    cosines = features.reshape(-1, features.shape[-1]) @ first.reshape(-1, first.shape[-1]).T
    best, places = jax.lax.top_k(cosines, min(SIMILAR, cosines.shape[1]))
    weights = jax.nn.softmax(best / TEMPERATURE, axis=-1)
    mean = jnp.einsum("qk,qkn->qn", weights, labels.reshape(-1, labels.shape[-1])[places])
    return mean.reshape(*features.shape[:2], -1)


def _shares(mask: UInt8[np.ndarray, "H W"], ids: UInt8[np.ndarray, " N"], size: tuple[int, int]
            ) -> Float[np.ndarray, "h w N"]:
    height, width = size
    return np.stack([cv2.resize((mask == number).astype(np.float32), (width, height),
                                interpolation=cv2.INTER_AREA) for number in ids], axis=-1)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(prog="vseg nearest", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", required=True, help="folder of the prepared dataset, or one "
                        "above it that holds no other")
    parser.add_argument("--split", required=True)
    parser.add_argument("--protocol", choices=[p for p in PROTOCOLS if p != "youtube_vos"],
                        default="davis")
    parser.add_argument("--short_side", type=int, default=0,
                        help="shorter side in pixels at which features are compared; 0: the "
                        "video's own")
    given = parser.parse_args(arguments)

    def score() -> Mapping[str, Any]:
        dataset = open_dataset(given.prepared, given.split)
        return evaluate(NearestFeatures(given.short_side), dataset, protocol=given.protocol)

    return print_scores(score)
