"""Where the sentence points in qvim, and what QFA makes of the features there.

The paper shows no attention; what its Section 3.3 wants of it ("the most query-related regions")
is what is counted here.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vseg_jax.models.base import Batch, Variables
from vseg_jax.models.qvim import qfa
from vseg_jax.models.qvim.model import Qvim, network_variables
from vseg_jax.models.qvim.network import Output, Perturbations, pooling_weights, query_scores
from vseg_jax.models.qvim.objective import shrink
from vseg_jax.tasks.rvos import target_frame_mask


class Pointing(NamedTuple):
    """How the pooling weights a^k of one scale lie on the named objects, a value a sample.

    Attributes:
      weight: share of the weights that lies on the object's cells.
      area: the object's share of the cells: `weight` of weights that point nowhere.
      hit: whether the largest weight lies on the object (the pointing game, Zhang et al., 2016).
      counted: False where the object has no cell at this scale, or no cell of the map counts.
    """

    weight: Float[Array, " B"]
    area: Float[Array, " B"]
    hit: Bool[Array, " B"]
    counted: Bool[Array, " B"]


class Augmented(NamedTuple):
    """QFA at one scale, by hand. Each sample's other video is the batch's next.

    Attributes:
      features: Y, the scale's features.
      other: those of the other video, V_au in Section 3.3.
      augmented: V~.
      pointed: A, the sentence's weights on `features`, largest 1.
      kept: where A is above the threshold.
      named: the cells of the named object.
    """

    features: Float[Array, "B H W C"]
    other: Float[Array, "B H W C"]
    augmented: Float[Array, "B H W C"]
    pointed: Float[Array, "B H W"]
    kept: Bool[Array, "B H W"]
    named: Bool[Array, "B H W"]


def look(
    model: Qvim, variables: Variables, batch: Batch
) -> tuple[Output, dict[int, Float[Array, "B H W C"]]]:
    """What inference computes, by name, and {k: the features Y that QFA would change}."""
    features = {}

    def keep(k, y, weights, query):
        del weights, query
        features[k] = y
        return y

    output = model.network.apply(
        network_variables(variables), batch["frames"], batch["target"], batch["tokens"],
        batch["tokens_valid"], train=False, perturb=Perturbations(features=keep), method="full",
    )
    return output, features


def pointing(output: Output, batch: Batch) -> tuple[Pointing, ...]:
    """Of every scale, from the largest map to the smallest."""

    def at_scale(weights: Float[Array, "B H W"]) -> Pointing:
        cells, counts = _cells(batch, weights.shape[1:])
        known = jnp.where(counts, weights, 0)
        where = known.reshape(len(known), -1).argmax(-1)
        hit = jnp.take_along_axis(cells.reshape(len(cells), -1), where[:, None], axis=1)[:, 0]
        total = [x.sum((1, 2)) for x in (known, known * cells, counts, cells)]
        return Pointing(
            total[1] / jnp.maximum(total[0], 1e-12), total[3] / jnp.maximum(total[2], 1), hit,
            total[3] > 0,
        )

    return tuple(at_scale(weights) for weights in output.pooling)


def augment(
    model: Qvim, variables: Variables, batch: Batch, scale: int, beta: float | Float[Array, ""]
) -> Augmented:
    """What QFA with the threshold `beta` makes of the features of `scale` (1 ... 5).

    Raises:
      ValueError: a batch of one.
    """
    if len(batch["target"]) < 2:
        raise ValueError("QFA takes features from another sample, but the batch has one")
    c = model.config
    output, features = look(model, variables, batch)
    y, query = features[scale], output.query
    other = jnp.roll(y, -1, axis=0)
    pointed = qfa.peak(output.pooling[scale - 1])
    there = qfa.peak(pooling_weights(query_scores(other, query), c.att_norm))
    augmented = qfa.augment(
        y, other, pointed, there, jnp.asarray(beta), foreground=c.qfa_foreground,
        augment_matrix=c.qfa_augment_matrix,
    )
    named, _ = _cells(batch, pointed.shape[1:])
    return Augmented(y, other, augmented, pointed, pointed > beta, named)


def _cells(
    batch: Batch, size: tuple[int, int]
) -> tuple[Bool[Array, "B H W"], Bool[Array, "B H W"]]:
    """Which cells of a map of that size are the named object's, and of which that is known."""
    mask, weight = target_frame_mask(batch)
    cells, counts = (x > 0 for x in shrink(mask, weight, size, soft=False))
    return cells & counts, counts
