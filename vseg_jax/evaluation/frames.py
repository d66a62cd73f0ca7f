"""Referring segmentation of single frames: the samples of a dataset, on any number of devices.

A single compiled `predict` sees whole batches of clips; each prediction is scored at its frame's
own size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float
from PIL import Image

from vseg_jax.evaluation import runner
from vseg_jax.inference.geometry import inside, sigmoid, to_original
from vseg_jax.input_pipeline.loader import eval_batches
from vseg_jax.input_pipeline.records import Dataset
from vseg_jax.input_pipeline.samples import ReferringSamples, Truth
from vseg_jax.metrics.a2d import PRECISION_AT, A2DMetric, GroupedMetric
from vseg_jax.metrics.grounding import SCORES as GROUNDING
from vseg_jax.metrics.grounding import grounding, mean_scores
from vseg_jax.models.base import Model, Variables

TABLE = "predictions.json"  # of a saved evaluation
# By which a checkpoint can be chosen.
SCORES = (*(f"precision@{k}" for k in PRECISION_AT), "mAP", "overall_iou", "mean_iou", *GROUNDING)
COLUMNS = ("precision@0.5", "precision@0.7", "precision@0.9", "mAP", "overall_iou", "mean_iou")


def evaluate(
    model: Model,
    variables: Variables,
    samples: ReferringSamples,
    *,
    batch_size: int,
    protocol: str = "legacy",
    gt_roundtrip: bool = False,
    save: str | Path | None = None,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Returns the A2D scores of a model over all samples, on every process.

    Batches are sharded over the data axis of the mesh that `variables` lie on, or over all devices
    where they lie on none.

    Args:
      model: its object with the highest score is the prediction.
      variables: the model's collections.
      samples: without augmentation.
      batch_size: over all devices and processes; the last batch is padded.
      protocol: "legacy" or "coco", see `vseg_jax.metrics.a2d`.
      gt_roundtrip: whether to evaluate as CSTM does: the prediction is binarized at the input's
        size, the ground truth is resized to that size, and both are resized back as masks. This
        overrates thin objects.
      save: folder for the masks, in the layout that `vseg metrics a2d` scores;
        written atomically, in place of an earlier evaluation.
      workers: number of processes that read samples.
      progress: whether to show a progress bar.

    Returns:
      `protocol`; `GroupedMetric.result()`, grouped by "differs_in" and "category" where the dataset
      has these of its samples; the scores of `vseg_jax.metrics.grounding` over all samples and over
      each group; `sample_iou` and `sample_video`, lists with the IoU of each sample, rounded to 5
      digits, and the number of its video in the dataset.

    Raises:
      ValueError: the batch cannot be sharded over the devices, `save` is another folder or several
        processes would share it, or there is no such protocol.
    """
    scores = _Scores(protocol)
    videos = video_numbers(samples.dataset)
    with runner.start(samples.dataset.name, len(samples), "samples", save=save, progress=progress,
                      table=TABLE) as run:
        for number, logits, score, geometry in _predictions(
            model, variables, samples, batch_size, workers
        ):
            truth = samples.truth(number)
            metric = scores.metric.metric
            probability, mask = _at_frame_size(metric, logits, truth, geometry, gt_roundtrip)
            row = scores.add(number, videos[truth.video_id], truth, probability, mask, score)
            if run.folder:
                row |= {"video": truth.video_id, "frame": truth.frame, "text": truth.text,
                        "object_id": truth.object_id, "score": score}
                _save(run.folder, row, metric.binarize(probability), mask)
            run.bar.update(jax.process_count())
        scores.gather()
        run.write({"protocol": protocol, "gt_roundtrip": gt_roundtrip, "samples": scores.rows})
    return {"protocol": protocol, **scores.result()}


def video_numbers(dataset: Dataset) -> dict[str, int]:
    """Returns {video id: its number in the dataset}."""
    return {entry.video_id: number for number, entry in enumerate(dataset.index)}


def batch_of(samples: Any, numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns the batch of these samples."""
    items = [samples[number] for number in numbers]
    return {**{k: np.stack([np.asarray(item[k]) for item in items]) for k in items[0]},
            "valid": np.ones(len(items), bool)}


def report(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a table of {dataset: scores of `evaluate`}, in percent."""
    runner.print_table(COLUMNS, {name: [100 * result[c] for c in COLUMNS]
                                 for name, result in results.items()})


@functools.partial(jax.jit, static_argnums=0)
def predict(
    model: Model, variables: Variables, batch: dict[str, jax.Array]
) -> tuple[Float[Array, "B H W"], Float[Array, " B"]]:
    """Returns logits and score of each sample's object with the highest score."""
    prediction = model.predict(variables, batch)
    best = prediction.scores.argmax(axis=-1)
    logits = jnp.take_along_axis(prediction.logits, best[:, None, None, None], axis=1)[:, 0]
    return logits.astype(jnp.float32), prediction.scores.max(axis=-1).astype(jnp.float32)


def _predictions(
    model: Model, variables: Variables, samples: ReferringSamples, batch_size: int, workers: int
) -> Iterator[tuple[int, np.ndarray, float, np.ndarray]]:
    """Yields (sample number, logits [H, W], score, geometry [4]) of this process's samples."""
    mesh, variables = _placed(variables)
    if batch_size % mesh.shape["data"]:
        raise ValueError(f"evaluation.batch_size is {batch_size}; it must be a multiple of the "
                         f"{mesh.shape['data']} devices that share a batch")
    spec = PartitionSpec("data")

    def fetch(
        batch: dict[str, np.ndarray], outputs: tuple[jax.Array, jax.Array]
    ) -> Iterator[tuple[int, np.ndarray, float, np.ndarray]]:
        logits, scores = map(np.asarray, multihost_utils.global_array_to_host_local_array(
            outputs, mesh, spec))
        for i in np.flatnonzero(batch["valid"]):
            yield int(batch["sample"][i]), logits[i], float(scores[i]), batch["geometry"][i]

    batches = eval_batches(samples, batch_size, workers,
                           jax.process_index(), jax.process_count())
    waiting = None
    for batch in batches:
        outputs = predict(model, variables, multihost_utils.host_local_array_to_global_array(
            batch, mesh, spec))
        if waiting is not None:   # the host scores a batch while the devices run the next
            yield from fetch(*waiting)
        waiting = batch, outputs
    if waiting is not None:
        yield from fetch(*waiting)


def _placed(variables: Variables) -> tuple[Mesh, Variables]:
    """Returns the variables and the mesh they lie on, or one of all devices with a copy on each."""
    for leaf in jax.tree.leaves(variables):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and "data" in sharding.mesh.shape:
            assert isinstance(sharding.mesh, Mesh)   # arrays lie on concrete meshes
            return sharding.mesh, variables
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    return mesh, jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))


def _at_frame_size(
    metric: A2DMetric, logits: np.ndarray, truth: Truth, geometry: np.ndarray, roundtrip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probabilities and the ground-truth mask of a sample at its frame's size."""
    mask = truth.mask == truth.object_id
    if roundtrip:
        return _roundtrip(metric, sigmoid(logits), mask, geometry)
    return sigmoid(to_original(logits, geometry, mask.shape)), mask


def _roundtrip(
    metric: A2DMetric,
    probability: Float[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "height width"],
    geometry: Float[np.ndarray, "4"],
) -> tuple[Float[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Returns prediction and ground truth as CSTM compares them at the frame's size (RyanHTR/CSTM
    8a183fd, utils/tool.py, a2d_dataset.py).

    The ground truth is downsampled bilinearly with aligned corners, and any pixel that it touches
    is foreground. Both are resized back as 8-bit masks, which round one half as OpenCV does.
    """
    probability = inside(probability, geometry, truth.shape)
    at = [np.linspace(0, full - 1, small)
          for full, small in zip(truth.shape, probability.shape, strict=True)]
    down = np.zeros(probability.shape, bool)
    for row in (np.floor(at[0]), np.ceil(at[0])):
        for column in (np.floor(at[1]), np.ceil(at[1])):
            down |= truth[np.ix_(row.astype(int), column.astype(int))]

    def back(mask: np.ndarray) -> np.ndarray:
        return cv2.resize(mask.astype(np.uint8), truth.shape[::-1]) == 1

    return back(metric.binarize(probability)).astype(np.float32), back(down)


def _save(folder: Path, row: dict[str, Any], mask: np.ndarray, truth: np.ndarray) -> None:
    row["file"] = f"{row['sample']:06d}.png"
    for name, array in (("predictions", mask), ("truth", truth)):
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(array.astype(np.uint8) * 255).save(folder / name / row["file"])


class _Scores:
    """The scores of the samples that this process, or after `gather` all processes, predicted.

    Attributes:
      metric: of A2D-Sentences.
      extras: of each sample, the number of its video and what `grounding` returns.
      rows: of each sample, its number and groups, and what is saved of it.
    """

    def __init__(self, protocol: str) -> None:
        self.metric = GroupedMetric(protocol)
        self.extras: list[list[float]] = []
        self.rows: list[dict[str, Any]] = []

    def add(
        self, number: int, video: int, truth: Truth, probability: np.ndarray, mask: np.ndarray,
        score: float,
    ) -> dict[str, Any]:
        """Adds a sample and returns its row; `mask` is the ground truth as it is scored."""
        groups = {"differs_in": truth.differs_in, "category": truth.category}
        self.metric.add(probability, mask, score, **groups)
        prediction = self.metric.metric.binarize(probability)
        self.extras.append([float(video), *grounding(prediction, truth.mask, truth.object_id)])
        self.rows.append({"sample": number, **groups})
        return self.rows[-1]

    def gather(self) -> None:
        """Takes all processes' samples in the dataset's order, as a single process has them."""
        metric = self.metric.metric
        samples = [sample for part in runner.gather(
            list(zip(metric.rows.tolist(), self.extras, self.rows, strict=True)))
            for sample in part]
        samples.sort(key=lambda sample: sample[2]["sample"])
        counts, extras, rows = zip(*samples, strict=True)
        self.extras, self.rows = list(extras), list(rows)
        self.metric = GroupedMetric(metric.protocol)
        self.metric.metric = A2DMetric.from_rows(metric.protocol, np.array(counts, np.float64))
        self.metric.attributes = [{k: r[k] for k in ("differs_in", "category")} for r in rows]

    def result(self) -> dict[str, Any]:
        """Returns what `evaluate` does, without the protocol."""
        videos, scores = np.split(np.array(self.extras, np.float64), [1], axis=1)
        result = {**self.metric.result(), **mean_scores(scores)}
        for name, values in self.metric.groups().items():
            for value, numbers in values.items():
                result["by"][name][value] |= mean_scores(scores[numbers])
        return result | {
            "sample_iou": self.metric.metric.iou.round(5).tolist(),
            "sample_video": videos[:, 0].astype(int).tolist(),
        }
