"""Config sections: defaults, overrides, and errors that name the key."""

import dataclasses
import re
from pathlib import Path
from typing import Literal

import pytest
from ml_collections import ConfigDict

from vseg_jax.config import find, load, parse, section

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 3
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    mode: Literal["a", "b"] = "a"
    groups: tuple[tuple[str, float], ...] = ((".*", 1.0),)
    weights: str | None = None
    named: dict[str, Inner] = dataclasses.field(default_factory=dict)


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(variant='small'):\n"
        "    c = ConfigDict({'width': 4, 'name': variant, 'rate': 0.5, 'weights': None})\n"
        "    c.inner = ConfigDict({'width': c.get_ref('width')})\n"
        "    return c\n"
    )
    return str(path)


def test_round_trip_through_a_section():
    outer = Outer(inner=Inner(7), weights="w", named={"x": Inner(1)})
    assert parse(Outer, section(Outer, **vars(outer)).to_dict()) == outer


def test_json_lists_become_tuples():
    assert parse(Outer, {"groups": [["a", 1]]}).groups == (("a", 1.0),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"widht": 3}}, r"config.inner.widht'; did you mean 'width'"),
        ({"mode": "c"}, r"must be one of 'a', 'b'"),
        ({"inner": {"width": "x"}}, r"config.inner.width' must be int, got 'x'"),
        ({"inner": {"width": True}}, r"must be int, got True"),
        ({"groups": "abc"}, r"must be a tuple"),
        ({"named": {"x": {"with": 1}}}, r"config.named.x.with'; did you mean 'width'"),
        ({"inner": 3}, r"must be a section"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        parse(Outer, values)


def test_overrides_follow_references_and_change_types(config_file):
    config = load(f"{config_file}:big", {"width": "8", "weights": "/w", "rate": "1", "name": "12"})
    assert (config.inner.width, config.name, config.weights, config.rate) == (8, "12", "/w", 1)


def test_options_of_a_builder_need_not_be_listed():
    """They reach the datasets that share them, and the builder refuses what it does not know."""
    changes = {"data.options.dev": "0", "data.options.fold": "a"}
    config = load("configs/rcf.py:youtube_vis", changes)
    assert config.data.options.to_dict() == {"dev": 0, "fold": "a"}
    assert config.evaluation.datasets.dev.options == config.data.options
    with pytest.raises(ValueError, match=r"unknown config key 'config.data.options.dev.x'"):
        load("configs/rcf.py:youtube_vis", {"data.options.dev": "0", "data.options.dev.x": "1"})


def test_unknown_keys_files_and_variants(config_file, tmp_path):
    with pytest.raises(ValueError, match=r"config.inner.widht'; did you mean 'width'"):
        load(config_file, {"inner.widht": "3"})
    with pytest.raises(ValueError, match=r"unknown config key 'config.width.x'"):
        load(config_file, {"width.x": "3"})
    with pytest.raises(ValueError, match=r"there is no config '.*absent\.py'\. Give the path of a "
                       "Python file or one of the library's own: cvls, mmvt, quickstart, qvim"):
        load(str(tmp_path / "absent.py"))
    plain = tmp_path / "plain.py"
    plain.write_text("def get_config():\n    return 1\n")
    with pytest.raises(ValueError, match="no variants"):
        load(f"{plain}:x")


@pytest.mark.parametrize("name", [
    "qvim:davis", "qvim.py:davis", "configs/qvim:davis", "configs/qvim.py:davis"])
def test_configs_of_the_library_are_found_from_any_folder(name, tmp_path, monkeypatch):
    wanted = load(f"{ROOT / 'configs/qvim.py'}:davis").to_json()
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        assert load(name).to_json() == wanted


def test_a_file_comes_before_the_config_of_the_library(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/qvim.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(variant=''):\n    return ConfigDict({'mine': variant})\n")
    monkeypatch.chdir(tmp_path)
    assert load("configs/qvim.py:davis").mine == "davis"
    assert load("qvim:davis").system == "qvim"


def test_a_config_is_not_a_study_and_the_library_names_its_own():
    for name, close in (("quikstart", "; did you mean 'quickstart'?"), ("studies", "."),
                        ("_expressions", "."), ("__init__", ".")):
        with pytest.raises(ValueError, match=re.escape(f"there is no config '{name}'{close} Give")):
            load(name)
    assert find("studies:text", "get_study", "study")[1:] == ("text", "studies")
    with pytest.raises(ValueError, match=r"there is no study 'qvim'.*the library's own: studies"):
        find("qvim", "get_study", "study")


def test_section_is_a_config_dict_all_the_way():
    config = section(Outer, named={"x": Inner(1)})
    assert isinstance(config.inner, ConfigDict) and isinstance(config.named.x, ConfigDict)


def test_a_file_that_is_no_python_and_a_key_below_a_value(config_file, tmp_path):
    text = tmp_path / "README.md"
    text.write_text("# no config")
    with pytest.raises(ValueError, match="not a config file; it must be a Python file"):
        load(str(text))
    with pytest.raises(ValueError, match="there are no keys below it"):
        load(config_file, {"width.x": "3"})
