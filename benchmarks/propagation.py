"""Mask propagation through the user API: frames/s, latency, memory, adaptation, long videos.

    python -m benchmarks.propagation [--size 480 854] [--objects 1 3] [--output rows.json]
    python -m benchmarks.propagation --video 2000 --size 96 160 --networks swiftnet-18

Random weights, full width, synthetic frames. Each row runs in a process of its own, so that its
peak memory is separate. Times include the host's work: resizing, and probabilities at the frame's
size. A frame costs more as the memory fills; `--frames 110` measures it full, and takes longer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import harness
from vseg_jax.inference import Segmentation, Segmenter
from vseg_jax.models.swiftnet import Swiftnet, SwiftnetConfig

NETWORKS = {
    "stm-50": {"network": "stm"}, "swiftnet-50": {}, "swiftnet-18": {"depth": 18},
    "swiftnet-lite0": {"backbone": "efficientnet_lite0"},
}
ADAPTATION = 50  # steps, as in the paper


class Counted:
    """Counts how often a model's functions are traced; a mixin in front of the model's class."""

    traces = 0

    def start(self, *inputs):
        self.traces += 1
        return super().start(*inputs)

    def first_step(self, *inputs):
        self.traces += 1
        return super().first_step(*inputs)

    def step(self, *inputs):
        self.traces += 1
        return super().step(*inputs)


class CountedSwiftnet(Counted, Swiftnet):
    pass


def main() -> None:
    args = _arguments()
    keys = [(network, objects) for network in args.networks
            for objects in ([1] if args.video else args.objects)]
    harness.report_apart(
        args, "benchmarks.propagation", keys,
        lambda network, objects: (video if args.video else measure)(args, network, int(objects)))


def measure(args: argparse.Namespace, network: str, objects: int) -> dict[str, Any]:
    """Times one network with a number of objects, through a session."""
    before = harness.memory()
    frames, mask = synthetic_video(args.frames, args.size, objects)
    row = timed(_segmenter(args, network, objects), frames, before, mask=mask)
    adapting = _segmenter(args, network, objects, adaptation_steps=args.adaptation)

    def adapt():
        return jax.block_until_ready(adapting.start(frames[0], mask=mask)._state)

    first, adapted = harness.seconds(adapt), harness.seconds(adapt)
    return {
        "network": network, "objects": objects, **row,
        f"{args.adaptation} steps, s": round(adapted - row["start, ms"] / 1e3, 2),
        "compile with adaptation, s": round(first - adapted, 1),
    }


def timed(
    segmenter: Segmenter, frames: np.ndarray, before: float, **prompt: Any
) -> dict[str, Any]:
    """Times a stream through the user API and measures its memory.

    Args:
      segmenter: not used before, so that it compiles here.
      frames: of the video, [T, H, W, 3].
      before: `harness.memory` before the segmenter was created; the peak is relative to it.
      prompt: of the first frame.
    """

    def start():
        return jax.block_until_ready(segmenter.start(frames[0], **prompt)._state)

    compiling = harness.seconds(lambda: segmenter.start(frames[0], **prompt).step(frames[1]))
    harness.forget_peak()
    started = harness.seconds(start)
    session = segmenter.start(frames[0], **prompt)
    latency = [harness.seconds(lambda f=frame: session.step(f)) for frame in frames[1:]]
    # As in typical use: a prediction is dropped before the next one.
    through = harness.seconds(lambda: sum(1 for _ in segmenter.segment(frames, **prompt)))
    peak = harness.memory(peak=True) - before
    median = float(np.median(latency))
    return {
        "size": f"{frames.shape[1]}x{frames.shape[2]}",
        "frames/s": round((len(frames) - 1) / (through - started), 2),
        "median, ms": round(median * 1e3, 1),
        "95th, ms": round(float(np.percentile(latency, 95)) * 1e3, 1),
        "peak, MiB": round(peak),
        "start, ms": round(started * 1e3, 1),
        "compile, s": round(compiling - started - median, 1),
    }


def video(args: argparse.Namespace, network: str, objects: int) -> dict[str, Any]:
    """Measures a long video in which a second object enters at frame 50."""
    del objects
    frames, mask = synthetic_video(16, args.size, 2)
    segmenter = _segmenter(args, network, 2)
    masks = {0: np.where(mask == 1, 1, 0), 50: np.where(mask == 2, 2, 0)}
    predictions = segmenter.segment(endless(frames, args.video), masks=masks)
    return {"network": network, **lasting(predictions, segmenter.model, args.video)}


def endless(frames: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yields `count` frames by repeating a short video."""
    for t in range(count):
        yield frames[t % len(frames)].copy()


def lasting(predictions: Iterator[Segmentation], model: Counted, count: int) -> dict[str, Any]:
    """Measures memory and compiled programs over a video of `count` frames."""
    early, late = min(100, count // 2), count - 2   # one more frame is in flight both times
    read, started = {}, 0.0
    for prediction in predictions:
        if prediction.frame in (early, late):
            read[prediction.frame] = harness.memory(), len(jax.live_arrays()), model.traces
            started, ended = started or harness.clock(), harness.clock()
    (mib, arrays, traces), (mib_late, arrays_late, traces_late) = read[early], read[late]
    return {
        "size": f"{prediction.image.shape[0]}x{prediction.image.shape[1]}", "frames": count,
        f"MiB at frame {early}": round(mib), "MiB at the end": round(mib_late),
        "device arrays": f"{arrays}, {arrays_late}", "programs": f"{traces}, {traces_late}",
        "frames/s": round((late - early) / (ended - started), 2),
    }


def synthetic_video(
    count: int, size: tuple[int, int], objects: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes moving over noise: frames [T, H, W, 3] and the first one's mask [H, W]."""
    random = np.random.default_rng(0)
    height, width = size
    frames = random.integers(0, 80, (count, height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    tall, wide = height // 3, width // (objects + 1)
    for n in range(objects):
        for t in range(count):
            at = np.s_[tall:2 * tall, n * wide + t % 8:(n + 1) * wide - 8 + t % 8]
            frames[t][at] = random.integers(100, 255, 3) if t == 0 else frames[0][tall, n * wide]
            if t == 0:
                mask[at] = n + 1
    return frames, mask


def _segmenter(args: argparse.Namespace, network: str, objects: int, **changes) -> Segmenter:
    model = CountedSwiftnet(
        SwiftnetConfig(**NETWORKS[network], width=args.width, objects=objects, **changes))
    return Segmenter(model, jax.jit(model.init)(jax.random.key(0), {}))


def _arguments() -> argparse.Namespace:
    parser = harness.arguments(__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", nargs=2, type=int, default=(480, 854), help="height and width")
    parser.add_argument("--objects", nargs="+", type=int, default=(1, 3))
    parser.add_argument("--frames", type=int, default=24, help="of the timed video")
    parser.add_argument("--width", type=int, default=64, help="of the stem; the paper's is 64")
    parser.add_argument("--adaptation", type=int, default=ADAPTATION, help="steps")
    parser.add_argument("--video", type=int, default=0,
                        help="measure a long video of this many frames")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
