"""Batches of static shape from samples, with grain: shards, workers, checkpointable state."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import cv2
import grain
import numpy as np
from absl import flags

ENDLESS = 2**48  # samples; grain's own endless repetition overflows with batches of one sample


@runtime_checkable
class Samples(Protocol):
    """The interface of a set of samples; must be picklable."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> dict[str, np.ndarray]: ...

    def sample(self, i: int, rng: np.random.Generator, step: int) -> dict[str, np.ndarray]:
        """Returns sample `i`, augmented with `rng` as suits training step `step`."""
        ...


def train_batches(
    samples: Samples | Sequence[tuple[Samples, float]], batch_size: int, seed: int = 0,
    workers: int = 0, process_index: int = 0, process_count: int = 1,
) -> grain.DatasetIterator:
    """Returns endless shuffled, augmented batches: this process's share of each global batch.

    Each sample gets the number of its global batch (`step`, from 0), for augmentation that grows
    during training. The global batches depend neither on `workers` nor on the number of processes
    that share them. `get_state` and `set_state` (or `grain.checkpoint`) save and restore the
    iterator's position; a state is valid for one number of workers and processes.

    Args:
      samples: see `Samples`; or several with their weights. A weight is a set's share of the
        samples, which holds exactly over a few batches; each set is shuffled and repeated by
        itself, and `video` and `sample` count within it.
      batch_size: over all processes.
      seed: of order and augmentation.
      workers: worker processes; 0 loads in threads of this process.
      process_index: number of this process.
      process_count: processes that share the batch.

    Raises:
      ValueError: the batch cannot be shared by the processes, or a weight is not above 0.
    """
    _check_shares(batch_size, process_index, process_count)
    mixture = [(samples, 1.0)] if hasattr(samples, "sample") else list(samples)
    if not mixture or not all(weight > 0 for _, weight in mixture):
        raise ValueError("a mixture needs sets of samples with weights above 0, got the weights "
                         f"{[weight for _, weight in mixture]}")
    parts = [
        grain.MapDataset.range(len(part)).seed(seed + k).shuffle()
        .repeat(ENDLESS // max(1, len(part))).map(_Of(k))
        for k, (part, _) in enumerate(mixture)
    ]
    draw = _Draw([part for part, _ in mixture], batch_size)
    dataset = (
        grain.MapDataset.mix(parts, [weight for _, weight in mixture])
        .map_with_index(draw.place)
        .random_map(draw)
    )
    return _iterate(dataset, batch_size, workers, process_index, process_count)


def eval_batches(
    samples: Samples, batch_size: int, workers: int = 0,
    process_index: int = 0, process_count: int = 1,
) -> grain.DatasetIterator:
    """Returns batches with each sample exactly once over all processes, in order.

    Every batch has the same size: the last global batch is filled with the first sample and `valid`
    False. All processes get the same number of batches. Arguments as for `train_batches`.
    """
    _check_shares(batch_size, process_index, process_count)
    padded = -(-len(samples) // batch_size) * batch_size
    dataset = grain.MapDataset.range(padded).map(_Padded(samples))
    return _iterate(dataset, batch_size, workers, process_index, process_count)


class _Of:
    """Pairs a sample number with the number of its set; a class, so that it pickles."""

    def __init__(self, part: int):
        self._part = part

    def __call__(self, i: int) -> tuple[int, int]:
        return self._part, i


class _Draw:
    """Turns (set, sample number, step) into a sample; a class, so that it pickles."""

    def __init__(self, parts: list[Samples], batch_size: int):
        self._parts = parts
        self._batch_size = batch_size

    def place(self, position: int, element: tuple[int, int]) -> tuple[int, int, int]:
        """Returns (set, sample number, step) of an element at a position of the stream."""
        return *element, position // self._batch_size

    def __call__(
        self, element: tuple[int, int, int], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        part, i, step = element
        return self._parts[part].sample(i, rng, step)


class _Padded:
    """Replaces samples beyond the last one by the first, marked invalid; a class, to pickle."""

    def __init__(self, samples: Samples):
        self._samples = samples

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        if i < len(self._samples):
            return self._samples[i]
        return self._samples[0] | {"valid": np.bool_(False)}


def _iterate(dataset: Any, batch_size: int, workers: int, process_index: int,
             process_count: int) -> grain.DatasetIterator:
    # Sharded and batched as a MapDataset, so that batch k is the same for any number of workers.
    dataset = dataset[process_index::process_count].batch(batch_size // process_count)
    # The buffer holds batches, in every worker.
    reading = grain.ReadOptions(num_threads=1 if workers else 2, prefetch_buffer_size=2)
    iterable = dataset.to_iter_dataset(reading)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain hands absl's flags to its workers
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        iterable = iterable.mp_prefetch(options, worker_init_fn=_start_worker).map(_own)
    iterator = iter(iterable)
    if workers:  # workers that outlive the interpreter would leave shared memory behind
        atexit.register(_close, weakref.ref(iterator))
    return iterator


def _check_shares(batch_size: int, process_index: int, process_count: int) -> None:
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(f"batch size {batch_size} cannot be shared by {process_count} processes")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count}")


def _own(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies a batch out of the memory shared with a worker, which can then reuse it.

    An array that is still in shared memory when the interpreter ends would leave it behind.
    """
    return {name: np.array(value) for name, value in batch.items()}


def _start_worker(index: int, count: int) -> None:
    del index, count
    cv2.setNumThreads(1)  # the workers share the cores already


def _close(reference: weakref.ref) -> None:
    if (iterator := reference()) is not None:
        iterator.close()
