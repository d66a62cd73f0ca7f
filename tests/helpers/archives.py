"""Small synthetic downloads in the official layouts, for the tests of the builders."""

from __future__ import annotations

import json
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import scipy.io
from PIL import Image

from vseg_jax.input_pipeline.categories import OFFICIAL

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 756  # 256 colors keep 8-bit ids
A2D_SIZE = (32, 48)  # height, width
JHMDB_SIZE = (24, 32)


def box(shape: tuple[int, int], top: int, left: int, size: int = 8) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top:top + size, left:left + size] = True
    return mask


def picture(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


# --- DAVIS ------------------------------------------------------------------------------------


def davis_2016(root: Path, sequences: dict[str, list[str]], frames: int = 2) -> Path:
    """{split: names}, lists of pairs of paths, masks 0/255; object at rows 4.., columns 4 + t.."""
    for split, names in sequences.items():
        lines = []
        for name in names:
            for t in range(frames):
                _davis_frame(root, name, t)
                mask = box((16, 24), 4, 4 + t).astype(np.uint8) * 255
                _save(Image.fromarray(mask), root / f"Annotations/480p/{name}/{t:05d}.png")
                lines.append(f"/JPEGImages/480p/{name}/{t:05d}.jpg "
                             f"/Annotations/480p/{name}/{t:05d}.png ")
        write(root / f"ImageSets/480p/{split}.txt", "\n".join(lines) + "\n")
    return root


def davis_2017(root: Path, sequences: dict[str, list[str]], frames: int = 2) -> Path:
    """{split: names}, lists of names, palette masks with the objects 1 and 2."""
    for split, names in sequences.items():
        for name in names:
            for t in range(frames):
                _davis_frame(root, name, t)
                if t and split.startswith("test"):
                    continue
                mask = box((16, 24), 0, t) + 2 * box((16, 24), 8, 12)
                palette_png(root / f"Annotations/480p/{name}/{t:05d}.png", mask)
        write(root / f"ImageSets/2017/{split}.txt", "\n".join(names) + "\n")
    return root


def _davis_frame(root: Path, name: str, t: int) -> None:
    _save(Image.fromarray(picture((16, 24), t)), root / f"JPEGImages/480p/{name}/{t:05d}.jpg")


# --- A2D-Sentences ----------------------------------------------------------------------------


def a2d(root: Path, texts: str = "") -> Path:
    """Two train videos, one test video, one missed; the comments say what each is for.

    `texts` is the folder of the text files and masks below `root`.
    """
    clips = {"walk_dog-1": 6, "copy": 4, "test": 5, "missed": 3}
    subsets = {"walk_dog-1": 0, "copy": 0, "test": 1, "missed": 0}
    rows = [f"{v},78,00:00,00:02,{A2D_SIZE[0]},{A2D_SIZE[1]},{n},2,{subsets[v]}"
            for v, n in clips.items()]
    write(root / "Release/videoset.csv", "\n".join(rows) + "\n")
    for video, length in clips.items():
        a2d_clip(root / f"Release/clips320H/{video}.mp4", length)
    write(root / texts / "a2d_annotation.txt",
          "video_id,instance_id,query\n"
          'walk_dog-1,0," a dog,  walking"\nwalk_dog-1,2,a man running\n'
          "copy,1 (copy),left out\ncopy,1,a bird flying\ntest,0,a ball rolling\n")
    write(root / texts / "a2d_missed_videos.txt", "missed\n")
    shape = A2D_SIZE
    folder = root / texts / "a2d_annotation_with_instances"
    # two instances, in the order of the file; frame 1 is the first frame
    a2d_frame(folder / "walk_dog-1/00001.h5", [2, 0], [box(shape, 0, 30), box(shape, 20, 4)],
              [17, 78])
    # one instance, squeezed; the seventh frame of a clip of six
    a2d_frame(folder / "walk_dog-1/00007.h5", [0], [box(shape, 20, 8)], [78])
    # an instance named twice, one mask too many, and no `id`: labels from reS_id
    a2d_frame(folder / "copy/00002.h5", [1, 1],
              [box(shape, 2, 2), box(shape, 2, 20), box(shape, 20, 20)], [44, 78, 78], ids=False)
    # the smaller of two that overlap
    a2d_frame(folder / "test/00003.h5", [0, 1], [box(shape, 4, 4, 4), box(shape, 0, 0, 16)],
              [36, 18])
    return root


def a2d_clip(path: Path, length: int, times: Sequence[int] = ()) -> None:
    """H.264; the red channel of frame t is about 40 * t, so that frames can be distinguished.

    `times` are those of the frames in tenths of a second, for clips of a variable rate.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *A2D_SIZE, "yuv420p"
        stream.options = {"crf": "10"}
        for t in range(length):
            rgb = np.full((*A2D_SIZE, 3), 90, np.uint8)
            rgb[..., 0] = 40 * t % 256
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[t], Fraction(1, 10)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def a2d_frame(path: Path, numbers: list[int], masks: list[np.ndarray], labels: list[int],
              ids: bool = True) -> None:
    """As MATLAB writes it: columns first, and nothing but [W, H] for a single instance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    semantic = np.zeros(masks[0].shape, np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        semantic[mask] = label
    stacked = np.stack([mask.T for mask in masks]).astype(np.uint8)
    with h5py.File(path, "w") as file:
        file["instance"] = np.asarray(numbers, np.float64)
        file["reMask"] = stacked[0] if len(masks) == 1 else stacked
        file["reBBox"] = np.zeros(4 if len(masks) == 1 else (4, len(masks)))
        file["reS_id"] = semantic.T
        if ids:
            file["id"] = np.asarray([labels], np.float64)


# --- J-HMDB-Sentences -------------------------------------------------------------------------


def jhmdb(root: Path) -> Path:
    """`long`: seven frames, six masks, MATLAB 5; `new`: four frames, four masks, MATLAB 7.3."""
    write(root / "jhmdb_annotation.txt",
          "video_id,query\nlong_run_1,a man running\nnew_wave_2,woman waving\n")
    for action, video, length in (("run", "long_run_1", 7), ("wave", "new_wave_2", 4)):
        for t in range(length):
            path = root / f"Rename_Images/{action}/{video}/{t + 1:05d}.png"
            _save(Image.fromarray(picture(JHMDB_SIZE, t)), path)
    masks = np.stack([box(JHMDB_SIZE, 3, 2 * t) for t in range(6)], -1).astype(np.uint8)
    path = root / "puppet_mask/run/long_run_1/puppet_mask.mat"
    path.parent.mkdir(parents=True)
    scipy.io.savemat(path, {"part_mask": masks}, do_compression=True)
    path = root / "puppet_mask/wave/new_wave_2/puppet_mask.mat"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["part_mask"] = masks[:, :, :4].T
    return root


# --- YouTube-VOS ------------------------------------------------------------------------------


def youtube_vos(root: Path, train: int = 4) -> Path:
    """`train` videos of frames 0, 5 and 10 with the objects 1 and 3 (not in frame 10); valid: one
    video whose object 2 comes later, masks where objects are first seen."""
    content = {"train": {}, "valid": {}}
    for k in range(train):
        name = f"video{k}"
        for t in (0, 5, 10):
            image = Image.fromarray(picture((16, 24), t))
            _save(image, root / f"train/JPEGImages/{name}/{t:05d}.jpg")
            mask = box((16, 24), 0, t) + 3 * box((16, 24), 8, 12) * (t < 10)
            palette_png(root / f"train/Annotations/{name}/{t:05d}.png", mask)
        content["train"][name] = {"objects": {
            "1": {"category": "dog", "frames": ["00000", "00005", "00010"]},
            "3": {"category": "person", "frames": ["00000", "00005"]},
        }}
    for t in (0, 5, 10):
        _save(Image.fromarray(picture((16, 24), t)), root / f"valid/JPEGImages/late/{t:05d}.jpg")
    palette_png(root / "valid/Annotations/late/00000.png", 1 * box((16, 24), 0, 0))
    palette_png(root / "valid/Annotations/late/00005.png", 2 * box((16, 24), 8, 12))
    content["valid"]["late"] = {"objects": {
        "1": {"frames": ["00000", "00005", "00010"]}, "2": {"frames": ["00005", "00010"]},
    }}
    for split, videos in content.items():
        write(root / split / "meta.json", json.dumps({"videos": videos}))
    return root


def refer_youtube_vos(root: Path, train: int = 4) -> Path:
    """The videos of `youtube_vos` with expressions: two for the dog and one, of 26 words, for the
    person; valid, whose file also lists test's video: two expressions without an object. Frame 5 of
    valid is not listed."""
    youtube_vos(root, train)
    _save(Image.fromarray(picture((16, 24), 3)), root / "valid/JPEGImages/tested/00000.jpg")
    frames = ["00000", "00005", "00010"]
    long = "a person who stands " + " ".join(["and"] * 22)
    content = {"train": {f"video{k}": {"frames": frames, "expressions": {
        "0": {"exp": f"the dog of  video {k} ", "obj_id": "1"}, "10": {"exp": long, "obj_id": "3"},
        "2": {"exp": "a dog on the left", "obj_id": "1"},
    }} for k in range(train)}}
    content["valid"] = {
        "late": {"frames": frames[::2], "expressions": {
            "1": {"exp": "a cat behind it"}, "0": {"exp": "a dog"}}},
        "tested": {"frames": frames[:1], "expressions": {"0": {"exp": "an owl"}}},
    }
    content["test"] = {"tested": content["valid"]["tested"]}
    for split, videos in content.items():
        write(root / f"meta_expressions/{split}/meta_expressions.json",
              json.dumps({"videos": videos}))
    return root


def refer_youtube_vos_valid_masks(root: Path) -> Path:
    """Masks of every frame of valid's video, as published since, and the authors' list of objects,
    whose path is returned: the cat is the object 2, which comes in frame 10."""
    palette_png(root / "valid/Annotations/late/00010.png",
                1 * box((16, 24), 0, 4) + 2 * box((16, 24), 8, 12))
    first, both = ["00010"], ["00000", "00010"]
    objects = {"1": {"category": "dog", "expressions": ["a  dog"], "frames": both,
                     "expressions_first_frame": ["a dog on the left"]},
               "2": {"category": "cat", "expressions": ["a cat behind it"], "frames": first}}
    owl = {"1": {"category": "owl", "expressions": ["an owl"], "frames": ["00000"]}}
    return write(root / "meta_expressions_valid.json", json.dumps(
        {"videos": {"late": {"objects": objects}, "tested": {"objects": owl}}}))


# --- OVIS, YouTube-VIS, AVIS ------------------------------------------------------------------

OVIS_SIZE = (12, 20)


def ovis(root: Path, train: int = 3) -> Path:
    """`train` videos as `_vis_train` has them; one video without annotations in valid."""
    names = [f"img_{t + 1:07d}.jpg" for t in range(3)]
    write(root / "annotations_train.json", json.dumps(
        _vis_train(root / "train", "ovis", names, train)))
    write(root / "annotations/annotations_valid.json", json.dumps(
        _vis_valid(root / "valid", "ovis", names)))
    return root


def youtube_vis(root: Path, year: int = 2019, train: int = 3, audio: bool = False) -> Path:
    """As `ovis`, frames 0, 5 and 10; with `audio` a second of a tone for each video."""
    names = [f"{t:05d}.jpg" for t in (0, 5, 10)]
    table = f"youtube_vis_{year}"
    for split, content in (
        ("train", _vis_train(root / "train/JPEGImages", table, names, train)),
        ("valid", _vis_valid(root / "valid/JPEGImages", table, names)),
    ):
        path = root / f"{split}.json" if year == 2019 else root / split / "instances.json"
        write(path, json.dumps(content))
        for video in content["videos"] if audio else ():
            name = video["file_names"][0].split("/")[0]
            tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
            wav(root / split / "audio" / f"{name}.wav", np.stack([tone, tone]) / 2, 44100)
    return root


def _vis_train(folder: Path, table: str, names: list[str], train: int) -> dict:
    """`train` videos of three frames with two objects that overlap in frame 0, one of them unseen
    in frame 1. Codes are lists of runs, and a compressed string for the second object of frame 2
    (pycocotools: a box of 3x4 at row 2, column 5)."""
    videos, annotations = [], []
    for k in range(train):
        videos.append(_vis_video(folder, 7 + k, f"vid{k}", names))
        big, small = box(OVIS_SIZE, 0, 0, 8), box(OVIS_SIZE, 2, 2, 3)
        codes = [[runs(big), runs(big), runs(big)],
                 [runs(small), None, {"size": [*OVIS_SIZE], "counts": "n13900000R4"}]]
        for i, (category, code) in enumerate(zip((2, 1), codes, strict=True)):
            annotations.append({
                "id": 100 - 10 * i + 20 * k, "video_id": 7 + k, "category_id": category,
                "iscrowd": 0, "segmentations": code, "height": OVIS_SIZE[0], "width": OVIS_SIZE[1],
            })
    return {"videos": videos, "categories": _vis_categories(table), "annotations": annotations}


def _vis_valid(folder: Path, table: str, names: list[str]) -> dict:
    return {"videos": [_vis_video(folder, 1, "other", names)],
            "categories": _vis_categories(table), "annotations": None}


def _vis_categories(table: str) -> list[dict]:
    return [{"id": k, "name": name} for k, name in enumerate(OFFICIAL[table], 1)]


def _vis_video(folder: Path, number: int, name: str, names: list[str]) -> dict:
    paths = [f"{name}/{n}" for n in names]
    for t, path in enumerate(paths):
        _save(Image.fromarray(picture(OVIS_SIZE, t)), folder / path)
    return {"id": number, "file_names": paths, "length": 3, "height": OVIS_SIZE[0],
            "width": OVIS_SIZE[1]}


def runs(mask: np.ndarray) -> dict:
    """COCO's run-length code with the runs as a list."""
    flat = np.concatenate([[False], mask.T.ravel(), [False]]).astype(int)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]])
    return {"size": list(mask.shape), "counts": np.diff(edges).tolist()}


# --- stills -----------------------------------------------------------------------------------


def stills(root: Path) -> Path:
    """Two images, one of them in a folder below, with palette masks (ids 2 and void; 1)."""
    mask = 2 * box((10, 14), 0, 0, 4)
    mask[9] = 255
    for name, values in (("a", mask), ("more/b", 1 * box((10, 14), 2, 2, 4))):
        _save(Image.fromarray(picture((10, 14), 1)), root / f"images/{name}.jpg")
        palette_png(root / f"masks/{name}.png", values)
    return root


# --- audio ------------------------------------------------------------------------------------


def wav(path: Path, channels: np.ndarray, rate: int) -> Path:
    """Writes float [channels, n] in [-1, 1] as a WAV of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(32767 * channels.T).astype("<i2").tobytes())
    return path


def video(path: Path, seconds: float) -> Path:
    """Writes one second of 4 gray frames; with a tone of 440 Hz, AAC, unless `seconds` is 0."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=4)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="mono") if seconds else None
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 90, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio:
            tone = np.sin(2 * np.pi * 440 * np.arange(round(44100 * seconds)) / 44100)
            frame = av.AudioFrame.from_ndarray(0.5 * tone.astype(np.float32)[None], "fltp", "mono")
            frame.sample_rate = 44100
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


# --- files ------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def cut(path: Path, share: float = 0.5) -> None:
    """Truncates a file, like an interrupted download."""
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


def palette_png(path: Path, mask: np.ndarray) -> None:
    """An index mask as DAVIS and YouTube-VOS store it."""
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette(PALETTE)
    _save(image, path)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
