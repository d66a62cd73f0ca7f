"""Studies: cells run once, studies are resumable, and tables show completed runs only."""

import csv
import fcntl
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from studies import STUDY, Runs

import vseg_jax.configs.studies
from vseg_jax import experiment
from vseg_jax.experiment.study import COSTS, cost, load, run, score_table
from vseg_jax.metrics.a2d import GroupedMetric
from vseg_jax.settings import EndpointConfig, RowConfig, StudyConfig

# {study: the workdir that it shares with others}
SHARED = {
    **dict.fromkeys(("methods", "parts", "layers", "modalities"), "benchmark"),
    **{f"{variant}{name}": variant for variant in ("a2d", "rvos")
       for name in ("", "_layers", "_modalities")},
    **dict.fromkeys(
        ("recipe", "references", "fusion", "tokens", "queries", "order", "weight"), "rcf"),
    **dict.fromkeys(("audio", "audio_references"), "audio"),
    **dict.fromkeys(("text", "cvls_modules", "mmvt_steps", "mmvt_colors"), "text"),
}
STUDIES = Path(__file__).parents[1] / "configs/studies.py"
def test_table_and_csv_hold_every_run(tmp_path):
    table = run("few", STUDY, tmp_path, {}, Runs())
    assert "| plain | 3 | 51.0 ± 1.0 |" in table
    assert "| better | 3 | 76.2 ± 1.2 (p " in table
    assert (tmp_path / "few.md").read_text() == table
    rows = list(csv.reader((tmp_path / "few.csv").read_text().splitlines()))
    assert rows[0] == ["row", "seed", "IoU"] and len(rows) == 7
    assert float(rows[-1][2]) == pytest.approx(0.775)


def test_an_interrupted_study_is_resumed_and_shows_completed_runs_only(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run("few", STUDY, tmp_path, {}, Runs(killed_at=3))
    assert "| better | 1 |" in (tmp_path / "few.md").read_text()
    rest = Runs()
    table = run("few", STUDY, tmp_path, {}, rest)
    assert rest.trained == [("better.py", 1), ("plain.py", 2), ("better.py", 2)]
    assert table == run("few", STUDY, tmp_path, {}, Runs(killed_at=0))   # no cell is left to run


def test_processes_share_the_cells_of_a_workdir(tmp_path):
    (tmp_path / "plain/1").mkdir(parents=True)
    with (tmp_path / "plain/1/lock").open("w") as other:   # as another process that runs this cell
        fcntl.flock(other, fcntl.LOCK_EX)
        rest = Runs()
        assert "| plain | 2 |" in run("few", STUDY, tmp_path, {}, rest)
        assert ("plain.py", 1) not in rest.trained and len(rest.trained) == 5
    last = Runs()   # the other process was killed: its cell is free again
    assert "| plain | 3 |" in run("few", STUDY, tmp_path, {}, last)
    assert last.trained == [("plain.py", 1)]


def test_p_is_that_of_a_paired_test_on_the_seeds_that_both_have():
    cells = {"plain": {0: [0.5, 0.2], 1: [0.6, 0.3], 2: [0.7, 0.1]},
             "better": {2: [0.9, 0.2], 0: [0.65, 0.3]}}
    study = StudyConfig(STUDY.rows, {"source": "a/iou", "target": "b/iou"}, baseline="plain")
    p = stats.ttest_1samp([0.9 - 0.7, 0.65 - 0.5], 0).pvalue
    lines = score_table(study, cells).splitlines()
    assert lines[:3] == ["| | runs | source | target |", "|---|---|---|---|",
                         "| plain | 3 | 60.0 ± 10.0 | 20.0 ± 10.0 |"]
    # on target both seeds differ by the same amount: there is nothing to test
    assert lines[3] == f"| better | 2 | 77.5 ± 17.7 (p {p:.2g}) | 25.0 ± 7.1 |"
    assert "paired two-sided t-test against plain" in lines[-1]


def test_studies_with_cells_in_common_share_a_workdir(tmp_path):
    run("few", STUDY, tmp_path, {}, Runs())
    more = StudyConfig({"better": STUDY.rows["better"], "best": RowConfig("best.py")},
                       STUDY.columns, seeds=(0, 1))
    rest = Runs()
    run("more", more, tmp_path, {}, rest)
    assert rest.trained == [("best.py", 0), ("best.py", 1)]
    assert sorted(p.name for p in tmp_path.glob("*.md")) == ["few.md", "more.md"]


@pytest.mark.parametrize("column", ["unseen/iou", "test/preserved", "test/preserved/before"])
def test_a_dataset_left_out_or_a_score_of_nothing_leaves_its_column_empty(tmp_path, column):
    study = StudyConfig(STUDY.rows, {**STUDY.columns, "other": column}, baseline="plain")
    assert "| plain | 3 | 51.0 ± 1.0 |  |" in run("few", study, tmp_path, {}, Runs())


def test_a_figure_of_lines(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    lines = {"gain": {"0": "plain", "1": "better"}, "late": {"2": "better"}}
    study = StudyConfig(STUDY.rows, {**STUDY.columns, "other": "unseen/iou"}, lines=lines)
    with pytest.raises(KeyboardInterrupt):   # the first row alone has been run
        run("few", study, tmp_path, {}, Runs(killed_at=1))
    assert image.imread(tmp_path / "few.png").std() > 0
    run("few", study, tmp_path, {}, Runs())
    assert image.imread(tmp_path / "few.png").std() > 0


def test_costs_of_the_rows(tmp_path):
    asked = []

    def count(config, changes):
        asked.append((config, changes))
        return {key: 1e9 if "flops" in key else 2_500_000 for key in COSTS} | {"step_flops": None}

    table = cost("few", STUDY, tmp_path / "new", {"model.x": "1"}, count)
    assert asked == [("plain.py", {"model.x": "1"}),
                     ("better.py", {"model.gain": "0.25", "model.x": "1"})]
    assert "| better | 2.500 | 2.500 | 2.500 | 1.000 |  |" in table
    assert (tmp_path / "new" / "few-cost.md").read_text() == table
    rows = list(csv.reader((tmp_path / "new" / "few-cost.csv").read_text().splitlines()))
    assert rows[0] == ["row", *COSTS] and rows[2][:2] == ["better", "2500000"]


def test_other_settings_are_not_mixed_in(tmp_path):
    run("few", STUDY, tmp_path, {}, Runs())
    with pytest.raises(ValueError, match=r"other settings \(train.steps\)"):
        run("few", STUDY, tmp_path, {"train.steps": "5"}, Runs())


def test_a_column_that_the_scores_lack_is_named(tmp_path):
    study = StudyConfig(STUDY.rows, {"AP": "test/ap"}, baseline="plain")
    with pytest.raises(ValueError, match="no 'test/ap': at 'ap' there is iou"):
        run("few", study, tmp_path, {}, Runs())


@pytest.mark.parametrize(("study", "message"), [
    ({"rows": {}}, "needs at least one row"),
    ({"rows": {"a/b": RowConfig("x.py")}}, "'a/b' cannot name a folder"),
    ({"baseline": "none"}, "'none' .* is not one of the rows"),
    ({"lines": {"gain": {"1": "best"}}}, "'best' .* is not one of the rows"),
    ({"rows": {"a": RowConfig("x.py", init_from="b")}}, "'a' is initialized from 'b'; it must be"),
    ({"rows": {name: RowConfig("x.py", init_from=start) for name, start in
               {"a": "b", "b": "c", "c": ""}.items()}, "baseline": ""},
     r"a row that is trained and has no init_from itself \(c\)"),
    ({"rows": {"a": RowConfig("x.py", init_from="b"), "b": RowConfig("x.py", trains=False)},
      "baseline": ""}, "'a' is initialized from 'b'; it must be a row that is trained"),
    ({"paired": {"better": "best"}}, "'best' .* is not one of the rows"),
    ({"endpoint": EndpointConfig("test", "better", ("best",))}, "'best' .* is not one of the rows"),
    ({"endpoint": EndpointConfig("test", "better", ("plain",)), "seeds": (3,)},
     "at least two seeds"),
])
def test_wrong_studies_are_named(study, message):
    with pytest.raises(ValueError, match=message):
        StudyConfig(**{"rows": STUDY.rows, "columns": STUDY.columns, **study})


def cells():
    """{(study, row): settings} of the library's studies, at the first seed."""
    found = {}
    for variant in vseg_jax.configs.studies.VARIANTS:
        name, study = load(f"{STUDIES}:{variant}")
        assert name == variant
        for title, row in study.rows.items():
            changes = {k: str(v) for k, v in row.changes.items()}
            found[variant, title] = study, experiment.read(row.config, changes)
    return found


def test_the_librarys_studies_can_be_read():
    folders = {}
    for (variant, title), (study, settings) in cells().items():
        text = json.dumps(experiment.describe(settings, experiment.build_model(settings)))
        scored = {c.split("/")[0] for c in study.columns.values()}
        if study.endpoint is not None:
            scored.add(study.endpoint.dataset)
        assert scored <= set(settings.evaluation.datasets)
        compared = settings.model.get("compared", {})
        first = {   # the step at which a method begins
            "sfa": compared.get("sfa_start"),
            "isw": compared and compared["isw_start"] * settings.train.steps
            + compared["isw_trials"] * compared["isw_images"] / settings.train.batch_size,
        }.get(compared.get("method"), 0)
        assert first < 0.5 * settings.train.steps
        if "source" in settings.evaluation.datasets:
            source = settings.evaluation.datasets["source"].options
            assert dict(source) == dict(settings.data.options)
        if variant in SHARED:
            assert folders.setdefault((SHARED[variant], title), text) == text
    assert len(set(folders.values())) == len(folders), "the same cell under two names"
    with pytest.raises(ValueError, match="no variant 'txt'; there are text, tuning, methods"):
        load(f"{STUDIES}:txt")
    with pytest.raises(ValueError, match="there is no study"):
        load("nothing.py")


def test_the_columns_of_the_papers_tables():
    """Table 1: P@0.5 to P@0.9, mAP, overall and mean IoU of each task."""
    for variant, tasks in {"a2d": ("A2D", "A2J", "A2R"), "rvos": ("RVOS", "R2A")}.items():
        _, study = load(f"{STUDIES}:{variant}")
        names = ("P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9", "mAP", "overall", "mean")
        assert list(study.columns) == [f"{task} {name}" for task in tasks for name in names]
        _, layers = load(f"{STUDIES}:{variant}_layers")
        assert layers.seeds == study.seeds and layers.lines   # the same cells, and Figure 3
        assert list(layers.columns) == list(tasks)
    # every column is among the scores of an evaluation
    metric = GroupedMetric("legacy")
    metric.add(np.ones((4, 4)), np.ones((4, 4), bool), 0.9)
    assert {path.split("/")[1] for path in study.columns.values()} <= metric.result().keys()


def test_the_study_of_adaptation_compares_the_shipped_model_with_itself():
    _, study = load(f"{STUDIES}:adaptation")
    assert not any(row.trains for row in study.rows.values())
    assert {row.changes["init_from"] for row in study.rows.values()} == {"swiftnet-lite0"}
    found = {title: experiment.read(row.config, {k: str(v) for k, v in row.changes.items()}).model
             for title, row in study.rows.items()}
    paper = found["paper"]
    assert (paper["adaptation_steps"], paper["adaptation_rate"], paper["reduction"]) == (
        50, 1, "mean_i")
    assert set(study.paired) == set(found) - {"static", "updated"}
    for title, other in study.paired.items():   # only the adaptation differs
        keys = {key for key, value in found[title].items() if found[other][key] != value}
        assert keys <= {"adaptation_steps", "adaptation_rate", "adaptation_copies", "reduction"}
        assert found[other]["adaptation_steps"] == 0
    _, table = load(f"{STUDIES}:adaptation_ovis")
    assert not any(row.trains for row in table.rows.values())


@pytest.mark.slow
def test_every_cell_of_the_librarys_studies_can_be_trained():
    """Shapes only; models that differ in nothing are traced once."""
    traced = set()
    for (_, title), (study, settings) in cells().items():
        if not study.rows[title].trains:
            continue
        model = experiment.build_model(settings)
        text = json.dumps(experiment.describe(settings, model)["model"])
        if text in traced:
            continue
        traced.add(text)
        batch = experiment.batch_shapes(settings, model)

        def loss(key, batch, model=model):
            return model.loss(model.init(key, batch), batch, key, jnp.zeros((), jnp.int32))[0]

        key = jax.eval_shape(lambda: jax.random.key(0))
        assert jax.eval_shape(loss, key, batch).shape == ()
