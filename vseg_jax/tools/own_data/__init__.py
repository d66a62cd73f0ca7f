"""Makes a dataset from your own videos and the masks that an annotation tool wrote.

    vseg data new own --videos clip.mp4 --masks annotations.xml --val_share 0.3
    vseg data new own --videos videos --masks labels --expressions expressions.csv --val clip_7

`--videos` is a video file, a folder of images (one video), or a folder of these. `--masks` are
files, or folders of them: JSON of LabelMe, JSON in COCO's form (CVAT, Label Studio, Roboflow), XML
of CVAT (for images or for video), or index masks as PNGs, one per frame. OUTPUT gets the layout of
DAVIS 2017, which `prepare davis --option year=0` and the configs named `finetune` read: the frames
from the first to the last annotated one, their masks, categories.json, expressions.json and
contact_sheet.jpg, a picture of frames with their masks. The folder is written only if nothing is
wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vseg_jax.arguments import Parser
from vseg_jax.atomic import atomic_folder
from vseg_jax.input_pipeline.builders.as_youtube_vis import parse_categories
from vseg_jax.input_pipeline.builders.files import first_names
from vseg_jax.tools.own_data import cvat, expressions, json_files
from vseg_jax.tools.own_data.annotations import Annotation, find_files
from vseg_jax.tools.own_data.assemble import Labeled, label_videos
from vseg_jax.tools.own_data.split import TRAIN, Part, split
from vseg_jax.tools.own_data.videos import find
from vseg_jax.tools.own_data.write import EXPRESSIONS, SHEET, write

__all__ = ["main", "new"]

_LISTED = 20  # problems that an error lists


def new(
    output: str | Path, videos: str | Path, masks: Sequence[str | Path], *,
    table: str | Path | None = None, val: Sequence[str] = (), val_share: float = 0.0,
    categories: Mapping[int, str] | None = None,
) -> list[Part]:
    """Writes a dataset atomically; see the module's docstring.

    Args:
      output: a new folder.
      videos: a video file, a folder of images, or a folder of these.
      masks: files and folders.
      table: CSV file of expressions.
      val: names of the videos that are held out.
      val_share: of the annotated frames of every video, at its end, that is held out.
      categories: by object id, for index masks, which have none.

    Returns:
      The sequences of the dataset.

    Raises:
      ValueError: something is wrong with the videos, masks or expressions; a line for each problem.
    """
    paths = [Path(path) for path in masks]
    sources = find(Path(videos), paths)
    frames = {frame.resolve() for source in sources.values() for frame in source.frames}
    annotations, problems = _read([  # LabelMe writes its files beside the frames
        (path, places) for path, places in find_files(paths) if path.resolve() not in frames])
    labeled, found = label_videos(sources, annotations)
    problems += found
    problems += _categorize(labeled, categories or {})
    texts, found = expressions.read(Path(table), labeled) if table else ({}, [])
    problems += found if not problems else []   # the names of objects may be missing
    if problems:
        more = len(problems) - _LISTED
        raise ValueError("\n".join([
            f"{len(problems)} problem{'s' * (len(problems) > 1)}; nothing was written:",
            *problems[:_LISTED], *([f"... and {more} more"] if more > 0 else [])]))
    parts = split(labeled, val, val_share)
    with atomic_folder(output) as root:
        write(root, parts, texts)
    return parts


def _read(files: Sequence[tuple[Path, tuple[str, ...]]]) -> tuple[list[Annotation], list[str]]:
    """Returns what the files say, and the problems of those that cannot be read."""
    found, problems = [], []
    for path, places in files:
        ending = path.suffix.lower()
        try:
            if ending == ".png":
                found.append(Annotation(path.stem, places[:-1], None, str(path), mask=path))
            else:
                found += (cvat if ending == ".xml" else json_files).read(path, places)
        except (OSError, ValueError) as error:
            problems.append(str(error))
    if not found and not problems:
        problems.append("the files given as masks annotate no frame")
    return found, problems


def _categorize(videos: Sequence[Labeled], categories: Mapping[int, str]) -> list[str]:
    """Names the objects of index masks; returns the problems of names that are of no object."""
    unused = set(categories)
    for video in videos:
        if not video.categories:
            video.categories = {i: categories[i] for i in video.names if i in categories}
            unused -= set(video.categories)
    return [f"--categories names object {i} {categories[i]}, which no index mask shows"
            for i in sorted(unused)]


def summary(output: str | Path, parts: Sequence[Part]) -> str:
    """Returns what a dataset holds, in a few lines."""
    lines = [f"wrote {output}:"]
    for part in parts:
        height, width = part.video.source.size
        counts = {i: sum(i in part.video.seen[t] for t in part.annotated) for i in part.ids}
        objects = ", ".join(f"{part.video.names[i]} (id {i}, in {n})" for i, n in counts.items())
        length = part.annotated[-1] - part.annotated[0] + 1
        lines.append(f"  {part.split:5} {part.name}: {length} frames of {width} x {height}, "
                     f"{len(part.annotated)} annotated: {objects}")
    empty = [part.video.annotations[t].where for part in parts for t in part.annotated
             if not part.video.seen[t]]
    if empty:
        lines.append(f"note: annotated frames that show no object: {first_names(empty)}")
    if all(part.split == TRAIN for part in parts):
        lines.append("note: nothing is held out to measure a model on; see --val and --val_share")
    if (Path(output) / EXPRESSIONS).is_file():
        lines.append(f"expressions: {Path(output) / EXPRESSIONS}")
    return "\n".join([*lines, f"look at {Path(output) / SHEET} before you train"])


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 if it failed."""
    parser = Parser(prog="vseg data new", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="a new folder")
    parser.add_argument("--videos", required=True, metavar="PATH",
                        help="a video file, a folder of images (one video), or a folder of these")
    parser.add_argument("--masks", required=True, nargs="+", metavar="PATH",
                        help="annotation files, or folders of them; with several videos, those of "
                             "each are in a folder or file with the name of the video")
    parser.add_argument("--expressions", metavar="CSV",
                        help="table with the columns video, object (name or id), expression and, "
                             "if you like, style")
    parser.add_argument("--categories", default="", metavar="ID=NAME,...",
                        help="categories of the objects of index masks; other masks have labels")
    parser.add_argument("--val", default="", metavar="VIDEO,...", help="videos that are held out")
    parser.add_argument("--val_share", type=float, default=0.0, metavar="SHARE",
                        help="share of the annotated frames that is held out, at the end of every "
                             "video")
    given = parser.parse_args(arguments)
    try:
        parts = new(given.output, given.videos, given.masks, table=given.expressions,
                    val=[name for name in given.val.split(",") if name],
                    val_share=given.val_share, categories=parse_categories(given.categories))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(given.output, parts))
    return 0
