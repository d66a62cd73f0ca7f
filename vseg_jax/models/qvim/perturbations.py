"""QFA, AM-AdaIN and the compared methods of one training step, as functions for the network."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vseg_jax.layers.precision import at_least_float32
from vseg_jax.models.base import Batch
from vseg_jax.models.qvim import am_adain, qfa, styles
from vseg_jax.models.qvim.config import SCALES, ComparedConfig, QvimConfig
from vseg_jax.models.qvim.encoders import method_places
from vseg_jax.models.qvim.interaction import Perturbations, pooling_weights, query_scores


def perturbations(
    config: QvimConfig, batch: Batch, key: jax.Array, step: Int[Array, ""]
) -> Perturbations:
    """Draws the other samples and the random numbers of one step; all scales share them."""
    qfa_key, adain_key = jax.random.split(key)
    changes = {}
    if config.qfa_scales:
        changes["features"] = _qfa(config, batch, qfa_key, step)
    if config.am_adain_scales:
        changes["attention"] = _am_adain(config, batch, adain_key)
    if config.compared.perturbs:
        changes |= _compared(config, batch["valid"], jax.random.fold_in(key, 2), step)
    return Perturbations(**changes)


def _compared(
    model: QvimConfig, valid: jax.Array, key: jax.Array, step: jax.Array
) -> dict[str, Callable[..., jax.Array]]:
    """Returns `visual`, `words` and `backbone` of the compared method."""
    config, places = model.compared, method_places(model)
    if valid.shape[0] < 2 and config.method != "sfa":
        raise ValueError(
            f"{config.method} takes styles from other samples, but the batch has one; use a batch "
            "size of 2 or more, or set compared.method='none'"
        )
    started = step >= config.sfa_start if config.method == "sfa" else True

    def change(number: int, x: jax.Array, present: jax.Array | None) -> jax.Array:
        use_key, style_key = jax.random.split(jax.random.fold_in(key, number))
        use = started & jax.random.bernoulli(use_key, config.prob)
        styled = _styled(config, at_least_float32(x), valid, present, style_key)
        return jnp.where(use, styled.astype(x.dtype), x)

    def visual(k: int, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        used = config.at_interaction and k in config.scales
        return change(2 * k, x, None) if used else x

    def words(k: int, x: Float[Array, "B L C"], present: jax.Array) -> Float[Array, "B L C"]:
        if not config.text or k not in config.scales:
            return x
        return jnp.where(present[..., None], change(2 * k + 1, x, present), 0)

    def backbone(place: str, x: Float[Array, "B S H W C"]) -> Float[Array, "B S H W C"]:
        return change(2 * SCALES + 2 + places.index(place), x, None)

    return {"visual": visual, "words": words, "backbone": backbone}


def _styled(
    config: ComparedConfig, x: jax.Array, valid: jax.Array, present: jax.Array | None,
    key: jax.Array,
) -> jax.Array:
    """Draws the random numbers of the compared method and applies it."""
    keys, count = jax.random.split(key), x.shape[0]
    if config.method == "sfa":
        noises = (config.sfa_noise * jax.random.normal(k, x.shape, x.dtype) for k in keys)
        return styles.sfa(x, 1 + next(noises), next(noises))
    if config.method == "dsu":
        noises = (jax.random.normal(k, (count, x.shape[-1]), x.dtype) for k in keys)
        return styles.dsu(x, *noises, valid, present)
    other = jax.random.permutation(keys[0], count)
    if config.method == "adain":
        out = styles.adain(x, other, present)
    else:
        share = jax.random.beta(keys[1], *[config.mixstyle_alpha] * 2, (count,), x.dtype)
        out = styles.mixstyle(x, other, share, present)
    usable = (valid & valid[other]).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(usable, out, x)


def _qfa(
    config: QvimConfig, batch: Batch, key: jax.Array, step: jax.Array
) -> Callable[..., jax.Array]:
    """Returns `features`: QFA with another video of the batch."""
    shift_key, use_key = jax.random.split(key)
    shift, usable = qfa.other_sample(shift_key, batch["video"], batch["valid"])
    active, beta = qfa.schedule(step, config)
    drawn = jax.random.bernoulli(use_key, config.qfa_prob, usable.shape)
    use = active & usable & drawn

    def features(
        k: int, y: Float[Array, "B H W C"], weights: Float[Array, "B H W"],
        query: Float[Array, "B C"],
    ) -> Float[Array, "B H W C"]:
        if k not in config.qfa_scales:
            return y
        other = jnp.roll(y, shift, axis=0)
        other_query = query
        if config.qfa_detach_aux:
            other, other_query = jax.lax.stop_gradient((other, other_query))
        other_weights = pooling_weights(query_scores(other, other_query), config.att_norm)
        augmented = qfa.augment(
            y, other, qfa.relative(weights), qfa.peak(other_weights), beta,
            foreground=config.qfa_foreground, augment_matrix=config.qfa_augment_matrix,
            keep_scores=config.qfa_keep == "scores",
        )
        return jnp.where(use[:, None, None, None], augmented, y)

    return features


def _am_adain(
    config: QvimConfig, batch: Batch, key: jax.Array
) -> Callable[..., jax.Array]:
    """Returns `attention`: AM-AdaIN with another sample of the batch."""
    shift_key, alpha_key = jax.random.split(key)
    # The other sample may be of the same video: what should vary is the style of the expression.
    each = jnp.arange(batch["video"].shape[0])
    shift, usable = qfa.other_sample(shift_key, each, batch["valid"])
    alpha = jax.random.uniform(alpha_key, usable.shape, maxval=config.am_adain_alpha_max)
    alpha = jnp.where(usable, alpha, 0)

    def attention(
        k: int, attention: Float[Array, "B P L"], words: jax.Array
    ) -> Float[Array, "B P L"]:
        if k not in config.am_adain_scales:
            return attention
        mean, deviation = am_adain.statistics(attention, config.am_adain_eps)
        mean, deviation = jnp.roll(mean, shift, 0), jnp.roll(deviation, shift, 0)
        if config.am_adain_detach:
            mean, deviation = jax.lax.stop_gradient((mean, deviation))
        by_word = am_adain.word_alpha(alpha, words, jnp.roll(words, shift, 0))
        out = am_adain.restyle(attention, mean, deviation, by_word, config.am_adain_eps)
        return jnp.where(words[:, None], out, 0)

    return attention
