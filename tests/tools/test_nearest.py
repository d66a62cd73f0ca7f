import json

import jax.numpy as jnp
import numpy as np
import pytest
from painted import one_video

from vseg_jax.cli import main
from vseg_jax.evaluation.propagation import evaluate
from vseg_jax.input_pipeline.records import Object, Record, encode_image, encode_mask
from vseg_jax.tools import nearest
from vseg_jax.tools.nearest import STRIDE, NearestFeatures, NearestSession, carried

COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)   # of background and objects


class ByColor(NearestFeatures):
    """Features that are the colors of the places, so that the right answer is known."""

    def __init__(self, short_side=0):
        pass

    def features(self, frame):
        small = frame[STRIDE // 2::STRIDE, STRIDE // 2::STRIDE]
        return jnp.asarray((small[..., None, :] == COLORS).all(-1), jnp.float32)


def scene(t):
    """An index mask with two objects that move by a place per frame."""
    index = np.zeros((6, 8), np.uint8)
    index[1:3, t:t + 2], index[3:5, 5 - t:7 - t] = 1, 2
    return index.repeat(STRIDE, 0).repeat(STRIDE, 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    masks = [scene(t) for t in range(4)]
    record = Record("v", [encode_image(COLORS[mask]) for mask in masks],
                    [encode_mask(mask) for mask in masks], *masks[0].shape,
                    objects=[Object(1), Object(2)])
    return one_video(tmp_path_factory.mktemp("nearest"), record)


def test_carried_by_hand():
    first = jnp.eye(4)[:, None]                                   # four places, all different
    labels = jnp.array([[1., 0.], [0., 1.], [0., 1.], [1., 0.]])[:, None]
    one, between = jnp.eye(4)[1], (jnp.eye(4)[0] + jnp.eye(4)[1]) / np.sqrt(2)
    found = np.asarray(carried(jnp.stack([one, between])[:, None], first, labels))[:, 0]
    # The softmax of cosines 1, 0, 0, 0 at temperature 0.05; then of two equal ones.
    rest = np.exp(-1 / 0.05)
    np.testing.assert_allclose(found[0], [2 * rest, 1 + rest] / (1 + 3 * rest), rtol=1e-5)
    np.testing.assert_allclose(found[1], [0.5, 0.5], atol=1e-5)


def test_only_the_most_similar_places_count():
    similar = jnp.array([[0.9, np.sqrt(1 - 0.81)]] * 10)
    first = jnp.concatenate([similar, jnp.array([[0.89, np.sqrt(1 - 0.89**2)]] * 90)])[:, None]
    labels = (jnp.arange(100) < 10).astype(jnp.float32)[:, None, None]
    found = carried(jnp.array([1., 0.])[None, None], first, labels)
    np.testing.assert_allclose(found, 1, rtol=1e-6)


@pytest.mark.parametrize("protocol", ["davis", "ovis"])
def test_objects_are_followed_by_their_features(dataset, protocol):
    scores = evaluate(ByColor(), dataset, protocol=protocol, progress=False)
    assert scores["J"]["mean"] > 0.9   # the labels of places are bilinearly interpolated


def test_void_pixels_of_the_first_mask_are_background():
    mask = scene(0)
    mask[:STRIDE] = 255
    session = NearestSession(ByColor(), COLORS[scene(0)], [mask])
    assert set(np.unique(session.step([COLORS[scene(1)]])[0].index)) == {0, 1, 2}


def test_objects_that_enter_later_are_refused():
    session = NearestSession(ByColor(), COLORS[scene(0)], [scene(0)])
    with pytest.raises(ValueError, match="the first frame only"):
        session.step([COLORS[scene(1)]], [scene(1)])


def test_command(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(nearest, "open_dataset", lambda *_: dataset)
    monkeypatch.setattr(nearest, "NearestFeatures", ByColor)
    assert main(["nearest", "--prepared", str(tmp_path), "--split", "val"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["protocol"] == "davis"
    assert scores["J"]["mean"] > 0.9


def test_command_names_what_is_missing(dataset, tmp_path, monkeypatch, capsys):
    def absent(source):
        raise ValueError("the package with the weights is not installed")

    monkeypatch.setattr(nearest, "open_dataset", lambda *_: dataset)
    monkeypatch.setattr(nearest.packages, "locate", absent)
    assert main(["nearest", "--prepared", str(tmp_path), "--split", "val"]) == 2
    assert "not installed" in capsys.readouterr().err
