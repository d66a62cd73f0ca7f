"""Analyses of qvim: where the expression points, and what QFA and AM-AdaIN change.

The paper shows no attention maps. Section 3.3 expects them to mark "the most query-related
regions"; this module measures whether they do.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vseg_jax.models.base import Batch, Variables
from vseg_jax.models.clip import network_variables
from vseg_jax.models.qvim import am_adain, qfa
from vseg_jax.models.qvim.interaction import Perturbations, pooling_weights, query_scores
from vseg_jax.models.qvim.model import Qvim
from vseg_jax.models.qvim.network import Output
from vseg_jax.models.qvim.objective import shrink
from vseg_jax.tasks.rvos import target_frame_mask


class Pointing(NamedTuple):
    """How well the pooling weights a^k of one scale match the named object; one value per sample.

    Attributes:
      weight: share of the weights on the object's cells.
      area: the object's share of the cells, which is `weight` for uniform weights.
      hit: whether the largest weight is on the object (the pointing game, Zhang et al., 2016).
      counted: False where the object has no cell at this scale, or no cell of the map counts.
    """

    weight: Float[Array, " B"]
    area: Float[Array, " B"]
    hit: Bool[Array, " B"]
    counted: Bool[Array, " B"]


class Augmented(NamedTuple):
    """QFA at one scale. The other video of each sample is that of the next sample in the batch.

    Attributes:
      features: Y, the features of the scale.
      other: the features of the other video, V_au in Section 3.3.
      augmented: V~.
      weights: A, the weights of the expression on `features`, largest 1.
      retained: where A is above the threshold.
      named: the cells of the named object.
    """

    features: Float[Array, "B H W C"]
    other: Float[Array, "B H W C"]
    augmented: Float[Array, "B H W C"]
    weights: Float[Array, "B H W"]
    retained: Bool[Array, "B H W"]
    named: Bool[Array, "B H W"]


def infer(
    model: Qvim, variables: Variables, batch: Batch
) -> tuple[Output, dict[int, Float[Array, "B H W C"]]]:
    """Returns the outputs of inference, and {k: the features Y that QFA would change}."""
    features = {}

    def keep(k: int, y: jax.Array, weights: jax.Array, query: jax.Array) -> jax.Array:
        del weights, query
        features[k] = y
        return y

    output = model.network.apply(
        network_variables(variables), batch["frames"], batch["target"], batch["tokens"],
        batch["tokens_valid"], train=False, perturb=Perturbations(features=keep), method="full",
    )
    return output, features


def pointing(output: Output, batch: Batch) -> tuple[Pointing, ...]:
    """Returns the `Pointing` of every scale, from the largest map to the smallest."""

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
    """Applies QFA with the threshold `beta` to the features of `scale` (1 ... 5).

    Raises:
      ValueError: the batch has only one sample.
    """
    if len(batch["target"]) < 2:
        raise ValueError("QFA takes features from another sample, but the batch has one")
    c = model.config
    output, features = infer(model, variables, batch)
    y, query = features[scale], output.query
    other = jnp.roll(y, -1, axis=0)
    weights = qfa.relative(output.pooling[scale - 1])
    other_weights = qfa.peak(pooling_weights(query_scores(other, query), c.att_norm))
    augmented = qfa.augment(
        y, other, weights, other_weights, jnp.asarray(beta), foreground=c.qfa_foreground,
        augment_matrix=c.qfa_augment_matrix,
    )
    named, _ = _cells(batch, weights.shape[1:])
    return Augmented(y, other, augmented, weights, weights > beta, named)


def restyle(
    model: Qvim, variables: Variables, batch: Batch, scale: int, alpha: float
) -> tuple[Float[Array, "B H W L"], Float[Array, "B H W L"]]:
    """Returns the attention over the words at `scale` (1 ... 5) before and after AM-AdaIN.

    Each sample takes the statistics of the next sample in the batch, by `alpha` in [0, 1].

    Raises:
      ValueError: the batch has only one sample, or the model has no attention over words.
    """
    c = model.config
    if len(batch["target"]) < 2 or not c.cross_attention:
        raise ValueError("AM-AdaIN takes statistics from another sample's attention; give two "
                         "samples and a model with cross_attention")
    output, _ = infer(model, variables, batch)
    before, words = output.attention[scale - 1], batch["tokens_valid"]
    mean, deviation = (jnp.roll(x, -1, 0) for x in am_adain.statistics(before, c.am_adain_eps))
    by_word = am_adain.word_alpha(
        jnp.full(len(before), alpha), words, jnp.roll(words, -1, axis=0))
    after = am_adain.restyle(before, mean, deviation, by_word, c.am_adain_eps)
    shape = (*output.pooling[scale - 1].shape, -1)
    return before.reshape(shape), after.reshape(shape)


def _cells(
    batch: Batch, size: tuple[int, int]
) -> tuple[Bool[Array, "B H W"], Bool[Array, "B H W"]]:
    """Returns which cells of a map of that size are on the object, and which are annotated."""
    mask, weight = target_frame_mask(batch)
    cells, counts = (x > 0 for x in shrink(mask, weight, size, soft=False))
    return cells & counts, counts
