"""Videos of cut-outs of stills, each beside a distractor of another hue: a test of look-alikes.

From a folder of stills (`stills.py`). An object of one image is cut out and moves over another
image; its distractor is the same cut-out, mirrored and with its hue turned. Both change places
during the video and cross on the way. The textures are real and the masks exact: a pixel belongs to
the nearest cut-out that covers it. The only split is test.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files, stills
from vseg_jax.input_pipeline.transforms import scaling, translation, warp_frame, warp_mask
from vseg_jax.input_pipeline.unread import Unread, fingerprint
from vseg_jax.input_pipeline.video_builder import VideoBuilder, lists_to_tuples

FPS = 12.0
SMALLEST = 0.02   # share of its image that a cut-out covers
CONTRAST = 20.0   # mean difference to the distractor in gray levels, or its hue cannot be seen
SIDE = (0.35, 0.5)   # longer side of a cut-out, as a share of the frame's shorter side
DETOUR = 0.15   # by which both leave the straight line between their places, likewise
TURN, GROWTH = 10.0, 1.15   # largest turn, degrees, and factor on the size, within a video
PAN = 0.1   # longest way of the camera over the background, as a share of the frame's sides
ATTEMPTS = 200
JPEG_FROM, QUALITY = 128, 95   # smaller frames are stored losslessly


@dataclasses.dataclass(frozen=True)
class Options:
    """What to build.

    Attributes:
      images: folder of the images below the source.
      masks: folder of the masks below the source.
      objects: the sets that objects are cut out of, see `sets` of `stills`; () takes all images.
      backgrounds: the sets of the backgrounds; () takes all images.
      height: of the frames, pixels, at least 32.
      width: of the frames, pixels, at least 32.
      length: frames of a video, at least 2.
      videos: number of videos.
      pairs: cut-outs of a video, each with its distractor.
      hue: smallest and largest angle by which the hue of a distractor is turned, degrees within 0
        to 180, in either direction.
      seed: video i depends only on seed, i, the files and the options, but not on `videos`.
    """

    images: str = "images"
    masks: str = "masks"
    objects: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    height: int = 192
    width: int = 192
    length: int = 36
    videos: int = 25
    pairs: int = 2
    hue: tuple[float, float] = (60.0, 180.0)
    seed: int = 0

    def __post_init__(self):
        lists_to_tuples(self)
        if min(self.height, self.width) < 32 or self.length < 2 or self.videos < 1:
            raise ValueError("cutouts: frames must be at least 32x32, a video 2 frames long and "
                             f"there must be one, got {self.height}x{self.width}, {self.length} "
                             f"frames, {self.videos} videos")
        if not 1 <= self.pairs <= 127:
            raise ValueError(f"cutouts: pairs must lie within 1 to 127, got {self.pairs}")
        if not 0 <= self.hue[0] <= self.hue[1] <= 180:
            raise ValueError("cutouts: hue must be (smallest, largest) within 0 to 180 degrees, "
                             f"got {self.hue}")

    def stills(self, sets: tuple[str, ...]) -> stills.Options:
        """Returns the options that read these sets."""
        return stills.Options(self.images, self.masks, sets)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """An object and where it is.

    Attributes:
      rgb: uint8 [h, w, 3], its bounding box.
      mask: uint8 [h, w], 1 on the object.
      matrices: [T, 3, 3], from pixel edges of the box to those of each frame.
    """

    rgb: np.ndarray
    mask: np.ndarray
    matrices: np.ndarray


class Builder(VideoBuilder):
    """Builds the videos; `options` is an `Options`."""

    name = "cutouts"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of the split test; see `VideoBuilder.splits`."""
        options = self.options
        objects, backgrounds = (
            list(stills.read_pairs(self.source, options.stills(sets)).values())
            for sets in (options.objects, options.backgrounds))
        images = [image for image, _ in backgrounds]
        stock = fingerprint([objects, images], self.source)
        return {"test": [
            Unread(make_record, options, objects, images, number,
                   depends_on=(options, stock, number))
            for number in range(options.videos)]}


def verify(source: Path, options: Options) -> list[str]:
    """Returns the problems of the folder, see `stills.verify`."""
    return [problem for sets in dict.fromkeys((options.objects, options.backgrounds))
            for problem in stills.verify(source, options.stills(sets))]


def make_record(
    options: Options, objects: list[tuple[Path, Path]], backgrounds: list[Path], number: int
) -> records.Record:
    """Returns one video as a record; objects 2 k - 1 and 2 k are a cut-out and its distractor.

    Args:
      options: of the builder.
      objects: (image, mask) of the stills that objects are cut out of.
      backgrounds: images.
      number: of the video.

    Raises:
      ValueError: a file cannot be read, or many objects in a row are small or without color.
    """
    rng = np.random.default_rng((options.seed, number))
    size = (options.height, options.width)
    ground = _background(backgrounds[int(rng.integers(len(backgrounds)))], options, rng)
    cutouts = _place([_draw(options, objects, rng) for _ in range(options.pairs)], options, rng)
    order = rng.permutation(len(cutouts))
    frames, masks = [], []
    for t in range(options.length):
        frame, mask = warp_frame(*ground[t], size), np.zeros(size, np.uint8)
        for k in order:
            one = cutouts[k]
            seen = warp_mask(one.mask, one.matrices[t], size, border=0) > 0
            frame[seen] = warp_frame(one.rgb, one.matrices[t], size)[seen]
            mask[seen] = k + 1
        frames.append(records.encode_image(frame, QUALITY if min(size) >= JPEG_FROM else None))
        masks.append(records.encode_mask(mask))
    return records.Record(
        video_id=f"test-{number:06d}", frames=frames, masks=masks, height=size[0], width=size[1],
        fps=FPS, objects=[records.Object(k + 1) for k in range(len(cutouts))],
    )


def _read(path: Path) -> np.ndarray:
    return records.decode_image(files.read_image(path)[0], str(path))


def _background(
    path: Path, options: Options, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the image and its matrix for each frame: the camera pans over it."""
    rgb, size = _read(path), np.array([options.height, options.width])
    scale = (1 + PAN) * max(size / rgb.shape[:2])
    room = scale * np.array(rgb.shape[:2]) - size
    start, way = rng.uniform(0, 1, 2), PAN * size * rng.uniform(-1, 1, 2)
    corners = np.clip(start * room + np.linspace(0, 1, options.length)[:, None] * way, 0, room)
    return [(rgb, translation(*-corner) @ scaling(scale, scale)) for corner in corners]


def _draw(
    options: Options, objects: list[tuple[Path, Path]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the colors of a cut-out, those of its distractor before it is mirrored, and its mask.

    It is the largest object of an image; another one is drawn if it is small, or so gray that
    another hue does not show.
    """
    for _ in range(ATTEMPTS):
        image, mask_path = objects[int(rng.integers(len(objects)))]
        rgb, index = _read(image), files.read_mask(mask_path)
        files.check_size(mask_path, index.shape, rgb.shape[:2], image)
        turn = rng.uniform(*options.hue) * rng.choice([-1, 1])
        counts = np.bincount(index.ravel(), minlength=256)[1:255]
        mask = (index == 1 + counts.argmax()).astype(np.uint8)
        if counts.max() < SMALLEST * mask.size:
            continue
        left, top, width, height = cv2.boundingRect(mask)
        rgb, mask = (a[top:top + height, left:left + width] for a in (rgb, mask))
        other = turn_hue(rgb, turn)
        if np.abs(rgb.astype(float) - other)[mask > 0].mean() >= CONTRAST:
            return rgb, other, mask
    raise ValueError(f"cutouts: none of {ATTEMPTS} objects covers {SMALLEST:.0%} of its image in a "
                     f"color whose hue can be turned within {options.hue} degrees; choose other "
                     "sets with the option 'objects'")


def turn_hue(rgb: np.ndarray, degrees: float) -> np.ndarray:
    """Returns uint8 [h, w, 3] with the hue turned; saturation and value stay."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)   # its hue is in units of two degrees
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(degrees / 2)) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _place(
    drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]], options: Options,
    rng: np.random.Generator,
) -> list[Cutout]:
    """Returns each cut-out and its distractor, which begin in two cells of a grid and change them.

    The grid has two rows and a column for each pair.
    """
    size = np.array([options.height, options.width])
    cells = (np.stack(np.mgrid[:2, :options.pairs], -1).reshape(-1, 2) + 0.5) / (2, options.pairs)
    cells = rng.permutation(cells) * size
    time = np.linspace(0, 1, options.length)
    cutouts = []
    for (rgb, other, mask), (here, there) in zip(drawn, cells.reshape(-1, 2, 2), strict=True):
        scale = rng.uniform(*SIDE) * size.min() / max(mask.shape)
        across = (there - here)[::-1] * (1, -1) / np.linalg.norm(there - here)
        detour = DETOUR * size.min() * rng.uniform(-1, 1)
        for colors, flip, start, end in ((rgb, False, here, there), (other, True, there, here)):
            way = start + time[:, None] * (end - start)
            way += np.sin(np.pi * time)[:, None] * detour * across * (1 if flip else -1)
            turns = np.deg2rad(TURN) * rng.uniform(-1, 1) * np.sin(np.pi * time)
            sizes = scale * GROWTH ** (rng.uniform(-1, 1) * time)
            around = translation(-mask.shape[0] / 2, -mask.shape[1] / 2)
            matrices = [translation(*place) @ _rotation(turn) @ scaling(s, -s if flip else s)
                        @ around for place, turn, s in zip(way, turns, sizes, strict=True)]
            cutouts.append(Cutout(colors, mask, np.array(matrices)))
    return cutouts


def _rotation(turn: float) -> np.ndarray:
    """Returns the 3x3 matrix, for (x, y, 1), that turns clockwise by an angle in radians."""
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return matrix
