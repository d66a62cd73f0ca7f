"""Compares RAFT with its public weights and code, on real and synthetic frames."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import raft_reference  # noqa: E402
import references  # noqa: E402

from vseg_jax.input_pipeline.flow import flow_to_image  # noqa: E402
from vseg_jax.weights import raft  # noqa: E402

ROOT = references.folder()
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(ROOT is None, reason="VSEG_REFERENCES is not set"),
]
SIZE = (128, 192)  # the public code needs sides of at least 128


def pairs() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields (name, two frames).

    They are synthetic (one size is not a multiple of 8), the repository's own, and the first of
    each video in the folder that VSEG_VIDEOS names.
    """
    yield "synthetic", *raft_reference.synthetic_pair(*SIZE)
    yield "padded", *raft_reference.synthetic_pair(131, 197)
    demo = [cv2.imread(str(ROOT / f"RAFT/demo-frames/frame_00{n}.png")) for n in (16, 17)]
    yield "demo-frames", *(small(frame[..., ::-1]) for frame in demo)
    for path in sorted(Path(os.environ["VSEG_VIDEOS"]).glob("*.mp4")) if videos() else ():
        from vseg_jax.media.video import Video

        frames = [frame for _, frame in zip(range(3), Video(path), strict=False)]
        yield path.name, small(frames[0]), small(frames[2])


def videos() -> bool:
    return "VSEG_VIDEOS" in os.environ


def small(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA)[None]


@pytest.mark.parametrize("variant", ["small", "large"])
def test_public_weights(variant):
    path = raft_reference.public_weights(ROOT, variant)
    if not path.is_file():
        pytest.skip(f"{path} is missing: get it with download_models.sh of the public code")
    network, variables = raft.load(path)
    assert network.variant == variant
    peer = raft_reference.network(ROOT, variant)
    state = torch.load(path, map_location="cpu", weights_only=True)
    peer.load_state_dict({key.removeprefix("module."): x for key, x in state.items()})
    run = jax.jit(lambda v, *frames: network.apply(v, *frames, every=True))
    for name, *frames in pairs():
        theirs = raft_reference.flow(peer, ROOT, *frames)
        difference = np.linalg.norm(run(variables, *frames) - theirs, axis=-1)
        print(f"{variant} {name}: mean {difference[-1].mean():.1e}, largest "
              f"{difference.max():.1e}, mean flow {np.linalg.norm(theirs[-1], axis=-1).mean():.2f}")
        assert difference.mean(axis=(1, 2, 3)).max() < 1e-3, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flow_images_are_equal(dtype):
    viz = raft_reference.module(ROOT, "utils.flow_viz")
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1, 30):
        flow = (scale * rng.normal(size=(90, 120, 2))).astype(dtype)
        np.testing.assert_array_equal(flow_to_image(flow), viz.flow_to_image(flow))
