import dataclasses
import json
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from archives import wav
from toy_dataset import ToyBuilder, build_toy, toy_record

from vseg_jax.input_pipeline.records import (
    Expression,
    decode_audio,
    decode_flow,
    decode_image,
    decode_mask,
    encode_audio,
    encode_flow,
    encode_image,
    encode_mask,
    index_entry,
    open_dataset,
)
from vseg_jax.input_pipeline.video_builder import VideoBuilder

RNG = np.random.default_rng(0)


def test_images_and_masks_come_back_exactly():
    rgb = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    mask = RNG.integers(0, 256, (5, 7), np.uint8)
    np.testing.assert_array_equal(decode_image(encode_image(rgb), "x"), rgb)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), "x"), mask)


def test_jpeg_keeps_the_order_of_channels():
    rgb = np.full((16, 16, 3), (250, 100, 5), np.uint8)
    decoded = decode_image(encode_image(rgb, quality=95), "x")
    assert np.abs(decoded.astype(int) - rgb).max() < 6


def test_flow_is_kitti_fixed_point():
    flow = np.array([[[1.5, -2.25], [0.0, 511.0]]], np.float32)
    data = encode_flow(flow)
    np.testing.assert_array_equal(decode_flow(data, "x"), flow)
    # KITTI's development kit: red is u, green is v, value = 64 * u + 2^15, blue is validity
    blue, green, red = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[0, 0]
    assert (red, green, blue) == (32768 + 96, 32768 - 144, 1)


def test_flow_marked_invalid_is_nan():
    image = np.array([[[0, 1, 1], [1, 2**15, 2**15]]], np.uint16)
    flow = decode_flow(cv2.imencode(".png", image)[1].tobytes(), "x")
    assert np.isnan(flow[0, 0]).all()
    np.testing.assert_array_equal(flow[0, 1], 0.0)


def test_audio_comes_back_to_sixteen_bits():
    samples = np.array([0.0, 0.5, -1.0, 1.0], np.float32)
    decoded = decode_audio(encode_audio(samples), "x")
    np.testing.assert_array_equal(decoded, [0.0, 0.5, -1.0, 32767 / 32768])


@pytest.mark.parametrize("decode, data", [
    (decode_image, b"no image"), (decode_image, b""), (decode_mask, b"\x89PNG\r\n\x1a\nbroken"),
    (decode_mask, encode_image(np.zeros((2, 2, 3), np.uint8))),
    (decode_flow, encode_mask(np.zeros((2, 2), np.uint8))), (decode_audio, b"RIFFnot a wave file"),
])
def test_bad_bytes_name_the_place(decode, data):
    with pytest.raises(ValueError, match="davis train video bear frame 3"):
        decode(data, "davis train video bear frame 3")


@pytest.mark.parametrize("channels, rate, message", [
    (1, 44100, "1 channels of 16 bits at 44100 Hz; records hold"), (2, 16000, "2 channels of 16"),
])
def test_audio_of_another_form(tmp_path, channels, rate, message):
    path = wav(tmp_path / "a.wav", np.zeros((channels, 100)), rate)
    with pytest.raises(ValueError, match=f"the audio of toys video 3 has {message}"):
        decode_audio(path.read_bytes(), "toys video 3")


def test_records_come_back_as_built_and_in_order(toy_dir):
    dataset = pickle.loads(pickle.dumps(open_dataset(toy_dir, "train")))
    assert dataset.name == "toy train"
    assert [dataset[i].video_id for i in range(len(dataset))] == ["toy-0", "toy-1", "toy-2"]
    assert dataset[1] == toy_record(1, ("blue", "red", "green"))


def test_record_without_annotation_flow_or_audio_and_with_them(tmp_path):
    bare = dataclasses.replace(toy_record(0), masks=[b""] * 6, objects=[], expressions=[])
    full = dataclasses.replace(
        toy_record(1), flow=[encode_flow(np.ones((24, 32, 2)))] * 5 + [b""],
        audio=encode_audio(np.zeros(800)),
        expressions=[Expression("la boîte « rouge »", 1, differs_in="color")],
    )
    dataset = _build(tmp_path, [bare, full])
    assert dataset[0] == bare
    assert dataset[1] == full
    assert dataset.index[0].annotated == ()
    assert dataset.index[1].expressions[0].text == "la boîte « rouge »"


def test_index_lists_the_frames_that_show_an_object():
    record = toy_record(0)
    gone = np.where(decode_mask(record.masks[2], "x") == 1, 0, decode_mask(record.masks[2], "x"))
    record.masks[2] = encode_mask(gone.astype(np.uint8))
    entry = index_entry(record, "toy train")
    assert entry.annotated == (0, 2, 4)
    assert {o.id: o.frames for o in entry.objects} == {1: (0, 4), 2: (0, 2, 4)}


def test_shards_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr("vseg_jax.input_pipeline.video_builder.RECORDS_PER_SHARD", 2)
    dataset = _build(tmp_path, [toy_record(i) for i in range(5)])
    assert [dataset[i].video_id for i in (4, 0, 3)] == ["toy-4", "toy-0", "toy-3"]


def test_tfds_itself_reads_the_dataset(toy_dir):
    source = tfds.builder_from_directory(toy_dir).as_data_source("valid")
    assert [example["video_id"] for example in source] == [b"toy-9"]


@pytest.mark.parametrize("change, message", [
    (lambda r: r.masks.pop(), "6 frames and 5 masks"),
    (lambda r: r.masks.__setitem__(0, encode_mask(np.zeros((8, 32), np.uint8))),
     "frame 0 is 8x32.*24x32"),
    (lambda r: r.masks.__setitem__(2, b"broken"), "toy train video toy-0 frame 2"),
    (lambda r: r.masks.__setitem__(0, encode_mask(np.full((24, 32), 7, np.uint8))),
     "mask value 7 is not an object"),
    (lambda r: r.expressions.append(Expression("a third box", 3)), "'a third box' names object 3"),
    (lambda r: r.objects.append(r.objects[0]), "object ids must differ"),
])
def test_bad_records_are_named_and_leave_nothing_behind(tmp_path, change, message):
    record = toy_record(0)
    change(record)
    with pytest.raises(ValueError, match=message):
        _build(tmp_path, [record])
    assert not list(tmp_path.rglob("dataset_info.json"))
    with pytest.raises(ValueError, match="not built"):
        open_dataset(tmp_path / "toy" / "default" / "1.0.0", "train")


def test_duplicate_names_and_empty_splits_are_errors(tmp_path):
    with pytest.raises(ValueError, match="two videos are called toy-0"):
        _build(tmp_path / "a", [toy_record(0), toy_record(0)])
    with pytest.raises(ValueError, match="no video was found"):
        _build(tmp_path / "b", [])


def test_building_twice_builds_once(tmp_path):
    folder = build_toy(tmp_path)
    written = (folder / "dataset_info.json").stat().st_mtime_ns
    assert build_toy(tmp_path) == folder
    assert (folder / "dataset_info.json").stat().st_mtime_ns == written
    assert ToyBuilder("", tmp_path, variant="other").build() != folder


def test_two_concurrent_builds_build_once(tmp_path):
    class Slow(ToyBuilder):
        def splits(self):
            built.append(1)
            time.sleep(0.3)
            return super().splits()

    built = []
    both = [Slow("", tmp_path) for _ in range(2)]   # neither finds the dataset
    with ThreadPoolExecutor() as pool:
        folders = list(pool.map(Slow.build, both))
    assert folders[0] == folders[1] and len(built) == 1
    assert open_dataset(folders[0], "train").categories == ()


def test_missing_datasets_and_splits_name_the_remedy(toy_dir, tmp_path):
    with pytest.raises(ValueError, match=r"not built.*vseg data prepare"):
        open_dataset(tmp_path / "nowhere", "train")
    (tmp_path / "1.0.0.incompleteAB12").mkdir()
    with pytest.raises(ValueError, match=r"half-built.*incompleteAB12"):
        open_dataset(tmp_path / "1.0.0", "train")
    with pytest.raises(ValueError, match="no split 'test', it has: train, valid"):
        open_dataset(toy_dir, "test")


def test_a_folder_above_the_only_dataset_opens_it(tmp_path):
    folder = build_toy(tmp_path)
    (folder.parent / f"{folder.name}.incompleteAB12").mkdir()
    (folder.parent / f"{folder.name}.incompleteAB12" / "dataset_info.json").write_text("{}")
    for above in (folder, *list(folder.parents)[:3]):
        assert len(open_dataset(above, "train")) == 3
    (folder.parents[1] / "other" / "1.0.0").mkdir(parents=True)
    (folder.parents[1] / "other" / "1.0.0" / "dataset_info.json").write_text("{}")
    assert len(open_dataset(folder.parent, "train")) == 3
    with pytest.raises(ValueError, match=r"holds 2 datasets: .*other.*; name one of these folders"):
        open_dataset(tmp_path, "train")


def test_an_incomplete_dataset_is_not_opened(tmp_path):
    folder = build_toy(tmp_path)
    index = folder / "index-train.jsonl"
    lines = index.read_text(encoding="utf-8").splitlines(keepends=True)
    index.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"half-built.*3 videos.*2 lines"):
        open_dataset(folder, "train")
    lines[1] = json.dumps({"video_id": "x"}) + "\n"
    index.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"index-train\.jsonl, line 2"):
        open_dataset(folder, "train")
    next(folder.glob("toy-valid*")).unlink()
    with pytest.raises(ValueError, match="half-built"):
        open_dataset(folder, "valid")


def test_building_and_reading_do_not_import_tensorflow(toy_dir):
    program = (
        "import sys, tempfile; from vseg_jax.input_pipeline import loader, records, samples;"
        "from toy_dataset import build_toy; d = build_toy(tempfile.mkdtemp(dir=sys.argv[1]));"
        "records.open_dataset(d, 'train')[0]; assert 'tensorflow' not in sys.modules"
    )
    here = Path(__file__).parents[1] / "helpers"
    subprocess.run([sys.executable, "-c", program, str(toy_dir.parent)], check=True, cwd=here,
                   env={"PYTHONPATH": f"{here}:{here.parents[1]}", "PATH": ""})


class _Listed(VideoBuilder):
    name = "toy"

    def splits(self):
        return {"train": self.options}


def _build(folder, records):
    return open_dataset(_Listed("", folder, records).build(), "train")
