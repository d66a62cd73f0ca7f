"""The public names, and a session made without a segmenter."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import standin
import standin_vos

import vseg_jax
from vseg_jax.inference import Engine, Session


@pytest.mark.parametrize("package", ["vseg_jax", "vseg_jax.inference", "vseg_jax.media"])
def test_public_names_exist_and_are_documented(package):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__) and set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{package}.{name} has no docstring"
    with pytest.raises(AttributeError, match="nothing"):
        vseg_jax.nothing  # noqa: B018


def test_a_session_takes_an_engine():
    frames, truth = standin.square_frames(3)
    engine = Engine(standin_vos.Follower(), standin_vos.variables())
    session = Session(engine, frames[:1], masks=[truth[0]])
    [first], [second] = session.first, session.step([frames[1]])
    assert (first.index == truth[0]).all() and (second.index == truth[1]).all()
    with pytest.raises(ValueError, match=r"summary\(\) is only available for models that find"):
        session.summary()
    with pytest.raises(ValueError, match="does not use audio; leave `audio` out"):
        session.step([frames[2]], [truth[2]], audio=[np.zeros(5)])
    with pytest.raises(ValueError, match="this model needs a clip"):
        Session(Engine(standin.Standin(), standin.variables()), frames[:1], ["red"])


def test_a_stream_may_start_without_a_mask():
    frames, truth = standin.square_frames(3)
    engine = Engine(standin_vos.Follower(), standin_vos.variables())
    session = Session(engine, frames[[0, 0]], masks=[truth[0], None])
    assert [len(s.ids) for s in session.first] == [2, 0] and not session.first[1].index.any()
    entered = session.step(frames[[1, 1]], [None, truth[1] == 1])
    assert [s.ids for s in entered] == [(1, 2), (1,)]
    assert (entered[1].index == (truth[1] == 1)).all()


def test_tasks_are_distinguished_in_one_place():
    folder = Path(vseg_jax.__file__).parent / "inference"
    uses = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.py"))
            for _ in re.finditer(r"\.task\b", path.read_text())]
    assert uses == ["prompts/__init__.py"]
