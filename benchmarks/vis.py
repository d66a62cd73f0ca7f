"""Online video instance segmentation (rcf) through the user API, at 640x360, one video.

    python -m benchmarks.vis [--networks resnet-50 resnet-101 swin-b] [--output rows.json]
    python -m benchmarks.vis --video 2000 --size 96 160 --networks resnet-50
    python -m benchmarks.vis --sessions 8 --networks resnet-50

Random weights, the paper's widths, float32, synthetic frames. Each row runs in a process of its
own, so that its peak memory is separate. Times include the host's work in the worst case: every
slot has an object in every frame, so that ten maps are resized to the frame's size. The paper's
frames/s are those of its Table I, on a V100.

There is no public code of the complete system, so only the backbone, the largest part, has a peer:
ours (`encode`, with normalization and padding) and torchvision's ResNet or timm's Swin take turns,
on the CPU.

`--video` measures memory, programs and frames/s of a long video in which objects enter and leave.
`--sessions` compares a number of videos in one session of `Segmenter.start_many`, a single vmapped
program, with the same number of separate sessions, in turns.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import harness
from benchmarks.propagation import Counted, endless, lasting, synthetic_video, timed
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.models.rcf import Rcf, RcfConfig
from vseg_jax.models.rcf.config import STRIDE

NETWORKS = {
    "resnet-50": {"depth": 50}, "resnet-101": {"depth": 101},
    "swin-b": {"backbone": "swin", "swin": "base"},
}
PAPER = {"resnet-101": 23.9, "swin-b": 9.0}  # frames/s of Table I; ResNet-50 is not in it
SMALL = {
    "width": 16, "swin": "tiny", "window": 7, "channels": 32, "heads": 4, "hidden": 64,
    "encoder_layers": 1, "decoder_layers": 1, "mask_channels": 16,
}
ALWAYS = 1e-6  # threshold of the class probability that every slot exceeds


class CountedRcf(Counted, Rcf):
    pass


def main() -> None:
    args = _arguments()
    mode = video if args.video else together if args.sessions else measure
    harness.report_apart(args, "benchmarks.vis", [(network,) for network in args.networks],
                         lambda network: {"network": network, **mode(args, network)})


def measure(args: argparse.Namespace, network: str) -> dict[str, Any]:
    """Measures one video, and compares the backbone with its peer."""
    before = harness.memory()
    frames = synthetic_video(args.frames, args.size, 3)[0]
    segmenter = _segmenter(args, network, ALWAYS)
    row = timed(segmenter, frames, before)
    network_of, variables, frame = segmenter.model.network, segmenter.variables, frames[:1]
    encode = jax.jit(lambda v, x: network_of.apply(v, x, train=False, method="encode"))
    backbone = harness.compare(network, lambda: encode(variables, frame),
                               peer(network, args.size), args.repeats)
    return {
        **row, "objects": len(segmenter.start(frames[0]).first.ids),
        "paper's frames/s (V100)": PAPER.get(network, "-"),
        "backbone, ms": round(backbone.ours_ms, 1),
        "torch, ms": _rounded(backbone.peer_ms, 1), "ours / torch": _rounded(backbone.ratio, 2),
    }


def peer(network: str, size: tuple[int, int]) -> Callable[[], object] | None:
    """Returns the backbone in PyTorch, on one frame padded as ours.

    Returns None without torch, or if ours runs on an accelerator.
    """
    try:
        import timm
        import torch
        import torchvision
    except ImportError:
        return None
    if jax.default_backend() != "cpu":
        return None
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    padded = tuple(-(-n // STRIDE) * STRIDE for n in size)
    if network == "swin-b":
        model = timm.create_model("swin_base_patch4_window12_384", pretrained=False,
                                  features_only=True, img_size=padded)
    else:
        whole = getattr(torchvision.models, network.replace("-", ""))()
        model = torch.nn.Sequential(*list(whole.children())[:-2])   # without mean and classifier
    model.eval()
    picture = torch.rand(1, 3, *padded)
    return torch.inference_mode()(lambda: model(picture))


def video(args: argparse.Namespace, network: str) -> dict[str, Any]:
    """Measures a long video in which objects enter and leave.

    The number of boxes changes, and the threshold is the median score, so that half of the random
    network's predictions are "no object".
    """
    frames = np.concatenate([synthetic_video(4, args.size, boxes)[0] for boxes in (1, 3, 2, 4)])
    every = _segmenter(args, network, ALWAYS)
    median = np.median([prediction.scores for prediction in every.segment(frames)])
    segmenter = _segmenter(args, network, float(median))
    seen: list[tuple[int, ...]] = []

    def watched():
        for prediction in segmenter.segment(endless(frames, args.video)):
            seen.append(prediction.ids)
            yield prediction

    row = lasting(watched(), segmenter.model, args.video)
    counts = [len(ids) for ids in seen]
    entered = sum(len(set(b) - set(a)) for a, b in itertools.pairwise(seen))
    return {**row, "objects": f"{min(counts)} to {max(counts)}", "entered": entered,
            "identities": len(set().union(*seen))}


def together(args: argparse.Namespace, network: str) -> dict[str, Any]:
    """Compares videos that advance as one program with videos that advance one by one."""
    frames = synthetic_video(16, args.size, 3)[0]
    videos = [np.roll(frames, 8 * k, axis=2) for k in range(args.sessions)]
    segmenter = _segmenter(args, network, ALWAYS)
    many = segmenter.start_many([f[0] for f in videos])
    alone = [segmenter.start(f[0]) for f in videos]
    ours, theirs = itertools.count(1), itertools.count(1)   # position of each side

    def step_many():
        t = next(ours) % len(frames)
        return many.step([f[t] for f in videos])

    def step_each():
        t = next(theirs) % len(frames)
        return [session.step(f[t]) for session, f in zip(alone, videos, strict=True)]

    row = harness.compare(network, step_many, step_each, args.repeats)
    return {
        "size": f"{args.size[0]}x{args.size[1]}", "sessions": args.sessions,
        "together, frames/s": round(args.sessions * 1e3 / row.ours_ms, 2),
        "one by one, frames/s": round(args.sessions * 1e3 / row.peer_ms, 2),
        "times as fast": round(1 / row.ratio, 2),
        "together, MiB": _rounded(row.ours_mib, 0), "one by one, MiB": _rounded(row.peer_mib, 0),
        "compile, s": round(row.compile_s, 1),
    }


def _segmenter(args: argparse.Namespace, network: str, fire: float) -> Segmenter:
    small = SMALL if args.small else {}
    config = RcfConfig(**{**NETWORKS[network], **small, "fire": fire})
    model = CountedRcf(config)
    clip = ClipConfig(height=args.size[0], width=args.size[1])
    return Segmenter(model, jax.jit(model.init)(jax.random.key(0), {}), clip=clip,
                     categories=[f"category {n}" for n in range(config.categories)])


def _rounded(value: float | None, digits: int) -> float | str:
    return "-" if value is None else round(value, digits or None)


def _arguments() -> argparse.Namespace:
    parser = harness.arguments(__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", nargs=2, type=int, default=(360, 640), help="height and width")
    parser.add_argument("--frames", type=int, default=24, help="of the timed video")
    parser.add_argument("--video", type=int, default=0,
                        help="measure a long video of this many frames")
    parser.add_argument("--sessions", type=int, default=0, help="measure this many videos together")
    parser.add_argument("--small", action="store_true",
                        help="narrow networks, to try this out; their peers remain wide")
    parser.add_argument("--row", nargs=1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
