"""The layout of the page, and which handler belongs to which component."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from vseg_jax.demo.downloads import DOWNLOADS
from vseg_jax.demo.handlers import Handlers
from vseg_jax.demo.limits import Limits
from vseg_jax.inference import Segmenter
from vseg_jax.inference.prompts import streams_of

_TOOLS = [("Click", "click"), ("Click beside it", "beside"), ("Box", "box"), ("Brush", "brush"),
          ("Eraser", "eraser")]
_RADIUS = 3   # of the brush, in percent of the shorter side
_FILES = ("overlay video", "masks", "table")   # that are chosen at first
_HERE = Path(__file__).parent
_STAGE = ('<div class="stage"><img src="${picture}" draggable="false" alt="The frame and its '
          'masks"><canvas></canvas></div>')
_HELP = {
    "mask": "Open a video. Name an object in any frame: click on it, drag a box around it, or "
            "paint it. Segment. Correct any frame, and segment again from there.",
    "query": "Open a video, name the object by a sentence, and segment.",
    "": "Open a video and segment; the model finds its objects by itself.",
}


class Page:
    """The page of a model.

    Attributes:
      blocks: of gradio; `launch` of it serves the page.
      handlers: with the work of all users.
    """

    def __init__(self, segmenter: Segmenter, title: str, limits: Limits, folder: Path) -> None:
        """Builds the page.

        Args:
          segmenter: the model.
          title: for the top of the page.
          limits: of videos.
          folder: for the users' files. It is best if gradio's own files are there, too.
        """
        self.handlers, self._limits = Handlers(segmenter, limits, folder), limits
        kind = streams_of(segmenter.model).prompt
        with gr.Blocks(title=title, analytics_enabled=False) as self.blocks:
            gr.Markdown(f"## {title}\n{_HELP[kind]}")
            with gr.Row():
                with gr.Column(scale=3):
                    self._build_video(limits)
                with gr.Column(scale=1, min_width=300, visible=False) as self.panel:
                    self._build_objects(kind)
                    self._build_files()
            self._connect()

    def launch(self, host: str, port: int | None, in_browser: bool = False) -> str:
        """Serves the page from another thread, until `blocks.close`, and returns its address.

        Args:
          host: the address to listen at.
          port: None for the first free one from 7860 on.
          in_browser: whether to open the page in the browser.

        Raises:
          OSError: the address or port cannot be used.
        """
        self.blocks.queue(default_concurrency_limit=4, max_size=64)
        # Nothing is loaded from elsewhere, and no browser keeps what was done here.
        theme = gr.themes.Default(font=["system-ui", "sans-serif"],
                                  font_mono=["ui-monospace", "monospace"])
        _, local, _ = self.blocks.launch(
            server_name=host, server_port=port, inbrowser=in_browser, prevent_thread_lock=True,
            share=False, quiet=True, run_history=False, footer_links=[], theme=theme,
            max_file_size=f"{self._limits.megabytes}mb",
            # No test whether the page answers in 3 s: a busy machine may need longer.
            _frontend=False)
        return local

    def _build_video(self, limits: Limits) -> None:
        self.video = gr.Video(
            label=f"Video, up to {limits.megabytes} MB. Up to {limits.frames} frames are read. "
                  "All is deleted when you close the page.",
            sources=["upload", "webcam"], webcam_options=gr.WebcamOptions(mirror=False),
            include_audio=True, elem_id="video")
        with gr.Column(visible=False) as self.opened:
            self.stage = gr.HTML(
                html_template=_STAGE, css_template=(_HERE / "stage.css").read_text(),
                js_on_load=(_HERE / "stage.js").read_text(), apply_default_css=False,
                elem_id="stage", picture="", tool=_TOOLS[0][1], radius=_RADIUS / 100)
            self.frame = gr.Slider(0, 1, value=0, step=1, label="Frame", elem_id="frame")
            with gr.Row():
                self.run = gr.Button("Segment", variant="primary", elem_id="run")
                self.stop = gr.Button("Stop", elem_id="stop")
                self.another = gr.Button("Another video", elem_id="another")
            self.status = gr.Markdown(elem_id="status")
            with gr.Row(equal_height=True):
                self.begin = gr.Number(0, label="Another part of the video: begin at second",
                                       minimum=0, elem_id="begin")
                self.again = gr.Button("Open that part", elem_id="again")

    def _build_objects(self, kind: str) -> None:
        by_mask = kind == "mask"
        self.query = gr.Textbox(label="Sentence", placeholder="the red circle",
                                visible=kind == "query", elem_id="query")
        self.tool = gr.Radio(_TOOLS, value=_TOOLS[0][1], label="Tool", visible=by_mask,
                             elem_id="tool")
        self.radius = gr.Slider(0.5, 15, value=_RADIUS, step=0.5, label="Brush, %", visible=by_mask,
                                elem_id="radius")
        with gr.Row(visible=by_mask):
            self.undo = gr.Button("Undo", size="sm", min_width=80, elem_id="undo")
            self.absent = gr.Button("Not in this frame", size="sm", min_width=80,
                                    elem_id="absent")
        self.number = gr.Radio([], label="Object", elem_id="objects")
        self.name = gr.Textbox(label="Name of an object", elem_id="name", max_lines=1)
        with gr.Row():
            self.add = gr.Button("Add", size="sm", min_width=60, visible=by_mask, elem_id="add")
            self.rename = gr.Button("Rename", size="sm", min_width=60, elem_id="rename")
            self.remove = gr.Button("Remove", size="sm", min_width=60, elem_id="remove")
        self.back = gr.Checkbox(label="Follow objects back, too, to the frames before their first "
                                      "masks", visible=by_mask, elem_id="back")

    def _build_files(self) -> None:
        self.wanted = gr.CheckboxGroup(list(DOWNLOADS), value=list(_FILES), label="Files",
                                       elem_id="wanted")
        self.save = gr.Button("Make files", elem_id="save")
        self.files = gr.Files(label="Downloads", interactive=False, elem_id="files")

    def _connect(self) -> None:
        do, place = self.handlers, [self.frame, self.number]
        # What `Handlers` calls a view.
        view = [self.opened, self.panel, self.stage, self.frame, self.number, self.status]
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        gr.on([self.video.upload, self.video.stop_recording], do.open, self.video,
              [self.video, self.files, *view], show_progress_on=[self.video])
        self.again.click(do.open_again, self.begin, [self.files, *view],
                         show_progress_on=[self.status])
        self.another.click(do.close, None, [self.video, self.files, *view], **quiet)
        gr.on([self.frame.input, self.number.input], do.show, place, view,
              trigger_mode="always_last", **quiet)
        gr.on([self.tool.input, self.radius.input],
              lambda tool, radius: gr.HTML(tool=tool, radius=radius / 100),
              [self.tool, self.radius], self.stage, **quiet)
        self.stage.submit(do.gesture, [self.stage, self.tool, self.radius, *place], view, **quiet)
        for button, handler in ((self.undo, do.undo), (self.absent, do.absent),
                                (self.remove, do.remove)):
            button.click(handler, place, view, **quiet)
        for button, handler in ((self.add, do.add), (self.rename, do.rename)):
            button.click(handler, [self.name, *place], [self.name, *view], **quiet)
        run = self.run.click(do.run, [self.query, self.back, *place], view, concurrency_limit=1,
                             concurrency_id="model", show_progress_on=[self.status])
        self.stop.click(do.stop, None, None, cancels=[run], queue=False)
        self.save.click(do.save, self.wanted, self.files)
        self.blocks.unload(do.leave)
