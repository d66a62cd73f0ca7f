"""The command `vseg demo`, and what the page's handlers do for users who come and go."""

import importlib.util

import pytest
import standin_vos
from two_squares import draw

from vseg_jax import cli
from vseg_jax.demo.limits import Limits


def test_the_command_names_the_extra_that_is_missing(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *more: None if name == "gradio" else found(name, *more))
    with pytest.raises(SystemExit, match="2"):
        cli.main(["demo"])
    assert capsys.readouterr().err == (
        "error: the page needs gradio: pip install 'vseg_jax[demo]'\n")


def test_limits_are_positive(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["demo", "--frames", "0"])
    assert "argument --frames: 0 is not a positive number" in capsys.readouterr().err


class Request:
    """What a handler gets of the user who calls it."""

    def __init__(self, session_hash):
        self.session_hash = session_hash


@pytest.fixture
def handlers(tmp_path):
    pytest.importorskip("gradio")
    pytest.importorskip("av")
    from vseg_jax.demo.handlers import Handlers

    handlers = Handlers(standin_vos.segmenter(), Limits(frames=4), tmp_path / "users")
    (tmp_path / "users").mkdir()
    yield handlers
    for work in handlers.works.values():
        work.close()


def upload(file, folder):
    """A copy of the file as gradio makes it: alone in a folder."""
    folder.mkdir()
    copy = folder / file.name
    copy.write_bytes(file.read_bytes())
    return str(copy)


def test_users_are_apart_and_leave_nothing(handlers, file, tmp_path):
    anna, ben = Request("anna"), Request("ben")
    for user in (anna, ben):
        handlers.open(upload(file, tmp_path / user.session_hash), user)
        assert not (tmp_path / user.session_hash).exists()
    draw(handlers.works["anna"], 0, 1)
    assert handlers.works["ben"].prompts.frames() == []
    handlers.leave(anna)
    handlers.leave(ben)
    handlers.leave(ben)   # the page was closed before
    assert not handlers.works and not list((tmp_path / "users").iterdir())


def test_another_part_of_the_video_can_be_opened(handlers, file, tmp_path):
    user = Request("anna")
    status = handlers.open(upload(file, tmp_path / "upload"), user)[-1]
    assert "The video is longer: the part from 0.0 s to 0.4 s is here" in status
    handlers.open_again(0.5, user)
    clip = handlers.works["anna"].clip
    assert (len(clip), clip.first, clip.more) == (3, 5, False) and clip.path.name == "squares.mp4"
    import gradio

    with pytest.raises(gradio.Error, match="ends before 9 s"):
        handlers.open_again(9, user)
    assert handlers.works["anna"].clip is clip   # as before
    handlers.open_again(0, user)
    assert len(handlers.works["anna"].clip) == 4


def test_a_run_stops_after_its_frame_and_goes_on(handlers, file, tmp_path):
    user = Request("anna")
    handlers.open(upload(file, tmp_path / "upload"), user)
    work = handlers.works["anna"]
    draw(work, 0, 1)
    views = handlers.run(None, False, 0, 1, user)
    assert "compiled" in next(views)[-1]
    frames = work.run()
    next(frames)
    handlers.stop(user)
    assert list(frames) == [] and work.valid == 1
    assert list(views)[-1][-1] == "All 4 frames are segmented."


def test_without_a_video_there_is_nothing_to_do(handlers):
    import gradio

    for handler, arguments in ((handlers.show, (0, None)), (handlers.undo, (0, 1)),
                               (handlers.save, (["masks"],))):
        with pytest.raises(gradio.Error, match="open a video first"):
            handler(*arguments, Request("anna"))
