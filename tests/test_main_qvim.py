"""The paper's tasks of qvim on small made downloads: trained on one, scored on all, in one run."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import pytest
from commandline import command, refused

from vseg_jax import experiment
from vseg_jax.experiment import rvos
from vseg_jax.experiment.data import open_evaluated
from vseg_jax.input_pipeline.settings import DatasetConfig
from vseg_jax.input_pipeline.text import UNKNOWN

pytest.importorskip("av")
pytest.importorskip("h5py")

ROOT = Path(__file__).parents[1]
SMALL = [
    "--config.train.steps=1", "--config.train.batch_size=2", "--config.train.log_every=1",
    "--config.train.groups=(('^visual/',0.1),)",
    "--config.workers=0", "--config.text.tokenizer=words", "--config.text.length=12",
    "--config.clip.length=2", "--config.clip.stride=1", "--config.clip.target=1",
    "--config.clip.height=32", "--config.clip.width=32",
    "--config.model.backbone=resnet18", "--config.model.resnet_width=4",
    "--config.model.text=words", "--config.model.word_width=8", "--config.model.channels=8",
    "--config.model.decoder_channels=(4,4,4,4,4)", "--config.model.queue=8",
    "--config.evaluation.batch_size=2",
]
# {variant: number of training samples, and of samples of each scored dataset}, from what
# tests/helpers/archives.py makes: a2r has no sentence of the person, for they have 26 words,
# and one video of four is held out as rvos_dev.
SAMPLES = {
    "a2d": (4, {"a2d_test": 1, "jhmdb": 2 * 3, "a2r": 4 * 2 * 3, "rvos_dev": 2 * 3 + 2}),
    "rvos": (3 * (2 * 3 + 2), {"a2d_test": 1, "rvos_dev": 2 * 3 + 2}),
}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    sys.path.append(str(ROOT / "tests" / "input_pipeline"))
    archives = importlib.import_module("archives")
    folder = tmp_path_factory.mktemp("downloads")
    archives.a2d(folder / "A2D")
    archives.jhmdb(folder / "JHMDB")
    archives.refer_youtube_vos(folder / "RVOS")
    return folder


def arguments(folder, variant):
    scored = "--config.evaluation.datasets"
    return ["--config", f"{ROOT / 'configs/qvim.py'}:{variant}", *SMALL, *{
        "a2d": [f"--config.data.source={folder / 'A2D'}", f"{scored}.a2r.options.dev=1",
                f"{scored}.a2r.source={folder / 'RVOS'}",
                f"{scored}.jhmdb.source={folder / 'JHMDB'}"],
        "rvos": [f"--config.data.source={folder / 'RVOS'}", "--config.data.options.dev=1",
                 f"{scored}.a2d_test.source={folder / 'A2D'}"],
    }[variant], f"--config.data.prepared={folder / 'prepared'}"]


@pytest.mark.parametrize("variant", SAMPLES)
def test_samples_that_a_task_is_trained_on(variant, downloads, tmp_path):
    _, name, *flags = arguments(downloads, variant)
    settings = experiment.read(
        name, dict(flag.removeprefix("--config.").split("=", 1) for flag in flags))
    task = rvos.Task(settings, experiment.build_model(settings), tmp_path)
    [(samples, weight)] = task.samples()
    assert len(samples) == SAMPLES[variant][0] and weight == 1
    assert open_evaluated(settings).keys() == SAMPLES[variant][1].keys()


def test_training_sets_are_mixed(downloads, tmp_path):
    _, name, *flags = arguments(downloads, "a2d")
    settings = experiment.read(
        name, dict(flag.removeprefix("--config.").split("=", 1) for flag in flags))
    more = DatasetConfig("refer_youtube_vos", "train", str(downloads / "RVOS"), weight=0.25,
                         prepared=settings.data.prepared, options={"dev": 1})
    settings = dataclasses.replace(settings, extra_datasets={"rvos": more})
    task = rvos.Task(settings, experiment.build_model(settings), tmp_path)
    mixed = task.samples()
    assert [(len(samples), weight) for samples, weight in mixed] == [
        (SAMPLES["a2d"][0], 1), (SAMPLES["rvos"][0], 0.25)]
    first, second = ({int(s[i]["video"]) for i in range(len(s))} for s, _ in mixed)
    assert not first & second
    for samples, _ in mixed:   # both sets' words are known
        for text in samples.texts:
            tokens, valid = samples.tokenizer.encode(text)
            assert valid.any() and UNKNOWN not in tokens
    assert {name: role.unseen for name, role in task._roles().items()} == {
        "a2d_test": False, "jhmdb": True, "a2r": False, "rvos_dev": False}


@pytest.mark.slow
@pytest.mark.parametrize("variant", SAMPLES)
def test_a_task_from_the_downloads_to_the_scores(variant, downloads, tmp_path):
    code, _, err = command(*arguments(downloads, variant), "--workdir", tmp_path)
    assert code == 0, err
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert {name: result["samples"] for name, result in scores.items()} == SAMPLES[variant][1]


def test_a_dataset_that_is_not_there_can_be_left_out(downloads, tmp_path):
    said = refused(*arguments(downloads, "a2d"), "--workdir", tmp_path,
                   f"--config.data.prepared={tmp_path / 'prepared'}",
                   "--config.evaluation.datasets.jhmdb.source=gone",
                   "--config.evaluation.datasets.a2r=None")
    assert "jhmdb_sentences: source folder 'gone' does not exist" in said
    assert "--config.evaluation.datasets.jhmdb=None leaves it out" in said


@pytest.fixture
def study(tmp_path):
    """A study file of one row, one seed."""
    row = f"RowConfig({str(ROOT / 'configs/qvim.py:rvos')!r}, {{'model.qfa_scales': ()}})"
    (tmp_path / "few.py").write_text(
        "from vseg_jax.settings import RowConfig, StudyConfig\n"
        "def get_study():\n"
        f"    return StudyConfig({{'without_qfa': {row}}}, {{'R2A': 'a2d_test/mAP'}}, (0,))\n")
    return tmp_path / "few.py"


def test_what_a_study_costs(study, tmp_path):
    code, out, err = command("--mode=cost", "--config", study, "--workdir", tmp_path / "run",
                             *SMALL)
    assert code == 0, err
    assert "| without_qfa | 0." in out
    assert (tmp_path / "run" / "few-cost.md").read_text() in out


@pytest.mark.slow
def test_a_study_that_has_ended_trains_nothing(study, downloads, tmp_path):
    _, _, *flags = arguments(downloads, "rvos")
    tables = []
    for _ in range(2):
        code, out, err = command("--mode=study", "--config", study, "--workdir", tmp_path / "run",
                                 *flags)
        assert code == 0, err
        tables.append((tmp_path / "run" / "few.md").read_text())
    assert "| without_qfa | 1 | " in tables[0] and tables[0] == tables[1] and tables[1] in out
    assert "seed 0" not in out
