"""The notebooks run from the first cell to the last, with little to train and short videos."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from packaging.requirements import Requirement

COLABS = Path(__file__).parents[1] / "colabs"
QVIM = {"train.steps": "2", "train.batch_size": "2", "data.options.train": "6",
        "data.options.test": "2", "model.resnet_width": "4", "model.channels": "8",
        "model.decoder_channels": "(4,4,4,4,4)", "model.contrast": "False",
        "evaluation.batch_size": "2", "evaluation.overlay_clips": "0"}
RCF = {"train.steps": "2", "train.batch_size": "2", "data.options.train": "4",
       "data.options.test": "2", "data.options.length": "5", "clip.height": "48",
       "clip.width": "48", "data.options.height": "48", "data.options.width": "48",
       "model.width": "4", "model.channels": "8", "model.hidden": "8", "model.encoder_layers": "1",
       "model.decoder_layers": "1", "model.mask_channels": "8", "model.vggish_width": "2",
       "model.audio_features": "8", "evaluation.overlay_clips": "0"}
SWIFTNET = {"train.steps": "2", "clip.height": "64", "clip.width": "64", "propagation.length": "2",
            "evaluation.short_side": "64"}
CLIP = {"height": 64, "width": 96, "actors": (2, 2)}
# What is set after the cell with a notebook's parameters. Three notebooks share a run.
SHORT = {
    "quickstart": {"run": "qvim", "overrides": QVIM},
    "expressions": {"run": "qvim", "overrides": QVIM},
    "domain_generalization": {"run": "qvim", "overrides": QVIM},
    "instances": {"run": "rcf", "overrides": RCF},
    "follow": {"run": "follow", "options": {**CLIP, "length": 6}},
    "finetune": {"run": "own", "overrides": SWIFTNET, "options": {**CLIP, "length": 20}},
    "export": {"run": "export", "size": (64, 96), "length": 4},
}
NOTEBOOKS = pytest.mark.parametrize(
    "notebook", sorted(COLABS.glob("*.ipynb")), ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for all runs."""
    return tmp_path_factory.mktemp("colabs")


@pytest.fixture(scope="module")
def kernel():
    """The process of all notebooks, which imports the libraries once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        manager = KernelManager()
        manager.start_kernel(cwd=COLABS)
    yield manager
    manager.shutdown_kernel(now=True)


def code_cells(document):
    return [cell for cell in document.cells if cell.cell_type == "code"]


@NOTEBOOKS
def test_what_a_notebook_imports_is_installed_by_its_first_cell(notebook):
    cells = code_cells(nbformat.read(notebook, as_version=4))
    [extras, named] = re.search(r"-e 'vseg_jax\[([\w,]+)\]'([\w ]*)", cells[0].source).groups()
    installed = {*named.split(), "vseg_jax", "IPython"}
    for line in importlib.metadata.requires("vseg_jax"):
        wanted = Requirement(line)
        if not wanted.marker or any(wanted.marker.evaluate({"extra": e})
                                    for e in extras.split(",")):
            installed.add(wanted.name)
    packages = importlib.metadata.packages_distributions()
    for cell in cells:
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) else [])
            for name in (name.partition(".")[0] for name in names):
                assert name in sys.stdlib_module_names or installed & {
                    name, *packages.get(name, ())}, f"{name} is not installed"


def test_all_first_cells_are_the_same_but_for_the_extras():
    found = {re.sub(r"\[.*?\]", "[]", code_cells(nbformat.read(path, as_version=4))[0].source)
             for path in COLABS.glob("*.ipynb")}
    assert len(found) == 1


@NOTEBOOKS
def test_a_notebook_is_stored_without_outputs_and_listed(notebook):
    for cell in code_cells(nbformat.read(notebook, as_version=4)):
        assert not cell.outputs and cell.execution_count is None
    assert f"]({notebook.name})" in (COLABS / "README.md").read_text()


@NOTEBOOKS
def test_notebook_runs(notebook, folder, kernel):
    short = dict(SHORT[notebook.stem])
    lines = [f"workdir = {str(folder / short.pop('run'))!r}"]
    if notebook.stem in ("quickstart", "expressions", "domain_generalization", "instances"):
        short["overrides"] = {**short["overrides"], "data.prepared": str(folder)}
    for name, value in short.items():
        lines.append(f"{name}.update({value!r})" if isinstance(value, dict) else
                     f"{name} = {value!r}")
    document = nbformat.read(notebook, as_version=4)
    [number] = [k for k, cell in enumerate(document.cells)
                if "parameters" in cell.metadata.get("tags", ())]
    document.cells.insert(number + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    document.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))   # names of other notebooks
    NotebookClient(document, km=kernel, timeout=600).execute()
    draws = [cell for cell in code_cells(document) if re.search(r"subplots\(|Image\(", cell.source)]
    assert draws
    for cell in draws:
        shown = {kind for output in cell.outputs for kind in output.get("data", ())}
        assert shown & {"image/png", "image/jpeg"}, f"no picture:\n{cell.source}"
