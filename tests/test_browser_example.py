"""The page in examples/ follows a mask in headless Chromium."""

import functools
import http.server
import json
import math
import shutil
import threading
from pathlib import Path

import chromium
import numpy as np
import pytest
from two_squares import SIZE, overlap, squares

from vseg_jax.media.video import VideoWriter

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("av")

PAGE = Path(__file__).resolve().parents[1] / "examples" / "browser.html"
FRAMES, TRUTH = squares(7)   # in the last frame both begin at even pixels, as colors of videos do
# In place of onnxruntime-web, which is no Python package. What it is asked goes to `Graph`.
ENGINE = """
export class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
const plain = tensors => Object.fromEntries(Object.entries(tensors).map(
  ([name, { type, data, dims }]) => [name, { type, data: [...data], dims }]));
export const InferenceSession = { create: async () => (
  { run: feeds => window.run(plain(feeds)) }) };
"""

# `model.json` as `vseg export --format onnx` writes it, for a model of two objects.
ABOUT = {
    "image": {"shape": [*SIZE, 3], "dtype": "uint8"},
    "prediction": [{"name": "probability", "shape": [2, *SIZE], "dtype": "float32"}],
    "state": [{"name": "state/colors", "shape": [2, 3], "dtype": "float32",
               "next": "next/colors"},
              {"name": "state/present", "shape": [2], "dtype": "bool", "next": "next/present"},
              {"name": "state/count", "shape": [], "dtype": "int32", "next": "next/count"}],
}


class Graph:
    """Finds an object where the color is as in its last mask; the state holds the colors."""

    def __init__(self):
        self.calls = []   # of each: the count before, and the objects in the mask

    def run(self, feeds):
        arrays = {}
        for name, sent in feeds.items():
            assert len(sent["data"]) == math.prod(sent["dims"]), name
            arrays[name] = np.array(sent["data"], sent["type"]).reshape(sent["dims"])
        image, mask = arrays["image"].astype(np.float32), arrays["mask"]
        colors, present = arrays["state/colors"], arrays["state/present"]
        self.calls.append((int(arrays["state/count"]), set(np.unique(mask[mask > 0]).tolist())))
        probability = np.zeros((2, *SIZE), np.float32)
        for n in range(2):
            if (mask == n + 1).any():
                colors[n], present[n] = image[mask == n + 1].mean(0), True
                probability[n] = mask == n + 1
            elif present[n]:
                probability[n] = np.abs(image - colors[n]).sum(-1) < 100
        found = {"probability": probability, "next/colors": colors, "next/present": present,
                 "next/count": arrays["state/count"] + 1}
        return {name: {"type": str(array.dtype), "data": array.ravel().tolist(),
                       "dims": array.shape} for name, array in found.items()}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Serves the folder that the page's first lines describe."""
    folder = tmp_path_factory.mktemp("follower")
    shutil.copy(PAGE, folder / "index.html")
    (folder / "model.json").write_text(json.dumps(ABOUT))
    (engine := folder / "node_modules/onnxruntime-web/dist").mkdir(parents=True)
    (engine / "ort.wasm.min.mjs").write_text(ENGINE)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def tab():
    with chromium.launched() as browser:
        tab = browser.new_page()
        tab.set_default_timeout(60_000)
        sync_api.expect.set_options(timeout=60_000)
        yield tab


def says(tab, text):
    sync_api.expect(tab.locator("#status")).to_contain_text(text)


def paint(tab, x, y, steps=9):
    """Draws a horizontal line of the brush through pixels of the video."""
    area = tab.locator("canvas").bounding_box()
    scale = area["width"] / SIZE[1]
    tab.mouse.move(area["x"] + x * scale, area["y"] + y * scale)
    tab.mouse.down()
    tab.mouse.move(area["x"] + (x + steps) * scale, area["y"] + y * scale, steps=steps)
    tab.mouse.up()
    says(tab, "Press Follow")


def shown(tab):
    """The canvas, [H, W, 3]."""
    data = tab.evaluate("[...document.querySelector('canvas').getContext('2d').getImageData("
                        f"0, 0, {SIZE[1]}, {SIZE[0]}).data]")
    return np.array(data).reshape(*SIZE, 4)[..., :3]


def colored(tab, frame):
    """Where the canvas is not the frame of the video."""
    return np.abs(shown(tab) - FRAMES[frame].astype(int)).max(-1) > 40


def test_painted_objects_are_followed_and_corrected(tab, address, tmp_path):
    graph = Graph()
    tab.expose_function("run", graph.run)
    with VideoWriter(tmp_path / "squares.mp4", 10.0) as writer:
        for frame in FRAMES:
            writer.add(frame)
    tab.goto(address)
    says(tab, "Choose a video.")
    tab.set_input_files("#file", tmp_path / "squares.mp4")
    says(tab, "Paint each object")
    tab.click("#follow")
    says(tab, "Paint an object first.")

    tab.fill("#brush", "3")
    tab.fill("#object", "2")   # its color in the picture, blue, is not that of the square
    paint(tab, 8, 12)
    tab.click("#follow")
    says(tab, "The end of the video, 7 frames.")
    assert graph.calls == [(0, {2}), *((n, set()) for n in range(1, 7))]
    assert overlap(colored(tab, 6), TRUTH[6] == 1) > 0.8

    # On the last frame again, with another object: from the state before it.
    tab.fill("#object", "1")
    paint(tab, 32, 34)
    tab.click("#follow")
    says(tab, "The end of the video, 7 frames.")
    assert graph.calls[7:] == [(6, {1})]
    assert overlap(colored(tab, 6), TRUTH[6] == 1) > 0.6   # and some of the other square


def test_what_cannot_be_used_is_said(tab, address, tmp_path):
    tab.goto(address)
    says(tab, "Choose a video.")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    tab.set_input_files("#file", tmp_path / "no.mp4")
    says(tab, "Error: this browser cannot play the video")
