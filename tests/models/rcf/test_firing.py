"""Which slots have an object: duplicates, and a lower threshold for those that had one before."""

from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rcf import build, make_batch

from vseg_jax.models.rcf import RcfConfig
from vseg_jax.models.rcf.firing import firing, without_duplicates
from vseg_jax.models.rcf.network import Output
from vseg_jax.models.rcf.streaming import Stream

SCORES = np.float32([0.5, 0.3, 0.1, 0.7])


def boxes(*places):
    """A mask of 4 x 4 for each slot, at columns `places` of a strip."""
    masks = np.zeros((len(places), 4, 40), bool)
    for mask, place in zip(masks, places, strict=True):
        mask[:, place : place + 4] = True
    return masks


def found(masks, before=None, **switches):
    probabilities = jnp.stack([SCORES, 0.05 * SCORES, 1 - 1.05 * SCORES], axis=-1)
    there = firing(RcfConfig(queries=4, **switches), probabilities, jnp.asarray(masks), before)
    return there.tolist()


def test_the_defaults_keep_every_probable_slot():
    before = jnp.array([True] * 4)
    assert found(boxes(0, 0, 0, 0)) == [True, False, False, True]
    assert found(boxes(0, 0, 0, 0), before) == [True, False, False, True]


def test_a_slot_keeps_its_object_at_a_lower_probability():
    apart = boxes(0, 8, 16, 24)
    assert found(apart, jnp.array([True] * 4), keep=0.2) == [True, True, False, True]
    assert found(apart, jnp.array([False] * 4), keep=0.2) == [True, False, False, True]
    assert found(apart, keep=0.2) == [True, False, False, True], "a single frame"


def test_the_most_probable_of_several_masks_of_an_object_remains():
    # Slot 0 overlaps slot 3 by 3 / 5; slot 3 is more probable.
    assert found(boxes(1, 8, 16, 0), duplicate_iou=0.5) == [False, False, False, True]
    assert found(boxes(1, 8, 16, 0), duplicate_iou=0.6) == [True, False, False, True], "not above"
    # A slot that is dropped drops no other one: 2 overlaps 1, which 0 has dropped.
    there = without_duplicates(
        jnp.array([True] * 3), jnp.array([0.9, 0.8, 0.7]), jnp.asarray(boxes(0, 1, 2)), 0.5)
    assert there.tolist() == [True, False, True], "0 and 2 have an IoU of 1 / 3"
    # A slot without an object drops none.
    there = without_duplicates(
        jnp.array([False, True]), jnp.array([0.9, 0.8]), jnp.asarray(boxes(0, 0)), 0.5)
    assert there.tolist() == [False, True]


def outputs(frames):
    """Returns an iterator over outputs of the network for probabilities and places of slots."""
    for p, places in frames:
        classes = jnp.log(jnp.stack([jnp.float32(p), 1 - jnp.float32(p)], -1))
        masks = np.pad(18.0 * boxes(*places) - 9, ((0, 0), (0, 4), (0, 0)))   # to a multiple of 32
        yield Output(classes[None, None], jnp.float32(masks)[None, None], None)


class GivenOutputs(nn.Module):
    """Stands in for the network."""

    outputs: Any

    @nn.nowrap
    def apply(self, variables, *inputs, method=None, **options):
        return (jnp.zeros((1, 1, 1, 8)),) * 4 if method == "encode" else next(self.outputs)


def test_a_stream_with_all_switches():
    """Slot 0 is in doubt, then gone; later slots 1 and 2 show its object where it was."""
    frames = [((0.9, 0.1, 0.1), (0, 20, 30)), ((0.3, 0.25, 0.1), (1, 20, 30)),
              ((0.1, 0.1, 0.1), (1, 20, 30)), ((0.3, 0.5, 0.45), (10, 2, 2))]
    picture = jnp.zeros((16, 160, 3), jnp.uint8)

    def identities(**switches):
        config = RcfConfig(categories=1, references=0, queries=3, **switches)
        stream = Stream(config, GivenOutputs(outputs(frames)), {})
        state, prediction = stream.first_step(picture, None)
        found = [prediction.identities.tolist()]
        for _ in frames[1:]:
            state, prediction = stream.step(state, picture, None)
            found.append(prediction.identities.tolist())
        return found

    nobody = [-1, -1, -1]
    assert identities() == [[0, -1, -1], nobody, nobody, [-1, 1, 2]]
    assert identities(keep=0.2, duplicate_iou=0.5, override_frames=2) == [
        [0, -1, -1], [0, -1, -1], nobody, [-1, 0, -1]]
    assert identities(keep=0.2, duplicate_iou=0.5)[3] == [-1, 1, -1], "hidden in one frame"


def test_the_switches_change_no_shape_and_can_be_exported():
    model = build(keep=0.2, duplicate_iou=0.5, override_frames=4)
    frame = jax.ShapeDtypeStruct((32, 48, 3), jnp.uint8)
    variables = jax.eval_shape(model.init, jax.random.key(0), make_batch())
    state = jax.eval_shape(model.start, variables, frame)
    exported = jax.export.export(jax.jit(model.step))(variables, state, frame)
    after, _ = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state)


@pytest.mark.parametrize("wrong", [
    {"keep": 0.5}, {"keep": -0.1}, {"duplicate_iou": 0.0}, {"duplicate_iou": 1.5},
    {"override_frames": 0}])
def test_wrong_switches_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RcfConfig(**wrong)
