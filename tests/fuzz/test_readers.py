"""Damaged files end in the documented error or in what they held, and never run for long.

`make fuzz` tries many more of them than the default tests do. A failure names the seed, and the
damaged file stays in pytest's folder.
"""

import itertools
import json
import os
import time

import mutations
import numpy as np
import pytest
import pytorch_files
from PIL import Image

from vseg_jax import model_file
from vseg_jax.index_masks import palette
from vseg_jax.input_pipeline.mask_files import index_of
from vseg_jax.media.audio import audio_of_video
from vseg_jax.media.images import open_video, read_image
from vseg_jax.media.video import Video, VideoWriter
from vseg_jax.run_lengths import decode_rle, encode_rle
from vseg_jax.text_files import read_json
from vseg_jax.tools.own_data import cvat, json_files
from vseg_jax.weights.convert import read as read_weights

NUMBER = int(os.environ.get("VSEG_FUZZ", "25"))   # damaged files of each kind
SECONDS = 10
RANDOM = np.random.default_rng(0)
MASK = np.kron(RANDOM.integers(0, 4, (6, 8)), np.ones((4, 4))).astype(np.uint8)
FRAMES = np.kron(RANDOM.integers(0, 255, (6, 6, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
ARRAYS = {"layer/kernel": RANDOM.normal(size=(4, 5)).astype(np.float32),
          "layer/bias": np.arange(5.0, dtype=np.float32)}


def same(found, wanted):
    """Whether two results, dicts and lists of arrays and numbers, are equal."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return bool(np.array_equal(found, wanted, equal_nan=True)) if isinstance(
        wanted, np.ndarray) else found == wanted


def write_mask(path):
    image = Image.fromarray(MASK)
    image.putpalette(palette())
    image.save(path)


def write_safetensors(path):
    from safetensors.numpy import save_file

    save_file(ARRAYS, path)


def write_rle(path):
    path.write_text(json.dumps(encode_rle(MASK == 1)))


def write_coco(path):
    path.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a/0001.jpg", "height": 24, "width": 32}],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [{"id": 9, "image_id": 1, "category_id": 3, "iscrowd": 0,
                         "segmentation": [[1.0, 1.0, 20.0, 1.5, 12.0, 18.0]]},
                        {"id": 10, "image_id": 1, "category_id": 3,
                         "segmentation": encode_rle(MASK == 2)}]}))


def write_labelme(path):
    path.write_text(json.dumps({
        "imagePath": "0001.jpg", "imageHeight": 24, "imageWidth": 32, "shapes": [
            {"label": "dog", "shape_type": "polygon", "group_id": 1,
             "points": [[1, 1], [20, 1.5], [12, 18]]}]}))


def write_cvat(path):
    path.write_text("""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<image id="0" name="a/0001.jpg" width="32" height="24">
<polygon label="dog" points="1.0,1.0;20.0,1.5;12.0,18.0" z_order="0"/></image></annotations>""")


def write_video(path):
    pytest.importorskip("av")
    tone = np.sin(np.arange(48_000) / 20).astype(np.float32)
    with VideoWriter(path, 5.0, iter([np.stack([tone, tone])])) as writer:
        for frame in FRAMES:
            writer.add(frame)


def write_gif(path):
    first, *rest = map(Image.fromarray, FRAMES)
    first.save(path, save_all=True, append_images=rest, duration=200)


def frames_of(path):
    return list(open_video(path))


def sound_of(path):
    video = Video(path)
    samples = audio_of_video(video) or itertools.repeat(None)
    return [sound for _, sound in zip(video, samples, strict=False)]


def rle_of(path):
    return decode_rle(read_json(path), str(path))


def annotations_of(reader):
    return lambda path: reader.read(path, ())


# name: (suffix, writes, reads, whether a checksum protects the content)
KINDS = {
    "mask": (".png", write_mask, lambda p: index_of(read_image(p), str(p)), True),
    "frame": (".jpg", lambda p: Image.fromarray(FRAMES[0]).save(p), lambda p: np.asarray(
        read_image(p).convert("RGB")), False),
    "npz": (".npz", lambda p: np.savez(p, **ARRAYS), read_weights, True),
    "safetensors": (".safetensors", write_safetensors, read_weights, False),
    "torch_zip": (".pth", lambda p: pytorch_files.write_zip(p, pytorch_files.views(ARRAYS)),
                  read_weights, False),
    "torch_legacy": (".pth", lambda p: pytorch_files.write_legacy(p, pytorch_files.views(ARRAYS)),
                     read_weights, False),
    "model": (".safetensors", lambda p: model_file.write(p, model_file.ModelFile(
        ARRAYS, {"config": {"system": "cvls"}}, {"tokenizer/vocabulary.json": "[]"})),
        lambda p: vars(model_file.read(p)), True),
    "rle": (".json", write_rle, rle_of, False),
    "coco": (".json", write_coco, annotations_of(json_files), False),
    "labelme": (".json", write_labelme, annotations_of(json_files), False),
    "cvat": (".xml", write_cvat, annotations_of(cvat), False),
    "video": (".mp4", write_video, frames_of, False),
    "gif": (".gif", write_gif, frames_of, False),
    "sound": (".mp4", write_video, sound_of, False),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, tmp_path):
    suffix, write, read, protected = KINDS[kind]
    intact = tmp_path / f"intact{suffix}"
    write(intact)
    data, wanted = intact.read_bytes(), read(intact)
    path, refused = tmp_path / f"damaged{suffix}", 0
    for seed in range(NUMBER):
        path.write_bytes(mutations.damaged(data, np.random.default_rng(seed)))
        begin = time.monotonic()
        try:
            found = read(path)
        except (ValueError, OSError) as error:
            refused += 1
            assert str(error) and len(str(error)) < 4000, f"seed {seed}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        else:
            assert not protected or same(found, wanted), f"seed {seed}: another content"
        assert time.monotonic() - begin < SECONDS, f"seed {seed}"
    assert refused, "no damage was noticed"
