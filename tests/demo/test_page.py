"""The page in headless Chromium, from the upload to the download."""

import json
import time
import zipfile

import chromium
import pytest
import standin_vos
from two_squares import overlap, squares

from vseg_jax.demo.limits import Limits

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("av")
_, TRUTH = squares()
PATIENCE = 120_000   # ms; the machine may be busy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("users")


@pytest.fixture(scope="module")
def served(folder):
    """The page of a tiny model, and its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        from vseg_jax.demo.page import Page

        page = Page(standin_vos.segmenter(), "tiny", Limits(megabytes=1), folder)
        yield page, page.launch("127.0.0.1", None)
        page.blocks.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def tab(browser, served):
    tab = browser.new_page()
    tab.set_default_timeout(PATIENCE)
    sync_api.expect.set_options(timeout=PATIENCE)
    tab.goto(served[1])
    yield tab
    if not tab.is_closed():
        tab.close()


def upload(tab, file):
    tab.locator("#video input[type=file]").set_input_files(file)
    tab.locator("#stage canvas").wait_for()


def place(tab, x, y):
    """Where a pixel of the video is in the window."""
    area = tab.locator("#stage img").bounding_box()
    return area["x"] + (x + 0.5) / 64 * area["width"], area["y"] + (y + 0.5) / 48 * area["height"]


def says(tab, text):
    sync_api.expect(tab.locator("#status")).to_contain_text(text)


def scrub(tab, frame):
    number = tab.locator("#frame input[type=number]")
    number.fill(str(frame))
    number.press("Enter")


def test_from_the_upload_to_the_download(tab, served, file, folder, tmp_path):
    requests = []
    tab.on("request", lambda request: requests.append(request.url))
    upload(tab, file)
    says(tab, "8 frames, 0.8 s, 64 x 48.")
    [work] = served[0].handlers.works.values()

    tab.mouse.click(*place(tab, 12, 12))
    says(tab, "masks were given in: 0.")
    tab.locator("#name input, #name textarea").fill("red")
    tab.click("#rename")
    tab.get_by_label("red").wait_for()
    tab.click("#run")
    says(tab, "All 8 frames are segmented.")
    assert overlap(work.mask(7, 1), TRUTH[7] == 1) > 0.7 and work.names == {1: "red"}

    scrub(tab, 5)
    tab.click("#add")
    tab.get_by_label("object 2").wait_for()
    tab.get_by_label("Box").click()
    tab.mouse.move(*place(tab, 20, 24))
    tab.mouse.down()
    tab.mouse.move(*place(tab, 42, 44), steps=3)
    tab.mouse.up()
    says(tab, "5 of 8 frames are up to date; masks were given in: 0, 5.")
    tab.click("#run")
    says(tab, "All 8 frames are segmented.")
    assert overlap(work.mask(7, 2), TRUTH[7] == 2) > 0.7 and not work.mask(4, 2).any()

    tab.click("#save")
    tab.locator("#files a").nth(2).wait_for()
    paths = {}
    for link in tab.locator("#files a[download]").all():
        with tab.expect_download() as found:
            link.click()
        paths[found.value.suggested_filename] = tmp_path / found.value.suggested_filename
        found.value.save_as(paths[found.value.suggested_filename])
    assert sorted(paths) == ["masks.zip", "overlay.mp4", "table.json"]
    names = json.loads(paths["table.json"].read_text())["names"]
    assert names == {"1": "red", "2": "object 2"}
    with zipfile.ZipFile(paths["masks.zip"]) as archive:
        assert len(archive.namelist()) == 8

    assert all(url.startswith((served[1], "data:", "blob:")) for url in requests), requests
    tab.close()
    deadline = time.monotonic() + PATIENCE / 1000
    while served[0].handlers.works and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_what_cannot_be_used_is_refused_in_clear_words(tab, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    tab.locator("#video input[type=file]").set_input_files(tmp_path / "text.mp4")
    tab.get_by_text("cannot be opened as a video").wait_for()
