"""The user's videos: files, and folders of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from vseg_jax.input_pipeline.codecs import encode_image
from vseg_jax.media.images import ImageFolder, is_image, open_video
from vseg_jax.media.video import ENDINGS, Video

_QUALITY = 95  # of the JPEGs of frames that are not copied


@dataclasses.dataclass(frozen=True)
class Source:
    """A video.

    Attributes:
      name: without spaces.
      path: the file or folder.
      frames: the images of a folder in order, () for a file.
      size: (height, width) of the first frame.
    """

    name: str
    path: Path
    frames: tuple[Path, ...]
    size: tuple[int, int]

    def read(self) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], bytes, str]]:
        """Yields each frame in RGB, encoded, and the ending of its file.

        Images are copied where every program shows them alike.

        Raises:
          ValueError: a frame cannot be read, or has another size than the first.
        """
        for t, rgb in enumerate(open_video(self.path)):
            if self.frames and _is_plain(self.frames[t]):
                yield rgb, self.frames[t].read_bytes(), self.frames[t].suffix.lower()
            else:
                yield rgb, encode_image(rgb, _QUALITY), ".jpg"


def find(path: Path, masks: Sequence[Path]) -> dict[str, Source]:
    """Returns the videos by name.

    Args:
      path: a video file, a folder of images (one video), or a folder of these.
      masks: files and folders of masks, which are no videos though they may lie in `path`.

    Raises:
      ValueError: there is no video, one cannot be read, or two have one name.
    """
    if path.is_dir() and not _has_images(path):
        paths = [p for p in sorted(path.iterdir())
                 if not p.name.startswith(".") and not _is_one_of(p, masks)
                 and (_has_images(p) if p.is_dir() else p.suffix.lower() in ENDINGS)]
        if not paths:
            raise ValueError(f"{path} holds neither images, nor folders of images, nor videos "
                             f"({', '.join(ENDINGS)})")
    else:
        paths = [path]
    found: dict[str, Source] = {}
    for each in paths:
        source = _open(each)
        if source.name in found:
            raise ValueError(f"{found[source.name].path} and {each} are both called {source.name}; "
                             "rename one of them")
        found[source.name] = source
    return found


def _open(path: Path) -> Source:
    video: Video | ImageFolder = open_video(path)
    frames = tuple(video.files) if isinstance(video, ImageFolder) else ()
    title = path.resolve().name if path.is_dir() else path.stem
    first = next(iter(video))
    return Source(name_of(title), path, frames, first.shape[:2])


def name_of(title: str) -> str:
    """Returns the name of the video that the user calls `title`; lists of sequences need names
    without spaces."""
    return "_".join(title.split())


def _has_images(folder: Path) -> bool:
    return any(map(is_image, folder.iterdir()))


def _is_one_of(path: Path, masks: Sequence[Path]) -> bool:
    return any(mask.exists() and mask.samefile(path) for mask in masks)


def _is_plain(path: Path) -> bool:
    """Returns whether the builder of the dataset reads a file as it is shown here."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return False
    with Image.open(path) as image:
        return (image.mode in ("RGB", "L")
                and image.getexif().get(ExifTags.Base.Orientation, 1) == 1)
