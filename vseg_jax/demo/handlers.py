"""What happens when a user does something on the page: from values of components to new ones."""

from __future__ import annotations

import functools
import inspect
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from vseg_jax.demo.clip import Clip, read_clip
from vseg_jax.demo.downloads import DOWNLOADS
from vseg_jax.demo.limits import Limits
from vseg_jax.demo.outline import Number
from vseg_jax.demo.picture import as_url, picture
from vseg_jax.demo.work import Work
from vseg_jax.inference import Segmenter

_EVERY = 0.15   # seconds between two pictures of a run


def clear_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a handler that shows a ValueError, which concerns the user, in its own words."""
    if inspect.isgeneratorfunction(function):
        @functools.wraps(function)
        def generator(*arguments: Any) -> Iterator[Any]:
            try:
                yield from function(*arguments)
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error
        return generator

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
    return call


class Handlers:
    """The handlers of the page, and the work of each user.

    Most of them return a view: new values of the columns with the frame and the tools, the frame,
    the slider, the list of objects and the status line.

    Attributes:
      works: by the session of the user's page.
    """

    def __init__(self, segmenter: Segmenter, limits: Limits, folder: Path) -> None:
        """Takes the model, the limits of videos, and the folder for the users' files."""
        self.works: dict[str, Work] = {}
        self._segmenter, self._limits, self._folder = segmenter, limits, folder

    @clear_errors
    def open(self, path: str | None, request: gr.Request,
             progress: gr.Progress = gr.Progress()) -> list[Any]:   # noqa: B008
        """Reads an uploaded or recorded video; returns the upload, the files and the view."""
        if path is None:
            return [gr.skip()] * 8
        try:
            clip = self._read(path, 0, progress)
            work = self._begin(clip, request)
            clip.path = Path(shutil.move(path, work.folder / Path(path).name))
        finally:
            shutil.rmtree(Path(path).parent, ignore_errors=True)   # gradio makes one for each file
        return [gr.Video(value=None, visible=False), None, *self._view(work, 0, None, clip.summary)]

    @clear_errors
    def open_again(self, begin: Number | None, request: gr.Request,
                   progress: gr.Progress = gr.Progress()) -> list[Any]:   # noqa: B008
        """Reads another part of the same video; returns the files and the view."""
        old = self._work(request)
        clip = self._read(old.clip.path, begin, progress)
        kept = Path(shutil.move(clip.path, self._folder / f"{request.session_hash}-again"))
        name = clip.path.name
        work = self._begin(clip, request)
        clip.path = Path(shutil.move(kept, work.folder / name))
        return [None, *self._view(work, 0, None, clip.summary)]

    @clear_errors
    def close(self, request: gr.Request) -> list[Any]:
        """Deletes the user's work; returns the upload, the files and the view."""
        self.leave(request)
        return [gr.Video(value=None, visible=True), None, gr.Column(visible=False),
                gr.Column(visible=False), gr.HTML(picture=""), gr.skip(),
                gr.Radio(choices=[], value=None), ""]

    def leave(self, request: gr.Request) -> None:
        """Deletes all that there is of a user whose page was closed."""
        if work := self.works.pop(str(request.session_hash), None):
            work.close()

    @clear_errors
    def show(self, frame: int, number: int | None, request: gr.Request) -> list[Any]:
        """Returns the view of a frame."""
        return self._view(self._work(request), frame, number)

    @clear_errors
    def gesture(self, value: dict[str, Any] | None, tool: str, radius: Number, frame: int,
                number: int | None, request: gr.Request) -> list[Any]:
        """Changes an object's mask as the user has drawn, with a radius in percent."""
        work = self._work(request)
        if number is None and work.kind == "mask":
            number = work.add()
        number = number or 0
        height, width = work.clip.size
        points = [(width * float(x), height * float(y)) for x, y in (value or {})["points"]]
        if tool in ("click", "beside"):
            work.click(frame, number, points[-1], tool == "click")
        elif tool == "box":
            work.box(frame, number, points[0], points[-1])
        else:
            work.paint(frame, number, points, radius / 100 * min(work.clip.size), tool == "brush")
        return self._view(work, frame, number)

    @clear_errors
    def undo(self, frame: int, number: int | None, request: gr.Request) -> list[Any]:
        """Takes back the last change of a mask and shows its frame."""
        work = self._work(request)
        return self._view(work, work.undo(), number)

    @clear_errors
    def absent(self, frame: int, number: int | None, request: gr.Request) -> list[Any]:
        """Says that the object is not in the frame."""
        work = self._work(request)
        work.absent(frame, number or 0)
        return self._view(work, frame, number)

    @clear_errors
    def remove(self, frame: int, number: int | None, request: gr.Request) -> list[Any]:
        """Removes the object."""
        work = self._work(request)
        work.remove(number or 0)
        return self._view(work, frame, None)

    @clear_errors
    def add(self, name: str | None, frame: int, number: int | None, request: gr.Request
            ) -> list[Any]:
        """Adds an object; returns an empty field for the name, and the view."""
        work = self._work(request)
        return ["", *self._view(work, frame, work.add(name or ""))]

    @clear_errors
    def rename(self, name: str | None, frame: int, number: int | None, request: gr.Request
               ) -> list[Any]:
        """Renames the object; returns an empty field for the name, and the view."""
        work = self._work(request)
        work.rename(number or 0, name or "")
        return ["", *self._view(work, frame, number)]

    @clear_errors
    def run(self, query: str | None, back: bool, frame: int, number: int | None, request: gr.Request
            ) -> Iterator[list[Any]]:
        """Segments the frames that need it; yields views while masks come in."""
        work = self._work(request)
        work.follow_back(back)
        if work.kind == "query":
            work.ask(query or "")
        total = len(work.clip)
        yield self._view(work, frame, number, "Working. The first frames of a size take longest, "
                                              "because the model is compiled for it.")
        began = shown = time.monotonic()
        for done, frame in enumerate(work.run(), 1):
            now = time.monotonic()
            if now - shown > _EVERY:
                shown = now
                yield self._view(work, frame, number, f"Frame {frame + 1} of {total}, "
                                                      f"{done / (now - began):.1f} frames/s.")
        yield self._view(work, frame, number)

    def stop(self, request: gr.Request) -> None:
        """Ends a run after its frame."""
        if work := self.works.get(str(request.session_hash)):
            work.stop()

    @clear_errors
    def save(self, wanted: list[str], request: gr.Request,
             progress: gr.Progress = gr.Progress()) -> list[str]:   # noqa: B008
        """Writes the chosen files and returns their paths."""
        work = self._work(request)
        if not work.names:
            raise ValueError("there is no object yet, so there is nothing to save")
        if not wanted:
            raise ValueError("choose the files to make")
        paths = []
        for kind in wanted:
            def report(share: float, kind: str = kind) -> None:
                progress(share, desc=kind)
            paths.append(str(DOWNLOADS[kind](work, report)))
        return paths

    def _read(self, path: str | Path, begin: Number | None, progress: gr.Progress) -> Clip:
        return read_clip(path, self._limits, float(begin or 0), audio=self._segmenter.uses_audio,
                         progress=lambda count: progress((count, None), unit="frames"))

    def _begin(self, clip: Clip, request: gr.Request) -> Work:
        """Returns new work of the user, in place of what there was."""
        self.leave(request)
        work = Work(self._segmenter, clip, self._folder)
        self.works[str(request.session_hash)] = work
        if work.kind == "mask":
            work.add()
        return work

    def _work(self, request: gr.Request) -> Work:
        if str(request.session_hash) not in self.works:
            raise ValueError("open a video first")
        return self.works[str(request.session_hash)]

    def _view(self, work: Work, frame: int, number: int | None, status: str = "") -> list[Any]:
        """Returns the view of a frame; see the class."""
        if number not in work.names:
            number = next(iter(work.names), None)
        return [
            gr.Column(visible=True), gr.Column(visible=True),
            gr.HTML(picture=as_url(picture(work, frame, number))),
            gr.Slider(maximum=max(len(work.clip) - 1, 1), value=frame),
            gr.Radio(choices=[(name, i) for i, name in work.names.items()], value=number),
            status or _status(work),
        ]


def _status(work: Work) -> str:
    """Returns what is done and what is to do."""
    total = len(work.clip)
    if work.valid == total:
        return f"All {total} frames are segmented."
    if work.valid or work.prompts.frames():
        given = ", ".join(map(str, work.prompts.frames()))
        return (f"{work.valid} of {total} frames are up to date; masks were given in: "
                f"{given or 'none'}. \"Segment\" does the rest.")
    return work.clip.summary
