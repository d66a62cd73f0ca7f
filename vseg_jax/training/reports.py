"""Reports of a run: progress bar, `metrics.jsonl`, TensorBoard, parameter overview.

clu's writers import TensorFlow through one module, `clu.metric_writers.tf.summary_writer`. The
class `SummaryWriter` below replaces it, over tensorboard's own event writer, and is registered
before clu is imported; this relies on clu's internal layout.
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
        if first_step:  # TensorBoard then drops what an interrupted run wrote for later steps
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(first_step + 1, session_log=start)

    def _add(self, step: int, **content: Any) -> None:
        self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, **content))

    def _summary(self, step: int, values: list[summary_pb2.Summary.Value]) -> None:
        self._add(step, summary=summary_pb2.Summary(value=values))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one point of each curve."""
        self._summary(step, [summary_pb2.Summary.Value(tag=name, simple_value=float(value))
                             for name, value in scalars.items()])

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images, [H, W, 3] or [N, H, W, 3], uint8 or float in [0, 1]."""
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
        """Writes texts, in Markdown."""
        self._summary(step, [
            summary_pb2.Summary.Value(
                tag=name,
                tensor=tensor_util.make_tensor_proto(np.array([text.encode()], dtype=object)),
                metadata=text_metadata.create_summary_metadata(name, ""))
            for name, text in texts.items()])

    def flush(self) -> None:
        """Writes buffered events to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def _import_clu() -> tuple[types.ModuleType, ...]:
    name = "clu.metric_writers.tf.summary_writer"
    if name not in sys.modules:
        stand_in = types.ModuleType(name)
        stand_in.SummaryWriter = SummaryWriter
        sys.modules[name] = stand_in
    try:
        from clu import metric_writers, parameter_overview, periodic_actions
    except ImportError as error:
        raise ImportError(
            f"clu cannot be imported without TensorFlow ({error}): this version imports it in "
            "another place than clu 0.0.12; install that one") from error
    return metric_writers, parameter_overview, periodic_actions


metric_writers, parameter_overview, periodic_actions = _import_clu()


class Reporter:
    """Writes the reports of the first process; does nothing in the others.

    Use it as a context manager.

    Args:
      workdir: gets `metrics.jsonl`, `parameters.txt` and `tensorboard/`.
      first_step: the step that the run starts or resumes from; later lines of `metrics.jsonl`, left
        by a run that was killed after its last checkpoint, are removed.
      steps: number of steps of the whole run.
      frames: number of frames in one step.
      shown: {name: format} of the means that the progress bar shows after the loss, in this order.
      profile: (step to start after, number of steps) to trace into `workdir/tensorboard`.
    """

    def __init__(self, workdir: Path, first_step: int, steps: int, frames: int,
                 shown: Mapping[str, str] | None = None, profile: tuple[int, int] = (0, 0)):
        self._active = jax.process_index() == 0
        self._shown = {"loss": "loss {:.4g}", **(shown or {})}
        self._frames = frames
        self._path = workdir / "metrics.jsonl"
        self.workdir = workdir
        self._last_report = (time.perf_counter(), first_step)
        self._profile = None
        if profile[1]:  # on every process: each traces its own devices
            self._profile = periodic_actions.Profile(
                logdir=workdir / "tensorboard", first_profile=profile[0],
                num_profile_steps=profile[1], profile_duration_ms=None, every_secs=None)
        if not self._active:
            return
        _remove_lines_after(self._path, first_step)
        self._writer = metric_writers.MultiWriter([
            metric_writers.LoggingWriter(),
            SummaryWriter(str(workdir / "tensorboard"), first_step),
        ])
        self._bar = tqdm(
            total=steps, initial=first_step, unit="step", dynamic_ncols=True,
            mininterval=1.0 if sys.stderr.isatty() else 30.0, smoothing=0,
            bar_format="{percentage:3.0f}% {n_fmt}/{total_fmt} steps, {remaining} left, "
                       "{rate_fmt}{desc}")

    def write_parameters(self, params: Any) -> None:
        """Writes names, shapes and sizes of all parameters to `parameters.txt`."""
        if self._active:
            shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
            text = parameter_overview.get_parameter_overview(shapes, include_stats=False)
            write_text(self.workdir / "parameters.txt", text + "\n")
            self._writer.write_texts(self._last_report[1], {"parameters": f"<pre>{text}</pre>"})

    def advance(self, step: int) -> None:
        """Moves the progress bar to `step`, which is done."""
        if self._profile:
            self._profile(step)
        if self._active:
            self._bar.update(step - self._bar.n)

    def write(self, step: int, scalars: Mapping[str, Any], kind: str = "train") -> None:
        """Writes a line of `metrics.jsonl` and a point of the curves.

        Args:
          step: of the values.
          scalars: {name: value}. Values with three or more axes are images, [H, W, 3] or
            [N, H, W, 3], uint8 or float in [0, 1]; they go to TensorBoard only.
          kind: "train" or "evaluation".
        """
        if not self._active:
            return
        images = {name: value for name, value in scalars.items() if np.ndim(value) >= 3}
        scalars = {name: float(value) for name, value in scalars.items() if name not in images}
        if kind == "train":
            now, since = time.perf_counter(), self._last_report
            self._last_report = (now, step)
            speed = (step - since[1]) / max(now - since[0], 1e-9)
            parts = [text.format(scalars[name]) for name, text in self._shown.items()
                     if name in scalars]
            self._bar.set_description_str(f" | {' '.join(parts)}")
            scalars |= {"steps_per_second": speed, "frames_per_second": speed * self._frames}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, **scalars}) + "\n")
        self._writer.write_scalars(step, {f"{kind}/{k}": v for k, v in scalars.items()})
        if images:
            self._writer.write_images(step, {f"{kind}/{k}": v for k, v in images.items()})
        self._writer.flush()

    def restart_clock(self, step: int, bar: bool = False) -> None:
        """Excludes the time since the last report (evaluation, saving) from the speed.

        With `bar` the progress bar's speed restarts too, which leaves out the compilation.
        """
        self._last_report = (time.perf_counter(), step)
        if bar and self._active:
            self._bar.initial, self._bar.start_t = step, time.time()

    def print(self, message: str) -> None:
        """Prints a line above the progress bar."""
        if self._active:
            tqdm.write(message, file=sys.stderr)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            self._bar.close()
            self._writer.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Reads the lines of `metrics.jsonl`; a half-written last line is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def last_report(workdir: str | Path, kind: str) -> dict[str, float]:
    """Returns the last values of a kind, "train" or "evaluation"; empty where there are none."""
    lines = [line for line in read_metrics(workdir) if line["kind"] == kind]
    return {k: v for k, v in lines[-1].items() if k not in ("step", "kind")} if lines else {}


def _remove_lines_after(path: Path, step: int) -> None:
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
