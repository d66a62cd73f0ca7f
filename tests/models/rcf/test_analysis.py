import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rcf import WITH_AUDIO, build, make_batch, quick_jit, random_variables

from vseg_jax.models.rcf import analysis

RANDOM = np.random.default_rng(0)


def test_fired_slots_are_normalized_by_category():
    table = analysis.fired_slots(np.array([0, 0, 0, 2]), np.array([1, 1, 1, 1]), 3, 3)
    np.testing.assert_allclose(table, [[0, 0, 0], [0.75, 0, 0.25], [0, 0, 0]])


@pytest.mark.parametrize("changes", [{"references": 2}, {"fusion": "full_enc", **WITH_AUDIO}])
def test_reference_attention_is_the_encoders(changes):
    model = build(**changes)
    c = model.config
    batch = make_batch(size=1, length=1 + c.references, audio=c.audio)
    variables = random_variables(model, batch)
    maps = quick_jit(lambda v, b: analysis.reference_attention(model, v, b))(variables, batch)
    assert maps.shape == (1, 2, 2, 2)
    assert (maps > 0).all() and (maps.sum((2, 3)) < 1).all()
    # Attention of queries that are all 0 is the same everywhere: one over the number of tokens.
    attention = variables["params"]["fusion"]["encoder"]["layer0"]["attention"]
    attention["query"] = jax.tree.map(jnp.zeros_like, attention["query"])
    flat = quick_jit(lambda v, b: analysis.reference_attention(model, v, b))(variables, batch)
    tokens = 4 + 4 + 2 * c.audio
    np.testing.assert_allclose(flat, np.full(flat.shape, 1 / tokens), rtol=1e-5)


def test_models_without_reference_tokens_have_no_such_attention():
    with pytest.raises(ValueError, match="full_dec"):
        analysis.reference_attention(build(fusion="full_dec"), {}, {})


def test_latency_is_the_formulas_and_table_1s():
    assert analysis.online_latency(6.0, 23.9) == pytest.approx(0.21, abs=0.005)
    assert analysis.online_latency(6.0, 9.0) == pytest.approx(0.28, abs=0.005)
    assert analysis.online_latency(6.0, 5.3) == pytest.approx(0.36, abs=0.006)
    assert analysis.offline_latency(6.0, 89.4, 36) == pytest.approx(6.4, abs=0.05)


def test_the_t_test_takes_pairs_above_the_threshold():
    without = RANDOM.uniform(0.55, 0.9, 40)
    better = without + RANDOM.normal(0.05, 0.01, 40)
    assert analysis.audio_p_value(better, without, 0.5) < 1e-6
    same = without + RANDOM.normal(0, 0.01, 40) - 0.0
    low = np.concatenate([same, np.full(50, 0.2)]), np.concatenate([without, np.full(50, 0.4)])
    assert analysis.audio_p_value(*low, 0.5) == analysis.audio_p_value(same, without, 0.5)
    with pytest.raises(ValueError, match="0 samples"):
        analysis.audio_p_value(better, without, 0.99)
