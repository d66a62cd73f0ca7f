"""The notebooks run from the first cell to the last, on a training cut short."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

COLABS = Path(__file__).parents[1] / "colabs"
SMALL = ("train.steps=2", "train.batch_size=4", "data.options.train=6", "data.options.test=2",
         "model.i3d_width=0.125", "model.channels=16", "evaluation.batch_size=4",
         "model.decoder_channels=(8,8,8,8,8)", "model.queue=16")


@pytest.mark.parametrize("notebook", sorted(COLABS.glob("*.ipynb")), ids=lambda p: p.stem)
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
