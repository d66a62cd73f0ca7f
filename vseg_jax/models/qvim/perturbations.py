"""QFA and AM-AdaIN of one training step, as the two functions that the network calls."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vseg_jax.models.base import Batch
from vseg_jax.models.qvim import am_adain, qfa
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.network import Perturbations, pooling_weights, query_scores


def perturbations(
    config: QvimConfig, batch: Batch, key: jax.Array, step: Int[Array, ""]
) -> Perturbations:
    """Draws the other samples and the random numbers of one step, the same at every scale."""
    features, attention = _unchanged_features, _unchanged_attention
    qfa_key, adain_key = jax.random.split(key)
    if config.qfa_scales:
        features = _qfa(config, batch, qfa_key, step)
    if config.am_adain_scales:
        attention = _am_adain(config, batch, adain_key)
    return Perturbations(features, attention)


def _unchanged_features(k, y, weights, query):
    return y


def _unchanged_attention(k, attention, words):
    return attention


def _qfa(config, batch, key, step):
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
            y, other, qfa.peak(weights), qfa.peak(other_weights), beta,
            foreground=config.qfa_foreground, augment_matrix=config.qfa_augment_matrix,
        )
        return jnp.where(use[:, None, None, None], augmented, y)

    return features


def _am_adain(config, batch, key):
    shift_key, alpha_key = jax.random.split(key)
    # The other sample may be of the same video: it is the sentence's style that is to vary.
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
        out = jnp.where(words[:, None], out, 0)
        return am_adain.renormalise(out) if config.am_adain_renorm else out

    return attention
