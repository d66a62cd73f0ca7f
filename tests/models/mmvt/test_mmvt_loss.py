"""The total loss and its terms for given outputs of the network, which is not run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_mmvt import build, make_batch
from tiny_models import GivenOutput, quick_jit

from vseg_jax.layers.projection import unit
from vseg_jax.layers.resize import bilinear
from vseg_jax.losses.masks import binary_cross_entropy
from vseg_jax.models.mmvt import alignment
from vseg_jax.models.mmvt.network import Output
from vseg_jax.models.mmvt.transformer import Mixed

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


OUTPUT = Output(
    logits=normal(2, 32, 32),
    coarse=normal(2, 2, 2),
    embeddings=alignment.Embeddings(
        unit(normal(2, 8, 8, 4)), unit(normal(2, 8, 8, 4)), unit(normal(2, 4))
    ),
    mixed=Mixed(
        words=normal(2, 3, 4, 8), encoded=normal(2, 3, 2, 2, 8), vision=normal(2, 3, 2, 2, 8),
        flow=normal(2, 3, 2, 2, 8), out=normal(2, 2, 2, 8),
    ),
    valid=jnp.asarray([[True, True, False, False], [True] * 4]),
)


def terms(align, batch, limit):
    """The terms of each sample, from the functions of the losses."""
    mask, everywhere = (batch["masks"][:, 1] == 1).astype(jnp.float32), jnp.ones((2, 32, 32))
    coarse = bilinear(OUTPUT.coarse[..., None], (32, 32), align_corners=False)[..., 0]
    out = {
        "segmentation": binary_cross_entropy(OUTPUT.logits, mask, everywhere)[0],
        "coarse": binary_cross_entropy(coarse, mask, everywhere)[0],
    }
    if align == "official":
        cells = mask[:, 2::4, 2::4]   # one pixel of each cell
        vision, flow, sentence = OUTPUT.embeddings
        for name, pixels in (("vision_language", vision), ("flow_language", flow)):
            logits = alignment.pixels_to_sentence(pixels, sentence, limit)
            out[name] = binary_cross_entropy(logits, cells, jnp.ones_like(cells))[0]
        out["vision_flow"] = alignment.pair_loss(
            vision.reshape(2, 64, 4), flow.reshape(2, 64, 4), cells.reshape(2, 64),
            jnp.ones((2, 64)), limit=limit, chunk=64,
        )
    elif align == "cosine_kl":
        words, encoded, vision, flow = (x.reshape(2, 12, 8) for x in OUTPUT.mixed[:4])
        valid = jnp.tile(OUTPUT.valid, (1, 3))
        out["vision_language"] = alignment.cosine_loss(encoded, words, valid)
        out["vision_flow"] = alignment.symmetric_divergence(vision, flow)
    return out


@pytest.mark.parametrize("align", ["official", "cosine_kl", "none"])
def test_total_is_the_weighted_sum_of_its_terms(align):
    batch = {k: jnp.asarray(v) for k, v in make_batch().items()}
    model = build(align=align, align_weight=0.25)
    model.network = GivenOutput(OUTPUT)

    @quick_jit
    def both(valid):
        now, variables = {**batch, "valid": valid}, {"params": {}, "batch_stats": {}}
        total, _, means = model.loss(variables, now, jax.random.key(0), jnp.int32(0))
        return total, means, terms(align, batch, model.config.align_limit)

    for valid in ([True, True], [False, True], [False, False]):
        total, means, each = both(jnp.asarray(valid))
        sums = {name: float(values[np.array(valid)].sum()) for name, values in each.items()}
        share = {"segmentation": 1, "coarse": 1}
        wanted = sum(share.get(name, 0.25) * value for name, value in sums.items())
        np.testing.assert_allclose(total, wanted / max(sum(valid), 1), rtol=1e-4)
        assert {*means} == {*sums, "iou", "loss"}
        for name, value in {**sums, "loss": wanted}.items():
            np.testing.assert_allclose(means[name], (value, sum(valid)), rtol=1e-4)
