"""What a run says of itself: progress bar, `metrics.jsonl`, TensorBoard, parameter overview.

clu's writers import TensorFlow through one module, `clu.metric_writers.tf.summary_writer`.  The
class `SummaryWriter` below stands in for it over tensorboard's own event writer, and is registered
before clu is imported; the version of clu is pinned for that.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util
from tqdm import tqdm

from vseg_jax.atomic import write_text


class SummaryWriter:
    """Writes TensorBoard event files: scalars, images and texts."""

    def __init__(self, logdir: str, first_step: int = 0):
        self._writer = EventFileWriter(logdir)
        if first_step:  # TensorBoard then drops what an earlier, broken run wrote from here on
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(first_step + 1, session_log=start)

    def _add(self, step: int, **content: Any) -> None:
        self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, **content))

    def _summary(self, step: int, values: list[summary_pb2.Summary.Value]) -> None:
        self._add(step, summary=summary_pb2.Summary(value=values))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._summary(step, [summary_pb2.Summary.Value(tag=name, simple_value=float(value))
                             for name, value in scalars.items()])

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Images [H, W, 3] or [N, H, W, 3], uint8 or float in [0, 1]."""
        values = []
        for name, array in images.items():
            array = np.asarray(array)
            for i, image in enumerate(array if array.ndim == 4 else array[None]):
                if image.dtype != np.uint8:
                    image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
                _, encoded = cv2.imencode(".png", image[..., ::-1])
                values.append(summary_pb2.Summary.Value(
                    tag=f"{name}/{i}",
                    image=summary_pb2.Summary.Image(
                        height=image.shape[0], width=image.shape[1], colorspace=3,
                        encoded_image_string=encoded.tobytes())))
        self._summary(step, values)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._summary(step, [
            summary_pb2.Summary.Value(
                tag=name,
                tensor=tensor_util.make_tensor_proto(np.array([text.encode()], dtype=object)),
                metadata=text_metadata.create_summary_metadata(name, ""))
            for name, text in texts.items()])

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _import_clu():
    name = "clu.metric_writers.tf.summary_writer"
    if name not in sys.modules:
        stand_in = types.ModuleType(name)
        stand_in.SummaryWriter = SummaryWriter
        sys.modules[name] = stand_in
    from clu import metric_writers, parameter_overview, periodic_actions

    return metric_writers, parameter_overview, periodic_actions


metric_writers, parameter_overview, periodic_actions = _import_clu()


class Reporter:
    """Writes what the first process has to say; the others keep silent.

    Args:
      workdir: gets `metrics.jsonl`, `parameters.txt` and `tensorboard/`.
      first_step: the step the run starts or goes on from; later lines of `metrics.jsonl`, left by
        a run that was killed after its last checkpoint, are taken out.
      steps: of the whole run.
      frames: that one step sees.
      profile: (step to begin after, number of steps) to trace into `workdir/tensorboard`.
    """

    def __init__(self, workdir: Path, first_step: int, steps: int, frames: int,
                 profile: tuple[int, int] = (0, 0)):
        self._active = jax.process_index() == 0
        self._frames = frames
        self._path = workdir / "metrics.jsonl"
        self._workdir = workdir
        self._last = (time.perf_counter(), first_step)
        self._profile = None
        if profile[1]:  # on every process: each traces its own devices
            self._profile = periodic_actions.Profile(
                logdir=workdir / "tensorboard", first_profile=profile[0],
                num_profile_steps=profile[1], profile_duration_ms=None, every_secs=None)
        if not self._active:
            return
        _cut(self._path, first_step)
        self._writer = metric_writers.MultiWriter([
            metric_writers.LoggingWriter(),
            SummaryWriter(str(workdir / "tensorboard"), first_step),
        ])
        self._bar = tqdm(
            total=steps, initial=first_step, unit="step", desc="train", dynamic_ncols=True,
            mininterval=1.0 if sys.stderr.isatty() else 30.0, smoothing=0,
            bar_format="{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} steps "
                       "[{elapsed}, {remaining} left, {rate_fmt}{postfix}]")

    def overview(self, params: Any) -> None:
        """Names, shapes and counts of all parameters -> `parameters.txt`."""
        if self._active:
            shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
            text = parameter_overview.get_parameter_overview(shapes, include_stats=False)
            write_text(self._workdir / "parameters.txt", text + "\n")
            self._writer.write_texts(self._last[1], {"parameters": f"<pre>{text}</pre>"})

    def advance(self, step: int) -> None:
        """Step number `step` is done."""
        if self._profile:
            self._profile(step)
        if self._active:
            self._bar.update(step - self._bar.n)

    def write(self, step: int, scalars: Mapping[str, Any], kind: str = "train") -> None:
        """One line of `metrics.jsonl` and the curves; `kind` is train or evaluation.

        Values with three axes or more are images, [H, W, 3] or [N, H, W, 3], uint8 or float in
        [0, 1]; they go to TensorBoard only.
        """
        if not self._active:
            return
        images = {name: value for name, value in scalars.items() if np.ndim(value) >= 3}
        scalars = {name: float(value) for name, value in scalars.items() if name not in images}
        if kind == "train":
            now, since = time.perf_counter(), self._last
            self._last = (now, step)
            speed = (step - since[1]) / max(now - since[0], 1e-9)
            self._bar.set_postfix_str(
                f"{speed * self._frames:.1f} frames/s, loss {scalars.get('loss', 0):.4g}")
            scalars |= {"steps_per_second": speed, "frames_per_second": speed * self._frames}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, **scalars}) + "\n")
        self._writer.write_scalars(step, {f"{kind}/{k}": v for k, v in scalars.items()})
        if images:
            self._writer.write_images(step, {f"{kind}/{k}": v for k, v in images.items()})
        self._writer.flush()

    def resume_clock(self, step: int, bar: bool = False) -> None:
        """What took place since the last report (evaluation, saving, with `bar` the compilation
        too) is not counted as training."""
        self._last = (time.perf_counter(), step)
        if bar and self._active:
            self._bar.initial, self._bar.start_t = step, time.time()

    def say(self, message: str) -> None:
        """A line for the reader, above the progress bar."""
        if self._active:
            tqdm.write(message, file=sys.stderr)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_) -> None:
        if self._active:
            self._bar.close()
            self._writer.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; a half-written last one is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def last_evaluation(workdir: str | Path) -> dict[str, float]:
    """What the run's last evaluation said; empty where there was none."""
    lines = [line for line in read_metrics(workdir) if line["kind"] == "evaluation"]
    return {k: v for k, v in lines[-1].items() if k not in ("step", "kind")} if lines else {}


def _cut(path: Path, step: int) -> None:
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
