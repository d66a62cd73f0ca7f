"""Tests curves, images, the metrics log and the progress bar."""

import json
import subprocess
import sys
import time

import cv2
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vseg_jax.training.reports import Reporter, last_report, read_metrics


def events(workdir):
    return EventAccumulator(str(workdir / "tensorboard")).Reload()


def test_scalars_and_images_can_be_read_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    with Reporter(tmp_path, 0, 10, 8) as reporter:
        reporter.write(5, {"loss": 0.25})
        reporter.write(5, {"iou": 0.5, "clip": image, "map": image[0] / 255.0}, kind="evaluation")
    read = events(tmp_path)
    assert [(e.step, e.value) for e in read.Scalars("train/loss")] == [(5, 0.25)]
    assert read.Scalars("evaluation/iou")[0].value == 0.5
    for tag, expected in (("clip/0", image[0]), ("clip/1", image[1]), ("map/0", image[0])):
        encoded = np.frombuffer(read.Images(f"evaluation/{tag}")[0].encoded_image_string, np.uint8)
        np.testing.assert_array_equal(cv2.imdecode(encoded, 1)[..., ::-1], expected)
    assert last_report(tmp_path, "evaluation") == {"iou": 0.5}
    assert last_report(tmp_path, "train")["loss"] == 0.25


def test_resuming_removes_lines_after_the_checkpoint(tmp_path):
    with Reporter(tmp_path, 0, 10, 8) as reporter:
        for step in (2, 4, 6):
            reporter.write(step, {"loss": float(step)})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "los')  # the process was killed in mid-line
    time.sleep(1)  # event files are named, and so ordered, by the second
    with Reporter(tmp_path, 4, 10, 8) as reporter:
        reporter.write(6, {"loss": 60.0})
    assert [(x["step"], x["loss"]) for x in read_metrics(tmp_path)] == [(2, 2), (4, 4), (6, 60)]
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("train/loss")] == \
        [(2, 2), (4, 4), (6, 60)]


def test_the_bar_shows_speed_and_time_left(tmp_path, capsys):
    shown = {"iou": "IoU {:.0%}", "contrast": "const {:.2f}", "never": "{:.1f}"}
    with Reporter(tmp_path, 0, 4, 100, shown) as reporter:
        reporter.advance(1)
        reporter.restart_clock(1, bar=True)
        reporter.advance(3)
        reporter.write(3, {"contrast": 2.5, "hidden": 7.0, "loss": 0.125, "iou": 0.55})
    shown = capsys.readouterr().err
    assert "3/4 steps" in shown and "left" in shown and "step/s" in shown
    assert "step/s | loss 0.125 IoU 55% const 2.50" in shown and "hidden" not in shown
    line = read_metrics(tmp_path)[0]
    assert line["frames_per_second"] == 100 * line["steps_per_second"] > 0


def test_parameters_are_listed_without_their_values(tmp_path):
    with Reporter(tmp_path, 0, 1, 1) as reporter:
        reporter.write_parameters({"layer": {"kernel": np.zeros((3, 4), np.float32)}})
    text = (tmp_path / "parameters.txt").read_text()
    assert "layer/kernel" in text and "(3, 4)" in text and "Total: 12" in text


def test_a_profile_of_the_requested_steps_is_written(tmp_path):
    with Reporter(tmp_path, 0, 5, 1, profile=(2, 2)) as reporter:
        for step in range(1, 6):
            reporter.advance(step)
    assert list((tmp_path / "tensorboard").rglob("*.xplane.pb"))


def test_the_writers_work_without_tensorflow():
    code = ("import sys; import vseg_jax.training.reports as r; r.metric_writers.SummaryWriter;"
            "print('tensorflow' in sys.modules, r.metric_writers.SummaryWriter is r.SummaryWriter)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "True"]


def test_metrics_are_json_lines(tmp_path):
    with Reporter(tmp_path, 0, 1, 1) as reporter:
        reporter.write(1, {"loss": np.float32(0.5)})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["kind"] == "train"
