"""The video of two squares as a file and as a clip."""

import pytest
import standin_vos
from two_squares import clip_of, squares

from vseg_jax.demo.clip import read_clip
from vseg_jax.media.video import VideoWriter


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    pytest.importorskip("av")
    path = tmp_path_factory.mktemp("demo") / "squares.mp4"
    with VideoWriter(path, 10.0) as writer:
        for frame in squares()[0]:
            writer.add(frame)
    return path


@pytest.fixture(scope="module")
def segmenter():
    return standin_vos.segmenter()


@pytest.fixture
def clip():
    return clip_of(squares()[0])


@pytest.fixture
def clip_of_file(file):
    return read_clip(file)
