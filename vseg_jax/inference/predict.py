"""Segments a video into a folder: index PNGs, a video with the masks drawn in, a table.

The folder holds

- `masks/00000.png` ...: index PNGs with DAVIS' palette, at the video's size, with the ids of the
  mask prompts. Those of a folder of images have the images' names;
- `overlay.mp4`, with the sound of the video and each frame at its time;
- `predictions.json`: {"video", "query" or "mask", "found", "settings", "fps", "height", "width",
  "frames": [{"frame", "time", "mask", "objects": [{"id", "score", "area", "box"}]}]}. "frame" is
  its number in the video, "time" when it is shown, in seconds from the beginning of the video, and
  "fps" the average rate of the frames that were read. "found" is there if a second model follows
  what the query names: {"frame", "certainty"} of its first mask. Areas are in pixels; boxes are
  [left, top, right, bottom] in pixel edges, None for an empty mask. `docs/predictions.schema.json`
  is its schema;
- where it is asked for, `probabilities/00000.npz` ..., named as the masks: `probability`, float16
  [N, height, width] in [0, 1], of the N objects of the frame, and their `ids`, int32 [N]. With mask
  prompts the background has the rest, 1 - their sum; without, each object is apart from the others.

A model that finds objects by itself takes no prompt. Its overlay shows each object's category and
identity. Its objects also have "category", "value", the pixel value in the index PNG (the id, as
long as that is at most 254), and "rle", COCO's run-length code of the mask, because these objects
may overlap. Its table also has "identities", the summary of each object over the video: {"id",
"category", "score", "frames"}, where "frames" is the number of frames that show it (in a long
video, objects that use the same slot at different times share an id, see `Session.summary`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from tqdm import tqdm

from vseg_jax.inference.finding import find
from vseg_jax.inference.predictions import Predictions
from vseg_jax.inference.prompts.files import read_masks
from vseg_jax.inference.saved_session import model_digest
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.inference.session import Session
from vseg_jax.inference.unfinished import Unfinished, fingerprint
from vseg_jax.interruption import Interruption
from vseg_jax.media import overlay
from vseg_jax.media.audio import sound_of_video
from vseg_jax.media.camera import Camera, Window, open_window
from vseg_jax.media.excerpt import WHOLE, Excerpt, Part, Source, open_source
from vseg_jax.media.video import Video, VideoWriter
from vseg_jax.run_lengths import encode_rle

TABLE = "predictions.json"
Masks = dict[int, UInt8[np.ndarray, "H W"]]


def predict_to_folder(
    segmenter: Segmenter, video: str | os.PathLike, output: str | os.PathLike, *,
    query: str | None = None, mask: str | os.PathLike | None = None, fps: float | None = None,
    part: Part = WHOLE, both_directions: bool = False, probabilities: bool = False,
    drawn: bool = True, keep: bool = False, follow: Segmenter | None = None,
    progress: bool | str = True,
) -> dict[str, Any]:
    """Segments the frames of a video and writes a new folder, atomically.

    SIGTERM, Ctrl-C and errors leave the frames that are done in `output` with ".unfinished" at the
    end of its name, and the next call with the same arguments goes on after the last save: at the
    interruption, at a frame that cannot be used, and every minute. A camera is segmented until
    Ctrl-C, or until its live window is closed, and cannot go on later.

    Args:
      segmenter: the model to use.
      video: a file, a folder of images, or the number of a camera.
      output: path of the folder; it must not exist, or be empty.
      query: the referring expression, for models that take a query.
      mask: for models that take mask prompts: the index PNG of the first frame that is read; a
        folder of index PNGs, each named by the number of its frame (00000.png, 00030.png) or as its
        image, for objects that enter later or are corrected; or a folder of such folders, each
        named by the id of an object (1/00000.png), whose masks speak for that object only.
      fps: frames per second of a folder of images; see `vseg_jax.media.open_video`.
      part: which frames are read, and at which size; masks are scaled, too.
      both_directions: see `Segmenter.segment`.
      probabilities: whether to write `probabilities/`, too.
      drawn: whether to draw `overlay.mp4`.
      keep: whether a folder that the same call has written before is left as it is.
      follow: a model with mask prompts that carries the mask of the frame in which `segmenter` is
        surest of the query (see `find`) forward and backward; the masks are then those of `follow`.
      progress: whether to show a progress bar, or what stands before it.

    Returns:
      What `predictions.json` holds; see the module's docstring.

    Raises:
      ValueError: the video or a mask cannot be read, the model does not take this prompt, or
        `output` holds something else.
      KeyboardInterrupt: after SIGTERM or Ctrl-C; the message says what is done.
    """
    output, source = Path(output), open_source(video, fps, part)
    masks, objects = _prompts(source, mask, part)
    settings = {"model": model_digest(segmenter.engine), **fingerprint(source, masks, objects),
                "query": query, "fps": fps, **_plain(part),
                "both_directions": both_directions, "probabilities": probabilities,
                "follow": follow and model_digest(follow.engine)}
    camera = _camera(source)
    if keep and not camera and (output / TABLE).is_file():
        return _kept(output, settings)
    table = {"video": settings["video"][0], **_prompt(query, mask), "settings": settings}
    with Unfinished(output, settings, not camera) as work:
        prompt: dict[str, Any] = {"query": query, "masks": masks, "objects": objects,
                                  "both_directions": both_directions}
        if follow is not None:
            prompt, table["found"] = _found(segmenter, source, query, part, progress)
        table |= _segment(follow or segmenter, prompt, work, drawn, progress, source=source,
                          part=part, caption=query or "", probabilities=probabilities)
        (work.folder / TABLE).write_text(json.dumps(table, indent=1) + "\n")
    return table


def _segment(segmenter: Segmenter, prompt: Mapping[str, Any], work: Unfinished, drawn: bool,
             progress: bool | str, *, source: Source, **settings: Any) -> dict[str, Any]:
    """Writes the files of the frames, and returns what the table says of them."""
    with Interruption() as stop:
        camera = _camera(source)
        with _writer(work.folder, source, drawn) as writer, _window(camera) as window:
            frames = _Frames(source=source, work=work, writer=writer, window=window, **settings)
            frames.draw_again()
            predictions = segmenter._predictions(
                source, **prompt, audio=None, session=work.session)
            with contextlib.closing(predictions):
                _write_frames(predictions, frames, stop, progress)
    found = frames.summary()
    if segmenter.categories:
        found["identities"] = _identities(predictions)
    return found


def _found(
    segmenter: Segmenter, source: Source, query: str | None, part: Part, progress: bool | str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the prompt for a model that follows what the query names, and what the table says.

    Raises:
      ValueError: nothing is found, or the source is a camera.
    """
    if _camera(source):
        raise ValueError("what a camera shows cannot be read twice, to find an object and then to "
                         "follow it; leave --follow out, or record the video first")
    found, certainty = find(segmenter, source, query, progress and "find")
    prompt = {"query": None, "masks": {found.frame: found.index}, "objects": {},
              "both_directions": True}
    return prompt, {"frame": part.number(found.frame), "certainty": round(certainty, 6)}


def _plain(part: Part) -> dict[str, Any]:
    return {**dataclasses.asdict(part), "size": part.size and list(part.size)}


def _prompt(query: str | None, mask: str | os.PathLike | None) -> dict[str, str]:
    if mask is not None:
        return {"mask": Path(mask).name}
    return {"query": query} if query else {}


def _prompts(
    source: Source, mask: str | os.PathLike | None, part: Part
) -> tuple[Masks, Mapping[int, Collection[int]]]:
    """Returns the masks, and the ids that they speak for, by how many frames are read before."""
    if mask is None:
        return {}, {}
    whole = source.whole if isinstance(source, Excerpt) else source
    masks, objects = read_masks(mask, whole.names)
    if Path(mask).is_dir():
        if 1 < whole.length <= len(masks):
            warnings.warn(f"{mask} has a mask for each of the {len(masks)} frames, which the model "
                          "only repeats; leave those out that it should find", stacklevel=3)
        for number in masks:
            if part.index(number) is None:
                raise ValueError(f"{mask} has a mask of frame {number}, which is not read: the "
                                 f"frames are {part.start}, {part.start + part.every}, ... "
                                 f"{f'below {part.end}' if part.end else 'to the end'}; leave "
                                 "the mask out, or read its frame")
        masks = {part.index(number): image for number, image in masks.items()}  # type: ignore[misc]
        objects = {part.index(number): ids for number, ids in objects.items()}  # type: ignore[misc]
    if part.size is not None:
        masks = {index: cv2.resize(image, part.size[::-1], interpolation=cv2.INTER_NEAREST)
                 for index, image in masks.items()}
    return masks, objects


def _kept(output: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the table that an earlier call has written.

    Raises:
      ValueError: it was another call.
    """
    try:
        table = json.loads((output / TABLE).read_text(encoding="utf-8"))
        before = dict(table["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        before = {}
    other = [key for key, value in settings.items() if key not in before or before[key] != value]
    if other:
        raise ValueError(f"{output} holds predictions with another {', '.join(other)}; name "
                         "another output, or remove it")
    return table


def _identities(predictions: Predictions) -> list[dict[str, Any]]:
    return [{**dataclasses.asdict(track), "score": round(track.score, 6)}
            for track in predictions.summary()]


def _camera(source: Source) -> Camera | None:
    whole = source.whole if isinstance(source, Excerpt) else source
    return whole if isinstance(whole, Camera) else None


@contextlib.contextmanager
def _window(camera: Camera | None) -> Iterator[Window | None]:
    """Yields the live window of a camera, None where there is none."""
    window = open_window(f"{camera.path}: q ends") if camera else None
    try:
        yield window
    finally:
        if window:
            window.close()


def _writer(
    folder: Path, source: Source, drawn: bool
) -> contextlib.AbstractContextManager[VideoWriter | None]:
    """Returns what writes `overlay.mp4`, or None in its place."""
    if not drawn:
        return contextlib.nullcontext()
    sound = None
    if isinstance(source, Excerpt) and isinstance(source.whole, Video):
        sound = sound_of_video(source, begin=None)
    elif isinstance(source, Video):
        sound = sound_of_video(source)
    return VideoWriter(folder / "overlay.mp4", source.fps, sound)


def _write_frames(
    predictions: Predictions, frames: _Frames, stop: Interruption, progress: bool | str
) -> None:
    """Writes the frames that are not done.

    Raises:
      KeyboardInterrupt: after a request to stop.
    """
    work, camera, window = frames.work, _camera(frames.source), frames.window

    def save(session: Session | None) -> bool:
        work.save(session)
        return stop.requested

    if not camera:
        predictions.rest(save, at_errors=True)
    bar = tqdm(predictions, total=frames.source.length or None, unit=" frames",
               desc=progress if isinstance(progress, str) else "predict",
               initial=len(work.rows), disable=not progress)
    for segmentation in bar:
        frames.add(segmentation)
        if camera and (stop.requested or (window and window.closed)):
            camera.stop()
        elif not camera and (stop.requested or work.due):
            predictions.rest(save)
    if predictions.stopped:
        raise KeyboardInterrupt(f"stopped; {work.folder} holds the {len(work.rows)} frames that "
                                "are done, and the same command resumes after them")


@dataclasses.dataclass
class _Frames:
    """Writes the files of the frames, and shows them.

    Attributes:
      source: the video.
      part: that is read of it.
      work: the folder and the rows of the table.
      writer: of the overlay, or None.
      window: a live one, or None.
      caption: in the overlay.
      probabilities: whether to write them.
      size: (height, width) of the frames.
    """

    source: Source
    part: Part
    work: Unfinished
    writer: VideoWriter | None
    window: Window | None
    caption: str
    probabilities: bool
    size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name in ("masks", *(["probabilities"] if self.probabilities else [])):
            (self.work.folder / name).mkdir(exist_ok=True)

    def add(self, segmentation: Segmentation) -> None:
        """Writes the files of a frame and adds its row to the table."""
        number, index = segmentation.frame, segmentation.index
        self.size = (index.shape[0], index.shape[1])
        if self.writer or self.window:
            self._show(segmentation.image, index, number, instance_labels(segmentation))
        names = self.source.names
        name = names[number] if names else f"{self.part.number(number):05d}"
        mask = f"masks/{name}.png"
        overlay.save_index(self.work.folder / mask, index)
        if self.probabilities:
            np.savez_compressed(
                self.work.folder / f"probabilities/{name}.npz",
                probability=segmentation.probability.astype(np.float16),
                ids=np.array(segmentation.ids, np.int32))
        self.work.rows.append({
            "frame": self.part.number(number), "time": round(self.source.times[number], 6),
            "mask": mask, "objects": object_rows(segmentation)})

    def draw_again(self) -> None:
        """Draws the frames of an earlier call, which are in its files."""
        if not self.writer:
            return
        for number, (row, frame) in enumerate(zip(self.work.rows, self.source, strict=False)):
            labels = {o["value"]: _label(o["category"], o["id"]) for o in row["objects"]
                      if "category" in o and o["value"]}
            self._show(frame, overlay.read_index(self.work.folder / row["mask"]), number, labels)

    def _show(self, frame: np.ndarray, index: np.ndarray, number: int,
              labels: Mapping[int, str]) -> None:
        image = overlay.draw(frame, index, self.caption, labels)
        start, end = self.source.times[number:number + 2]
        # The overlay of a part begins with the part, that of a file where the file does.
        begin = self.source.times[0] if isinstance(self.source, Excerpt) else 0.0
        if self.writer:
            self.writer.add(image, start - begin, end - begin)
        if self.window:
            self.window.show(image)

    def summary(self) -> dict[str, Any]:
        """Returns what the table says of all frames."""
        rows, times = self.work.rows, self.source.times
        return {"fps": round(len(rows) / (times[len(rows)] - times[0]), 6), "height": self.size[0],
                "width": self.size[1], "frames": rows}


def instance_labels(segmentation: Segmentation) -> dict[int, str]:
    """Returns "category identity" for each object that a model found: {value in the index: text}.

    It is empty for models whose objects are given by prompts.
    """
    return {value: _label(category, number) for value, category, number
            in zip(segmentation.values, segmentation.categories, segmentation.ids, strict=False)
            if value}


def _label(category: str, number: int) -> str:
    return f"{category.replace('_', ' ')} {number}"


def object_rows(segmentation: Segmentation) -> list[dict[str, Any]]:
    """Returns what the table says of the objects of a frame."""
    rows: list[dict[str, Any]] = [
        {"id": number, "score": round(float(score), 6), "area": int(mask.sum()), "box": _box(mask)}
        for number, mask, score in zip(
            segmentation.ids, segmentation.masks, segmentation.scores, strict=True)
    ]
    for row, category, value, mask in zip(
            rows, segmentation.categories, segmentation.values, segmentation.masks, strict=False):
        row.update(category=category, value=value, rle=encode_rle(mask))
    return rows


def _box(mask: Bool[np.ndarray, "H W"]) -> list[int] | None:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [x, y, x + width, y + height] if width else None
