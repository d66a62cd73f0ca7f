"""Seeded weights and a short synthetic video for STM and SwiftNet, ours and the public ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import seeded

from vseg_jax.models.swiftnet import memory
from vseg_jax.models.swiftnet.network import StmNetwork, SwiftNetwork
from vseg_jax.weights import swiftnet

OURS = {"STM": StmNetwork(50), "SwiftNet": SwiftNetwork(18)}
# Factors of the seeded weights. Without them activations grow from block to block until all
# affinities and probabilities are 0 or 1, where no difference could show.
GAINS = {
    "STM": (
        (r"res\d\.\d+\.bn3\.weight", 0.3), (r"conv1_[mo]\.weight", 4.0),
        (r"\.Key\.weight", 0.03), (r"pred2\.weight", 0.05),
    ),
    "SwiftNet": (
        (r"Encoder\.res\d\.\d+\.bn2\.weight", 0.3), (r"conv1_[mo]\.weight", 4.0),
        (r"conv_fusion\d\.weight", 0.7), (r"conv2_[mo]\.weight", 2.0),
        (r"KV_M_r4\.Key\.weight", 0.3), (r"KV_Q_r4\.Key\.weight", 0.1), (r"pred2\.weight", 0.2),
    ),
}
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def state_dict(repository: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns public key -> array; the color statistics are those of ImageNet."""
    state = seeded.state_dict(shapes)
    for key in state:
        for pattern, gain in GAINS[repository]:
            if re.search(pattern, key):
                state[key] = (state[key] * gain).astype(np.float32)
        for ending, value in ((".mean", MEAN), (".std", DEVIATION)):
            if key.endswith(ending):
                state[key] = value.reshape(shapes[key])
    return state


def video(frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 frames [T, H, W, 3] with two moving patterned discs, and masks [T, H, W]."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    ground = random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    ground = ground.repeat(4, 0).repeat(4, 1)[:height, :width]
    images, masks = [], []
    for t in range(frames):
        image, mask = np.roll(ground, t, axis=1), np.zeros((height, width), np.uint8)
        for slot, (cy, cx) in enumerate(((0.4 + 0.02 * t, 0.3), (0.5, 0.7 - 0.03 * t)), start=1):
            dy, dx = y - cy * height, x - cx * width
            inside = dy**2 + dx**2 < (0.2 * height + slot) ** 2
            pattern = 128 + 120 * np.sin(0.5 * slot * dy)[..., None] * np.float32([1, slot - 2, 0])
            image, mask = np.where(inside[..., None], pattern, image), np.where(inside, slot, mask)
        images.append(image)
        masks.append(mask)
    return np.stack(images).astype(np.uint8), np.stack(masks).astype(np.uint8)


def example(height: int, width: int) -> tuple[np.ndarray, ...]:
    """Returns a frame in [0, 1], its soft masks (exact in float32), the others', and a query."""
    frames, masks = video(2, height, width)
    soft = np.stack([masks[:1] == slot for slot in (1, 2)], axis=1) * 0.75 + 0.125
    return frames[:1] / 255, soft, soft[:, ::-1].copy(), frames[1:] / 255


def prepared(example: tuple[np.ndarray, ...], dtype: type) -> list[jax.Array]:
    """Converts an example to the input of our networks."""
    frame, masks, others, query = (x.astype(dtype) for x in example)
    mean, deviation = MEAN.astype(dtype), DEVIATION.astype(dtype)
    frame, query = (frame - mean) / deviation, (query - mean) / deviation
    return [jnp.asarray(x) for x in (frame, masks, others, query)]


def variables(repository: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Converts the seeded weights to our variables."""
    shape = (1, 32, 32, 3), (1, 2, 32, 32), (1, 2, 32, 32)
    inputs = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shape]
    like = jax.eval_shape(lambda *x: OURS[repository].init(jax.random.key(0), *x), *inputs)
    return swiftnet.from_public(state_dict(repository, shapes), like)


def plain_read(query, keys, values, valid):
    """Computes `memory.read` where everything is valid, in any precision."""
    scores = jnp.einsum("qk,nmk->nqm", query, keys) / query.shape[-1] ** 0.5
    return jax.nn.softmax(scores) @ values


def remember_and_read(network, variables, frame, masks, others, query, read=memory.read):
    """Does the same as in references.py with our network; also returns all module outputs."""
    captured, count = {}, masks.shape[1]

    def call(method, *inputs):
        out, kept = network.apply(
            variables, *inputs, method=method, capture_intermediates=True, mutable="intermediates"
        )
        for path, leaf in jax.tree.leaves_with_path(kept["intermediates"]):
            captured["/".join(str(step.key) for step in path[:-2])] = leaf
        return out

    before = call("encode", frame)
    x = call("fuse", before, frame, masks, others)
    key, value = call("memorize", x)
    features = call("encode", query)
    query_key, query_value = call("query", features)
    flat = [t[0].reshape(count, -1, t.shape[-1]) for t in (key, value)]
    valid = jnp.ones(flat[0].shape[:2], bool)
    content = read(query_key.reshape(-1, query_key.shape[-1]), *flat, valid)
    content = content.reshape(1, count, *query_value.shape[1:])
    probability = call("decode", content, query_value, features)[0]
    maps = {**features._asdict(), "fused": x[0], "memory key": key[0], "memory value": value[0],
            "query key": query_key, "query value": query_value, "probability": probability}
    return probability, maps, captured
