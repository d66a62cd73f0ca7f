import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vseg_jax.layers.projection import Projection
from vseg_jax.models.qvim import constraint
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.network import Output

CHANNELS = 6
QUERY = jax.random.normal(jax.random.key(2), (3, CHANNELS))
POOLED = jax.random.normal(jax.random.key(3), (3, CHANNELS))
BATCH = {"video": jnp.asarray([4, 5, 6]), "valid": jnp.asarray([True, True, False])}


def setup(**changes):
    config = QvimConfig(channels=CHANNELS, queue=7, contrast_dim=4, total_steps=10, **changes)
    return config, *constraint.init(config, jax.random.key(6))


def run(config, heads, state, pooled=POOLED, query=QUERY, step=9, batch=BATCH):
    output = Output(
        logits=None, responses=(), pooled=(pooled,), pooling=(), attention=(), visual=(),
        query=query, words=(), normalized={},
    )
    return constraint.loss(config, heads, state, batch, output, jnp.int32(step))


def by_hand(config, heads, state, keys):
    """The two terms of Eq. 6 for the two samples that count: with the queue, within the batch."""
    head = Projection(CHANNELS, 4)
    q = head.apply({"params": heads["query"]}, QUERY)[:2]
    k = head.apply({"params": keys}, POOLED)[:2]
    with_queue = jnp.concatenate([(q * k).sum(1, keepdims=True), q @ state["queue"].T], 1) / 0.07
    within = q @ k.T / 0.07
    return (-jax.nn.log_softmax(with_queue)[:, 0], -jnp.diag(jax.nn.log_softmax(within)))


@pytest.mark.parametrize("key", ["both", "momentum", "batch", "online"])
def test_is_equation_6(key):
    config, heads, state = setup(pos_key=key, momentum=0.5)
    state["momentum"] = jax.tree.map(lambda x: x - 0.3, state["momentum"])
    encoder = jax.tree.map(lambda m, p: (m + p) / 2, state["momentum"]["visual"], heads["visual"])
    momentum, _ = by_hand(config, heads, state, encoder)
    online, within = by_hand(config, heads, state, heads["visual"])
    wanted = {"both": (momentum + within) / 2, "momentum": momentum, "batch": within,
              "online": online}[key]
    each, counted, _ = run(config, heads, state)
    np.testing.assert_allclose(each[:2], wanted, rtol=1e-4)
    np.testing.assert_array_equal(counted, [1, 1, 0])
    assert each[2] == 0


def test_a_padding_sample_neither_counts_nor_enters_the_queue():
    config, heads, state = setup()
    each, _, after = run(config, heads, state)
    other, _, after_other = run(config, heads, state, POOLED.at[2].add(1), QUERY.at[2].add(1))
    np.testing.assert_array_equal(each, other)
    jax.tree.map(np.testing.assert_array_equal, after, after_other)
    assert after["pointer"] == 2
    np.testing.assert_array_equal(after["videos"], [4, 5, -1, -1, -1, -1, -1])


def test_masking_the_same_video():
    config, heads, state = setup(pos_key="momentum")
    _, _, state = run(config, heads, state)
    masked, _, _ = run(config, heads, state)
    config, _, _ = setup(pos_key="momentum", mask_same_video=False)
    plain, _, _ = run(config, heads, state)
    assert (plain[:2] > masked[:2]).all()  # its own key is among the negatives


def test_keys_come_from_the_momentum_encoder():
    config, heads, state = setup(momentum=0.75)
    shifted = jax.tree.map(lambda x: x + 1, state["momentum"])
    _, _, after = run(config, heads, {**state, "momentum": shifted})
    encoder = jax.tree.map(
        lambda m, p: 0.75 * m + 0.25 * p, shifted["visual"], heads["visual"]
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        after["momentum"]["visual"], encoder,
    )
    keys = Projection(CHANNELS, 4).apply({"params": encoder}, POOLED)
    np.testing.assert_allclose(after["queue"][:2], keys[:2], rtol=1e-5)


@pytest.mark.parametrize("key", ["both", "momentum", "batch", "online"])
def test_where_the_gradient_goes(key):
    config, heads, state = setup(pos_key=key)

    def loss(heads, state, pooled, query):
        return run(config, heads, {**state, **ints}, pooled, query)[0].sum()

    ints = {k: state.pop(k) for k in ("videos", "pointer")}
    by_heads, by_state, by_pooled, by_query = jax.grad(loss, (0, 1, 2, 3))(
        heads, state, POOLED, QUERY
    )
    reach = {
        "query head": by_heads["query"],
        "query": by_query,
        "visual head": by_heads["visual"],
        "pooled": by_pooled,
        "queue and momentum": by_state,
    }
    got = {n: any((jnp.abs(x) > 0).any() for x in jax.tree.leaves(t)) for n, t in reach.items()}
    online = key != "momentum"
    assert got == {
        "query head": True, "query": True, "visual head": online, "pooled": online,
        "queue and momentum": False,
    }


def test_clips_of_the_same_video_are_not_negatives_within_the_batch():
    config, heads, state = setup(pos_key="batch")
    same = {"video": jnp.asarray([4, 4, 6]), "valid": jnp.asarray([True, True, True])}
    each, _, _ = run(config, heads, state, batch=same)
    _, within = by_hand(config, heads, state, heads["visual"])
    head = Projection(CHANNELS, 4)
    q = head.apply({"params": heads["query"]}, QUERY)
    k = head.apply({"params": heads["visual"]}, POOLED)
    wanted = -jax.nn.log_softmax((q @ k.T / 0.07)[:, jnp.array([0, 2])][0])[0]
    np.testing.assert_allclose(each[0], wanted, rtol=1e-4)   # the third clip alone is a negative
    assert not np.allclose(each[0], within[0])


def test_qfas_schedule_does_not_move_the_start():
    config, heads, state = setup(
        const_from_start=False, qfa_start=0.5, qfa_schedule="from_start"
    )
    assert run(config, heads, state, step=1)[1].sum() == 0
    assert run(config, heads, state, step=9)[1].sum() == 2


def test_starts_with_qfa_if_configured():
    assert run(*setup(), step=0)[1].sum() == 2   # unless configured: from the first step
    config, heads, state = setup(const_from_start=False, qfa_start=0.5)
    each, counted, after = run(config, heads, state, step=1)
    assert each.sum() == counted.sum() == 0
    assert after["pointer"] == 2  # the queue fills meanwhile
    assert run(config, heads, state, step=9)[1].sum() == 2


STEPS, VIDEOS, SAMPLES, WIDTH = 600, 256, 8, 32


@functools.cache
def trained(key):
    """Trains the heads, and a layer below each, on fixed pairs of features of 256 videos.

    Returns the loss of every step, the norm of its gradient into the pooled features, and the last
    loss if each query meets the pooled features of another video.
    """
    config = QvimConfig(channels=WIDTH, queue=128, contrast_dim=8, pos_key=key)
    heads, state = constraint.init(config, jax.random.key(0))
    latent = jax.random.normal(jax.random.key(1), (VIDEOS, WIDTH))
    mix = jax.random.normal(jax.random.key(2), (WIDTH, WIDTH))
    features = {"query": latent, "pooled": jnp.tanh(latent @ mix / WIDTH**0.5)}
    params = {"heads": heads, "below": {name: jnp.eye(WIDTH) for name in features}}
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))

    def loss(params, pooled, state, videos, moved):
        query = (features["query"] @ params["below"]["query"])[jnp.roll(videos, moved)]
        batch = {"video": videos, "valid": jnp.ones(SAMPLES, bool)}
        pooled = pooled @ params["below"]["pooled"]
        each, _, state = run(config, params["heads"], state, pooled, query, batch=batch)
        return each.mean(), state

    def step(carry, key):
        params, optimum, state = carry
        videos = jax.random.permutation(key, VIDEOS)[:SAMPLES]
        pooled = features["pooled"][videos]
        shuffled, _ = loss(params, pooled, state, videos, 1)
        (value, state), (gradient, by_pooled) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            params, pooled, state, videos, 0)
        updates, optimum = optimizer.update(gradient, optimum)
        carry = optax.apply_updates(params, updates), optimum, state
        return carry, (value, jnp.linalg.norm(by_pooled), shuffled)

    carry = params, optimizer.init(params), state
    _, curves = jax.jit(lambda c: jax.lax.scan(step, c, jax.random.split(jax.random.key(3), STEPS))
                        )(carry)
    return [np.asarray(curve) for curve in curves]


def test_the_loss_falls_and_does_not_rise_as_the_rate_falls_to_0():
    value, _, _ = trained("both")
    parts = value.reshape(6, -1).mean(1)
    assert parts[-1] < 0.3 * parts[0]
    assert (np.diff(parts) < 0.05).all(), parts


def test_the_gradient_into_the_visual_features_does_not_vanish():
    norm = trained("both")[1]
    assert norm[290:310].mean() > 0.05 * norm[:20].mean()
    assert norm[290:310].mean() > 1.5 * trained("online")[1][290:310].mean()
    assert (trained("momentum")[1] == 0).all()


def test_the_loss_cannot_be_lowered_without_the_videos():
    """Positive and negatives come from one encoder, so which encoder made a key says nothing."""
    excess = {key: (trained(key)[2] - trained(key)[0])[-100:].mean() for key in ("both", "online")}
    assert excess["both"] > 5
    assert excess["online"] < 0.2 * excess["both"]
