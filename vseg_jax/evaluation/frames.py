"""Scores a model on the samples of a dataset: one compiled `predict`, whole frames, any devices."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
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
from tqdm import tqdm

from vseg_jax.atomic import atomic_folder
from vseg_jax.inference.geometry import inside, sigmoid, to_original
from vseg_jax.input_pipeline.loader import eval_batches
from vseg_jax.metrics.a2d import A2DMetric, GroupedMetric
from vseg_jax.models.base import Model, Variables


def evaluate(
    model: Model,
    variables: Variables,
    samples: Any,
    *,
    batch_size: int,
    protocol: str = "legacy",
    gt_roundtrip: bool = False,
    save: str | Path | None = None,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """The A2D scores of `model` over all samples, at the frames' own size.

    The batch is cut over the data axis of the mesh that `variables` lie on, or over all devices
    where they lie on none. Every process gets the numbers of all samples.

    Args:
      model: see `vseg_jax.models.base.Model`; its best-scored object answers.
      variables: the model's collections.
      samples: `vseg_jax.input_pipeline.samples.ReferringSamples` without augmentation.
      batch_size: over all devices and processes; the last batch is padded.
      protocol: "legacy" or "coco", see `vseg_jax.metrics.a2d`.
      gt_roundtrip: as CSTM evaluates: the answer is binarized at the input's size, the truth goes
        down to that size, and both come back as masks. It flatters thin objects.
      save: folder for the masks, in the layout that `python -m vseg_jax.metrics.a2d` scores; one
        of an earlier evaluation is replaced.
      workers: processes that read samples.
      progress: whether a bar is shown.

    Returns:
      `A2DMetric.result()`, with `samples`, their number, `protocol`, and `by`: {"differs_in" or
      "category": {value: result}} where the dataset says these of its samples.

    Raises:
      ValueError: the batch cannot be cut over the devices, `save` is another folder or several
        processes would share it, a protocol of another name.
    """
    if save and jax.process_count() > 1:
        raise ValueError("masks are saved by one process only; evaluate them on one machine")
    metric = GroupedMetric(protocol)
    rows = []
    bar = tqdm(total=len(samples), desc="evaluate", unit=" samples",
               disable=not (progress and jax.process_index() == 0))
    table = "predictions.json"
    keep = atomic_folder(save, replaces=table) if save else contextlib.nullcontext()
    with bar, keep as folder:
        if folder:
            (folder / "predictions").mkdir()
            (folder / "truth").mkdir()
        for number, logits, score, geometry in _predictions(
            model, variables, samples, batch_size, workers
        ):
            truth = samples.truth(number)
            mask = truth.mask == truth.object_id
            if gt_roundtrip:
                probability, mask, score = _roundtrip(
                    metric.metric, sigmoid(logits), mask, score, geometry
                )
            else:
                probability = sigmoid(to_original(logits, geometry, mask.shape))
            row = {"sample": number, "differs_in": truth.differs_in, "category": truth.category}
            metric.add(probability, mask, score,
                       differs_in=truth.differs_in, category=truth.category)
            rows.append(row)
            if folder:
                row |= {"video": truth.video_id, "frame": truth.frame, "text": truth.text,
                        "object_id": truth.object_id, "score": score}
                _save(folder, row, metric.metric.binarize(probability), mask)
            bar.update(jax.process_count())
        metric, rows = _gather(metric, rows)
        if folder:
            saved = {"protocol": protocol, "gt_roundtrip": gt_roundtrip, "samples": rows}
            (folder / table).write_text(json.dumps(saved, indent=1) + "\n")
    return {"protocol": protocol, **metric.result()}


@functools.partial(jax.jit, static_argnums=0)
def _predict(
    model: Model, variables: Variables, batch: dict[str, jax.Array]
) -> tuple[Float[Array, "B H W"], Float[Array, " B"]]:
    """Logits and score of each sample's best-scored object."""
    prediction = model.predict(variables, batch)
    best = prediction.scores.argmax(axis=-1)
    logits = jnp.take_along_axis(prediction.logits, best[:, None, None, None], axis=1)[:, 0]
    return logits.astype(jnp.float32), prediction.scores.max(axis=-1).astype(jnp.float32)


def _predictions(
    model: Model, variables: Variables, samples: Any, batch_size: int, workers: int
) -> Iterator[tuple[int, np.ndarray, float, np.ndarray]]:
    """(sample number, logits [H, W], score, geometry [4]) of this process's valid samples."""
    mesh, variables = _placed(variables)
    if batch_size % mesh.shape["data"]:
        raise ValueError(f"the batch size of an evaluation is {batch_size}; it must be a multiple "
                         f"of the {mesh.shape['data']} devices that share it")
    spec = PartitionSpec("data")

    def fetch(batch, outputs):
        logits, scores = map(np.asarray, multihost_utils.global_array_to_host_local_array(
            outputs, mesh, spec))
        for i in np.flatnonzero(batch["valid"]):
            yield int(batch["sample"][i]), logits[i], float(scores[i]), batch["geometry"][i]

    batches = eval_batches(samples, batch_size, workers,
                           jax.process_index(), jax.process_count())
    waiting = None
    for batch in batches:
        outputs = _predict(model, variables, multihost_utils.host_local_array_to_global_array(
            batch, mesh, spec))
        if waiting is not None:   # the host scores one batch while the devices run the next
            yield from fetch(*waiting)
        waiting = batch, outputs
    yield from fetch(*waiting)


def _placed(variables: Variables) -> tuple[Mesh, Variables]:
    """The mesh that the variables lie on, or one of all devices with a copy on each."""
    for leaf in jax.tree.leaves(variables):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and "data" in sharding.mesh.shape:
            return sharding.mesh, variables
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    return mesh, jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))


def _roundtrip(
    metric: A2DMetric,
    probability: Float[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "height width"],
    score: float,
    geometry: Float[np.ndarray, "4"],
) -> tuple[Float[np.ndarray, "height width"], Bool[np.ndarray, "height width"], float]:
    """CSTM's way to the original size (RyanHTR/CSTM 8a183fd, utils/tool.py, a2d_dataset.py).

    The truth goes down bilinearly between corner pixels' centers, and any pixel that it touches is
    foreground; answer and truth come back as 8-bit masks, in which one half rounds up or down as
    OpenCV does it.
    """
    probability = inside(probability, geometry, truth.shape)
    at = [np.linspace(0, full - 1, small)
          for full, small in zip(truth.shape, probability.shape, strict=True)]
    down = np.zeros(probability.shape, bool)
    for row in (np.floor(at[0]), np.ceil(at[0])):
        for column in (np.floor(at[1]), np.ceil(at[1])):
            down |= truth[np.ix_(row.astype(int), column.astype(int))]

    def back(mask):
        return cv2.resize(mask.astype(np.uint8), truth.shape[::-1]) == 1

    return back(metric.binarize(probability)).astype(np.float32), back(down), score


def _save(folder: Path, row: dict[str, Any], mask: np.ndarray, truth: np.ndarray) -> None:
    row["file"] = f"{row['sample']:06d}.png"
    for name, array in (("predictions", mask), ("truth", truth)):
        Image.fromarray(array.astype(np.uint8) * 255).save(folder / name / row["file"])


def _gather(
    metric: GroupedMetric, rows: list[dict[str, Any]]
) -> tuple[GroupedMetric, list[dict[str, Any]]]:
    """All processes' samples in the order of the dataset, as one process would have them."""
    if jax.process_count() == 1:
        return metric, rows
    pairs = list(zip(metric.metric.rows.tolist(), rows, strict=True))
    mine = np.frombuffer(json.dumps(pairs).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(mine)))
    padded = np.pad(mine, (0, int(lengths.max()) - len(mine)))
    together = multihost_utils.process_allgather(padded)
    pairs = [pair for text, length in zip(together, lengths, strict=True)
             for pair in json.loads(text[:length].tobytes())]
    pairs.sort(key=lambda pair: pair[1]["sample"])
    whole = GroupedMetric(metric.metric.protocol)
    whole.metric = A2DMetric.from_rows(
        metric.metric.protocol, np.array([p[0] for p in pairs], np.float64)
    )
    rows = [row for _, row in pairs]
    whole.attributes = [{k: r[k] for k in ("differs_in", "category")} for r in rows]
    return whole, rows
