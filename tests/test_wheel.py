"""The built wheel works outside the clone, also beside a user's files that have the same names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commandline import SMALL_QUICKSTART
from tiny_models import drawn_variables

from vseg_jax import __version__, models, zoo
from vseg_jax.inference.restore import Restored, save_file

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "vseg_jax", "configs", "input_pipeline")
LOAD_AND_PREDICT = """
import numpy, vseg_jax
from vseg_jax import configs, input_pipeline
assert "site-packages" in vseg_jax.__file__, vseg_jax.__file__
assert "site-packages" in configs.__file__ and "site-packages" in input_pipeline.__file__
frames = numpy.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), numpy.uint8)
segmenter = vseg_jax.load({workdir!r})
found = list(segmenter.segment(frames, query="a red square"))
print(len(found), found[0].probability.shape)
"""
LOAD_SHIPPED = """
import numpy, vseg_jax
assert "site-packages" in vseg_jax.__file__, vseg_jax.__file__
frames = numpy.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), numpy.uint8)
mask = numpy.zeros((32, 32), numpy.uint8)
mask[8:20, 8:20] = 1
found = list(vseg_jax.load("wheel-test").segment(frames, mask=mask))
print((found[0].index == mask).all(), found[1].index.shape)
"""
CARD = """
summary = "Follows nothing."
config = "swiftnet:shapes"
data = "none"
training = []
scores = []
speed = "not measured"
license = "Apache-2.0"
sources = "none"
limits = "It is random."
"""
LARGEST = len(zoo.names()) * zoo.LIMIT + 2_000_000   # bytes of the wheel


def ship(folder: Path) -> None:
    """Puts a small random model into a folder, as a shipped one."""
    config = {"system": "swiftnet", "model": {"depth": 18, "width": 4, "objects": 2}}
    batch = {"frames": np.zeros((1, 2, 32, 32, 3), np.uint8)}
    about = {"config": config, "batch": {"frames": [[1, 2, 32, 32, 3], "uint8"]}}
    model = models.build("swiftnet", config["model"])
    restored = Restored(model, drawn_variables(model, batch), None, None, about)
    save_file(restored, folder / "wheel-test.safetensors", half=True)
    (folder / "wheel-test.toml").write_text(CARD)


@pytest.fixture(scope="module")
def run():
    """A function that runs a command in a folder and returns its output; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "JAX_PLATFORMS": "cpu"}

    def run(*command: object, cwd: Path) -> str:
        done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment,
                              capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def built(run, tmp_path_factory):
    """(wheel, source distribution), built from a copy that holds no remains of earlier builds."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True,
                            ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    ship(source / "vseg_jax/zoo")
    build = "from setuptools import build_meta; build_meta.build_sdist('..')"
    run(sys.executable, "-c", build, cwd=source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps",
        "--no-index", "-w", folder, source, cwd=folder)
    return *folder.glob("*.whl"), *folder.glob("*.tar.gz")


@pytest.fixture(scope="module")
def installed(run, built, tmp_path_factory):
    """The `bin` of an environment with the wheel, and all else from the running environment."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env/bin/python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                        cwd=folder).strip())
    # A path in a .pth file comes last, and .pth files in there (editable installs) do not count.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index",
        built[0], cwd=folder)
    return folder / "env/bin"


@pytest.fixture(scope="module")
def workdir(run, installed, tmp_path_factory):
    """A run that the installed command trained in an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    run(installed / "vseg", "train", "--config", "quickstart", "--workdir", "run",
        *SMALL_QUICKSTART, cwd=folder)
    return folder / "run"


@pytest.fixture
def folder(tmp_path):
    """A folder with files of a user that have the names of the clone's; that of `workdir` is empty.
    """
    for file in ("input_pipeline.py", "configs/__init__.py", "tests/__init__.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(f"raise ImportError('the {file} of the user')\n")
    return tmp_path


def test_only_vseg_jax_is_at_the_top_of_the_distributions(built):
    wheel, source = built
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    assert {name.split("/")[0] for name in files} == {
        "vseg_jax", f"vseg_jax-{__version__}.dist-info"}
    wanted = {"vseg_jax/py.typed", "vseg_jax/demo/stage.js", "vseg_jax/demo/stage.css"} | {
        f"{prefix}{path.relative_to(ROOT)}"
        for tree, prefix in (("vseg_jax", ""), ("configs", "vseg_jax/"),
                             ("input_pipeline", "vseg_jax/"))
        for path in (ROOT / tree).rglob("*.py")
    } | {f"vseg_jax/zoo/{name}.{suffix}" for name in [*zoo.names(), "wheel-test"]
         for suffix in ("safetensors", "toml")}
    assert {name for name in files if not name.startswith("vseg_jax-")} == wanted
    assert wheel.stat().st_size <= LARGEST
    with tarfile.open(source) as archive:
        members = {member.name.partition("/")[2]: member for member in archive}
    assert all(members[name].isreg() for name in wanted)


def test_the_command_explains_itself(run, installed, folder):
    assert run(installed / "vseg", "--version", cwd=folder) == f"vseg_jax {__version__}\n"
    assert "  data prepare  " in run(installed / "vseg", "--help", cwd=folder)


def test_a_shipped_model_is_listed_and_loaded_anywhere(run, installed, folder):
    assert "wheel-test: Follows nothing." in run(installed / "vseg", "models", cwd=folder)
    assert run(installed / "python", "-c", LOAD_SHIPPED, cwd=folder) == "True (32, 32)\n"


def test_a_config_of_the_library_runs_anywhere(run, installed, folder):
    report = run(installed / "python", "-m", "vseg_jax.main", "--config", "quickstart", "--mode",
                 "dry_run", *SMALL_QUICKSTART, cwd=folder)
    assert '"parameters"' in report


def test_a_run_is_loaded_and_predicts_anywhere(run, installed, workdir, folder):
    code = LOAD_AND_PREDICT.format(workdir=str(workdir))
    assert run(installed / "python", "-c", code, cwd=folder) == "3 (1, 32, 32)\n"
