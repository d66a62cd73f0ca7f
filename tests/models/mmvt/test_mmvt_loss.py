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

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


OUTPUT = Output(
    logits=normal(2, 32, 32),
    coarse=normal(2, 2, 2),
    embeddings=alignment.Embeddings(
        unit(normal(2, 8, 8, 4)), unit(normal(2, 8, 8, 4)), unit(normal(2, 4))
    ),
    vision=normal(2, 3, 2, 2, 8),
    flow=normal(2, 3, 2, 2, 8),
    words=normal(2, 3, 4, 8),
    valid=jnp.asarray([[True, True, False, False], [True] * 4]),
)


@pytest.mark.parametrize("align", ["official", "cosine_kl", "none"])
def test_total_is_the_weighted_sum_of_its_terms(align):
    batch = {k: jnp.asarray(v) for k, v in make_batch().items()}
    model = build(align=align, align_weight=0.25)
    model.network = GivenOutput(OUTPUT)
    variables = {"params": {}, "batch_stats": {}}
    total, _, means = quick_jit(model.loss)(variables, batch, jax.random.key(0), jnp.int32(0))

    mask, everywhere = (batch["masks"][:, 1] == 1).astype(jnp.float32), jnp.ones((2, 32, 32))
    coarse = bilinear(OUTPUT.coarse[..., None], (32, 32), align_corners=False)[..., 0]
    wanted = {
        "segmentation": binary_cross_entropy(OUTPUT.logits, mask, everywhere)[0],
        "coarse": binary_cross_entropy(coarse, mask, everywhere)[0],
    }
    limit, cells = model.config.align_limit, mask[:, 2::4, 2::4]   # one pixel of each cell
    if align == "official":
        vision, flow, sentence = OUTPUT.embeddings
        for name, pixels in (("vision_language", vision), ("flow_language", flow)):
            logits = alignment.pixels_to_sentence(pixels, sentence, limit)
            wanted[name] = binary_cross_entropy(logits, cells, jnp.ones_like(cells))[0]
        wanted["vision_flow"] = alignment.pair_loss(
            vision.reshape(2, 64, 4), flow.reshape(2, 64, 4), cells.reshape(2, 64),
            jnp.ones((2, 64)), limit=limit, chunk=64,
        )
    elif align == "cosine_kl":
        vision, flow = (x.reshape(2, 12, 8) for x in (OUTPUT.vision, OUTPUT.flow))
        words, valid = OUTPUT.words.reshape(2, 12, 8), jnp.tile(OUTPUT.valid, (1, 3))
        wanted["vision_language"] = alignment.cosine_loss(vision, words, valid)
        wanted["vision_flow"] = alignment.symmetric_divergence(vision, flow)
    assert {*means} == {*wanted, "iou", "loss"}
    part = {name: float(values.mean()) for name, values in wanted.items()}
    for name, value in part.items():
        assert float(means[name][0]) == pytest.approx(2 * value, rel=1e-4) and means[name][1] == 2
    share = {"segmentation": 1, "coarse": 1}
    expected = sum(share.get(name, 0.25) * value for name, value in part.items())
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert float(means["loss"][0]) == pytest.approx(2 * expected, rel=1e-4)
