"""The notebooks run from the first cell to the last, on a training cut short."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

COLABS = Path(__file__).parents[1] / "colabs"
SMALL = ("train.steps=2", "train.batch_size=4", "data.options.train=6", "data.options.test=2",
         "model.i3d_width=0.125", "model.channels=16", "evaluation.batch_size=4",
         "model.decoder_channels=(8,8,8,8,8)", "model.queue=16")


NOTEBOOKS = pytest.mark.parametrize(
    "notebook", sorted(COLABS.glob("*.ipynb")), ids=lambda p: p.stem)


@NOTEBOOKS
def test_what_a_notebook_imports_is_installed_by_the_line_that_it_names(notebook):
    document = nbformat.read(notebook, as_version=4)
    text = "\n".join(cell.source for cell in document.cells)
    [extras, named] = re.search(r"%pip install -e '\.\.\[([\w,]+)\]'([\w ]*)", text).groups()
    installed = {*named.split(), "vseg_jax"}
    for line in importlib.metadata.requires("vseg_jax"):
        wanted = Requirement(line)
        if not wanted.marker or any(wanted.marker.evaluate({"extra": e})
                                    for e in extras.split(",")):
            installed.add(wanted.name)
    packages = importlib.metadata.packages_distributions()
    for cell in document.cells:
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) else [])
            for name in (name.partition(".")[0] for name in names):
                assert name in sys.stdlib_module_names or installed & {
                    name, *packages.get(name, ())}, f"{name} is not installed"


@NOTEBOOKS
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKDIR", str(tmp_path / "run"))
    data = [f"data.prepared={tmp_path}"]
    monkeypatch.setenv("OVERRIDES", " ".join([*SMALL, *data]))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    document = nbformat.read(notebook, as_version=4)
    client = NotebookClient(document, timeout=600, resources={"metadata": {"path": COLABS}})
    client.execute()
    predictions = "".join(output.text for output in document.cells[-1].outputs
                          if output.get("name") == "stdout")   # warnings go to stderr
    assert "delay" in predictions
