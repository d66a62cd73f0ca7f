"""Takes the picture of the page, docs/demo.png: `python docs/demo_picture.py DAVIS [SEQUENCE]`.

`DAVIS` is the folder of DAVIS 2016 in its official layout. Chromium opens the page of the shipped
model, and what is on the picture is done as a user would: a box around the object in frame 0.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright

import vseg_jax
from vseg_jax.demo.limits import Limits
from vseg_jax.media.images import ImageFolder
from vseg_jax.media.video import VideoWriter

FRAMES, WINDOW, NAME = 8, (1200, 800), "car"
PATIENCE = 600_000   # ms
FILE = Path(__file__).with_name("demo.png")


def write_clip(davis: Path, name: str, path: Path) -> tuple[float, float, float, float]:
    """Writes the first frames of a sequence as a video; returns the object's box, as shares."""
    with VideoWriter(path, 25.0) as writer:
        for _, frame in zip(range(FRAMES), ImageFolder(davis / "JPEGImages/480p" / name),
                            strict=False):
            writer.add(frame)
    truth = cv2.imread(str(davis / "Annotations/480p" / name / "00000.png"), cv2.IMREAD_GRAYSCALE)
    x, y, width, height = cv2.boundingRect((truth > 0).astype(np.uint8))
    rows, columns = truth.shape
    return x / columns, y / rows, (x + width) / columns, (y + height) / rows


def main(davis: str, name: str = "car-roundabout") -> None:
    """Writes the picture."""
    folder = tempfile.mkdtemp()
    os.environ["GRADIO_TEMP_DIR"] = folder
    from vseg_jax.demo.page import Page

    clip = Path(folder) / "clip.mp4"
    left, top, right, bottom = write_clip(Path(davis), name, clip)
    page = Page(vseg_jax.load("swiftnet-lite0"), "swiftnet-lite0", Limits(), Path(folder))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]})
        tab.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        tab.goto(page.launch("127.0.0.1", None))
        tab.locator("#video input[type=file]").set_input_files(clip)
        tab.locator("#stage canvas").wait_for()
        tab.locator("#name input, #name textarea").fill(NAME)
        tab.click("#rename")
        tab.get_by_label("Box").click()
        area = tab.locator("#stage img").bounding_box()
        assert area is not None
        tab.mouse.move(area["x"] + left * area["width"], area["y"] + top * area["height"])
        tab.mouse.down()
        tab.mouse.move(area["x"] + right * area["width"], area["y"] + bottom * area["height"],
                       steps=4)
        tab.mouse.up()
        expect(tab.locator("#status")).to_contain_text("masks were given in: 0")
        tab.click("#run")
        expect(tab.locator("#status")).to_contain_text(f"All {FRAMES} frames are segmented")
        tab.screenshot(path=FILE)
        browser.close()
    page.blocks.close(verbose=False)
    shutil.rmtree(folder)
    # Fewer colors: a quarter of the bytes.
    Image.open(FILE).convert("RGB").quantize(128).save(FILE, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
