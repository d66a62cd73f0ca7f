"""The table of expressions: a CSV file with the columns video, object, expression and style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vseg_jax import urls
from vseg_jax.input_pipeline.builders import files
from vseg_jax.tools.own_data.assemble import Labeled
from vseg_jax.tools.own_data.videos import name_of
from vseg_jax.tools.own_data.write import Texts

COLUMNS = ("video", "object", "expression")
STYLE = "style"  # an optional column
PLAIN = "plain"  # the style of expressions without one


def read(path: Path, videos: Sequence[Labeled]) -> tuple[dict[str, Texts], list[str]]:
    """Returns the expressions for the objects of each video, and all problems.

    Raises:
      ValueError: the file cannot be read or has other columns; names the line.
    """
    by_name = {video.source.name: video for video in videos}
    texts: dict[str, dict[int, list[tuple[str, str]]]] = {}
    problems = []
    for where, row in files.read_rows(path, _columns(path), header=True):
        name = name_of(row["video"])
        video = by_name.get(name) or by_name.get(Path(name).stem)
        if video is None:
            problems.append(f"{where}: there is no annotated video '{row['video']}'; there are "
                            f"{files.first_names(by_name)}")
            continue
        ids = [i for i, known in video.names.items() if row["object"].strip() in (str(i), known)]
        if len(ids) != 1:
            known = ", ".join(f"{known} ({i})" for i, known in video.names.items())
            problems.append(f"{where}: {video.source.name} has no object '{row['object']}'; its "
                            f"objects are {known}: give the name or the number")
            continue
        try:
            text = files.tidy(row["expression"], where)
        except ValueError as error:
            problems.append(str(error))
            continue
        style = row.get(STYLE, "").strip() or PLAIN
        texts.setdefault(video.source.name, {}).setdefault(ids[0], []).append((style, text))
    return dict(texts), problems


def _columns(path: Path) -> tuple[str, ...]:
    """Returns the columns that the header of the file should have."""
    try:
        first = files.read_text(path).partition("\n")[0]
    except OSError as error:
        raise ValueError(f"the table of expressions {path} cannot be read ({error.strerror}); see "
                         f"{urls.DOCS}guides/own-data") from error
    return (*COLUMNS, STYLE) if first.rstrip().endswith(STYLE) else COLUMNS
