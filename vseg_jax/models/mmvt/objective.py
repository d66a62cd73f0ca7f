"""The losses: segmentation and alignment, the mean over the counted pixels of each sample."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.layers.resize import bilinear
from vseg_jax.losses.masks import binary_cross_entropy
from vseg_jax.models.mmvt import alignment
from vseg_jax.models.mmvt.config import MmvtConfig
from vseg_jax.models.mmvt.network import Output

FINEST = 4  # stride of the alignment's maps


def losses(
    config: MmvtConfig,
    output: Output,
    mask: Float[Array, "B H W"],
    weight: Float[Array, "B H W"],
) -> tuple[dict[str, Float[Array, " B"]], Float[Array, " B"]]:
    """Computes the terms of the loss for each sample.

    Args:
      mask, weight: from `tasks.rvos.target_frame_mask`.

    Returns:
      The terms, 0 for samples without a pixel that counts, and which samples have one (1 or 0).
    """
    each, counted = binary_cross_entropy(output.logits, mask, weight)
    terms = {"segmentation": each}
    if output.coarse is not None:
        # The summary compares the prediction with the coarse mask; that both are compared with the
        # ground truth is inferred.
        coarse = bilinear(output.coarse[..., None], mask.shape[1:], align_corners=False)[..., 0]
        terms["coarse"], _ = binary_cross_entropy(coarse, mask, weight)
    if config.align == "official":
        terms |= _align(config, output.embeddings, mask, weight)
    elif config.align == "cosine_kl":
        terms |= _summary(output)
    return {name: term * counted for name, term in terms.items()}, counted


def _align(
    config: MmvtConfig, embeddings: alignment.Embeddings, mask: Array, weight: Array
) -> dict[str, Array]:
    """Compares cosines with the mask: query by pixel of either stream, and pixel by pixel."""
    # One pixel of each cell, as in the public code.
    mask, weight = (x[:, FINEST // 2 :: FINEST, FINEST // 2 :: FINEST] for x in (mask, weight))

    def with_sentence(pixels: Array) -> Array:
        logits = alignment.pixels_to_sentence(pixels, embeddings.sentence, config.align_limit)
        return binary_cross_entropy(logits, mask, weight)[0]

    terms = {"vision_language": with_sentence(embeddings.vision)}
    if embeddings.flow is not None:
        terms["flow_language"] = with_sentence(embeddings.flow)
        batch, width = mask.shape[0], embeddings.flow.shape[-1]
        terms["vision_flow"] = alignment.pair_loss(
            embeddings.vision.reshape(batch, -1, width), embeddings.flow.reshape(batch, -1, width),
            mask.reshape(batch, -1), weight.reshape(batch, -1),
            limit=config.align_limit, chunk=config.align_chunk,
        )
    return terms


def _summary(output: Output) -> dict[str, Array]:
    """Compares frame and query by cosine, frame and flow by divergence, over the whole clip."""
    mixed = output.mixed
    batch, frames, *_, width = mixed.vision.shape
    encoded, words, vision = (
        x.reshape(batch, -1, width) for x in (mixed.encoded, mixed.words, mixed.vision)
    )
    valid = jnp.tile(output.valid, (1, frames))
    terms = {"vision_language": alignment.cosine_loss(encoded, words, valid)}
    if mixed.flow is not None:
        flow = mixed.flow.reshape(batch, -1, width)
        terms["vision_flow"] = alignment.symmetric_divergence(vision, flow)
    return terms
