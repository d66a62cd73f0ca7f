"""Clips per second of the input pipeline, compared with a torch DataLoader on the same images.

    python -m benchmarks.loader [--workers 0 2] [--output rows.json]

A synthetic dataset of 480p JPEGs with index-PNG masks is written to a temporary folder, once as the
records of this library and once as loose files, as PyTorch projects read them; the bytes are the
same. Both sides decode the 8 frames and 8 masks of a clip with OpenCV, resize them to 320x320 and
batch 4 clips in random order. A turn creates a loader, takes its first batch, then times the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from vseg_jax.input_pipeline.loader import train_batches
from vseg_jax.input_pipeline.records import (
    Expression,
    Object,
    Record,
    encode_image,
    encode_mask,
    open_dataset,
)
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.input_pipeline.video_builder import VideoBuilder

VIDEOS, FRAMES, HEIGHT, WIDTH = 6, 24, 480, 854
BATCH, SIDE = 4, 320
CLIP = ClipConfig(length=8, stride=2, target=4, height=SIDE, width=SIDE)


class Builder(VideoBuilder):
    """The synthetic videos as records."""

    name = "benchmark"

    def splits(self):
        return {"train": (record(number) for number in range(VIDEOS))}


def record(number: int) -> Record:
    """Returns a textured disc moving over a textured ground, in JPEGs of about 75 kB."""
    random = np.random.default_rng(number)

    def texture():
        coarse = random.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    ground, paint = cv2.GaussianBlur(texture(), (0, 0), 3), cv2.GaussianBlur(texture(), (0, 0), 2)
    frames, masks = [], []
    for t in range(FRAMES):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.circle(mask, (100 + 25 * t, 240), 90, 1, -1)
        image = np.where(mask[..., None] == 1, paint, np.roll(ground, 3 * t, axis=1))
        frames.append(encode_image(image, quality=90))
        masks.append(encode_mask(mask))
    return Record(
        f"video{number}", frames, masks, HEIGHT, WIDTH, fps=24.0, objects=[Object(1, "disc")],
        expressions=[Expression("a disc that moves to the right", 1)],
    )


class LooseFiles(torch.utils.data.Dataset):
    """A typical PyTorch dataset: one file per frame, one file per mask."""

    def __init__(self, folder: Path, tokenizer: WordTokenizer):
        self.folder = folder
        self.tokens = tokenizer.encode("a disc that moves to the right")
        cv2.setNumThreads(0)

    def __len__(self) -> int:
        return VIDEOS * FRAMES

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        video, frame = divmod(i, FRAMES)
        frames, masks = [], []
        chosen = np.clip(frame + (np.arange(8) - 4) * 2, 0, FRAMES - 1)
        distinct, place = np.unique(chosen, return_inverse=True)
        for t in distinct:
            stem = self.folder / f"video{video}_{t:05d}"
            image = cv2.imread(f"{stem}.jpg", cv2.IMREAD_COLOR_RGB)
            frames.append(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
            mask = cv2.imread(f"{stem}.png", cv2.IMREAD_UNCHANGED)
            masks.append(cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT))
        tokens, valid = self.tokens
        return {
            "frames": np.stack(frames)[place], "masks": np.stack(masks)[place],
            "tokens": tokens, "tokens_valid": valid,
        }


def make(folder: Path) -> tuple[ReferringSamples, LooseFiles]:
    """Writes both datasets with the same bytes."""
    prepared = Builder(folder, folder / "records").build()
    dataset = open_dataset(prepared, "train")
    loose = folder / "loose"
    loose.mkdir()
    for video in range(VIDEOS):
        stored = dataset[video]
        for t, (image, mask) in enumerate(zip(stored.frames, stored.masks, strict=True)):
            (loose / f"video{video}_{t:05d}.jpg").write_bytes(image)
            (loose / f"video{video}_{t:05d}.png").write_bytes(mask)
    sentences = [e.text for entry in dataset.index for e in entry.expressions]
    tokenizer = WordTokenizer.from_texts(sentences, 20)
    samples = ReferringSamples(dataset, CLIP, tokenizer, train=True)
    return samples, LooseFiles(loose, tokenizer)


def ours(samples: ReferringSamples, workers: int, batches: int) -> float:
    """Returns the clips per second of one turn of this library's loader."""
    iterator = train_batches(samples, BATCH, seed=0, workers=workers)
    rate = clips_per_second(iterator, batches)
    iterator.close()
    return rate


def peers(files: LooseFiles, workers: int, batches: int) -> float:
    """Returns the clips per second of one turn of a torch DataLoader."""
    sampler = torch.utils.data.RandomSampler(
        files, replacement=True, num_samples=BATCH * (batches + 1)
    )
    loader = torch.utils.data.DataLoader(
        files, BATCH, sampler=sampler, num_workers=workers, drop_last=True
    )
    return clips_per_second(iter(loader), batches)


def clips_per_second(iterator, batches: int) -> float:
    """Measures the batches after the first one, which also waits for the workers to start."""
    shape = next(iterator)["frames"].shape
    if tuple(shape) != (BATCH, 8, SIDE, SIDE, 3):
        raise ValueError(f"a batch has the shape {tuple(shape)}")
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * BATCH / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batches", type=int, default=30, help="timed in each turn")
    parser.add_argument("--output", type=Path, help="also write the rows to this JSON file")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        samples, files = make(Path(folder))
        print("| workers | ours, clips/s | torch DataLoader, clips/s | ours / torch |")
        print("|---|---|---|---|")
        for workers in args.workers:
            rates = [
                (ours(samples, workers, args.batches), peers(files, workers, args.batches))
                for _ in range(args.turns)
            ]
            a, b = (statistics.median(side) for side in zip(*rates, strict=True))
            rows.append({"workers": workers, "ours": a, "torch": b, "ratio": a / b})
            print(f"| {workers} | {a:.1f} | {b:.1f} | {a / b:.2f} |", flush=True)
    if args.output:
        partial = args.output.with_name(args.output.name + ".partial")
        partial.write_text(json.dumps(rows, indent=2) + "\n")
        os.replace(partial, args.output)


if __name__ == "__main__":
    main()
