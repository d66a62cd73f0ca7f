"""Rows of a study that are initialized from other rows, also by several processes."""

import dataclasses
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from studies import WARM, Runs

from vseg_jax.experiment.study import run
from vseg_jax.settings import RowConfig


def test_a_row_is_initialized_from_the_same_seed_of_another(tmp_path):
    rest = Runs()
    table = run("few", WARM, tmp_path, {"init_from": "elsewhere"}, rest)
    assert rest.trained == [(f"{name}.py", seed) for seed in (0, 1)
                            for name in ("warmup", "plain", "better")]
    assert rest.starts == ["elsewhere", *[str(tmp_path / "warmup/0")] * 2,
                           "elsewhere", *[str(tmp_path / "warmup/1")] * 2]
    assert [line.split(" | ")[0] for line in table.splitlines()[2:5]] == [
        "| plain", "| better", "| warmup"]


def test_a_moved_study_is_complete_and_a_new_start_is_noticed(tmp_path):
    run("few", WARM, tmp_path / "old", {}, Runs())
    (tmp_path / "old").rename(tmp_path / "new")
    run("few", WARM, tmp_path / "new", {}, Runs(killed_at=0))
    for seed in ("0", "1"):
        (tmp_path / "new/warmup" / seed / "scores.json").unlink()
    longer = {**WARM.rows, "warmup": RowConfig("warmup.py", {"train.steps": 20})}
    study = dataclasses.replace(WARM, rows=longer)
    with pytest.raises(ValueError, match=r"plain/0 was run with other settings \(init_from\)"):
        run("few", study, tmp_path / "new", {}, Runs())


def test_rows_that_do_not_train_evaluate_the_model_of_another(tmp_path):
    rows = {name: dataclasses.replace(row, trains=name == "warmup")
            for name, row in WARM.rows.items()}
    runs = Runs()
    run("few", dataclasses.replace(WARM, rows=rows), tmp_path, {}, runs)
    assert runs.evaluated == [(f"{name}.py", seed) for seed in (0, 1)
                              for name in ("plain", "better")]
    assert [cell for cell in runs.trained if cell not in runs.evaluated] == [
        ("warmup.py", 0), ("warmup.py", 1)]
    alone = dataclasses.replace(WARM, rows={"plain": RowConfig("plain.py", trains=False)})
    with pytest.raises(ValueError, match="row 'plain' is not trained; name the trained model"):
        run("few", alone, tmp_path / "alone", {}, runs)
    run("few", alone, tmp_path / "alone", {"init_from": "elsewhere"}, runs)
    assert runs.starts[-2:] == ["elsewhere"] * 2 and runs.evaluated[-1] == ("plain.py", 1)


@pytest.mark.parametrize("completed", [False, True], ids=["killed", "completed"])
def test_a_row_waits_for_its_start_in_another_process(tmp_path, monkeypatch, completed):
    run("few", dataclasses.replace(WARM, seeds=(0,)), tmp_path / "other", {}, Runs())
    folder = tmp_path / "warmup/0"
    folder.mkdir(parents=True)
    rest, slept = Runs(), []
    with (folder / "lock").open("w") as other:   # as another process that runs this cell
        fcntl.flock(other, fcntl.LOCK_EX)

        def sleep(seconds):
            assert [seed for _, seed in rest.trained] == [1, 1, 1]   # all that could be run
            slept.append(seconds)
            if len(slept) == 3:
                if completed:
                    shutil.copy(tmp_path / "other/warmup/0/scores.json", folder)
                fcntl.flock(other, fcntl.LOCK_UN)

        monkeypatch.setattr("time.sleep", sleep)
        table = run("few", WARM, tmp_path, {}, rest)
    assert len(slept) == 3
    ran = [("warmup.py", 0)] * (not completed) + [("plain.py", 0), ("better.py", 0)]
    assert rest.trained[3:] == ran
    assert all(f"| {name} | 2 |" in table for name in WARM.rows)


@pytest.mark.slow
def test_a_killed_process_leaves_no_cell_behind(tmp_path):
    """The first of three processes is killed in the cell that two others start from."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from studies import WARM\n"
        "from vseg_jax.experiment.study import run, runs\n"
        "runs.WAIT, folder, killed = 0.05, Path(sys.argv[1]), len(sys.argv) > 2\n"
        "def train(config, changes, cell, trains):\n"
        "    def start():\n"
        "        (folder / 'started').touch()\n"
        "        assert not changes.get('init_from') or (\n"
        "            Path(changes['init_from']) / 'scores.json').is_file()\n"
        "        time.sleep(2 if killed else 0.1)\n"
        "        if killed:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return {'test': {'iou': 0.5}}\n"
        "    return {'config': config, **changes}, start\n"
        "while not killed and not (folder / 'started').exists():\n"
        "    time.sleep(0.05)\n"
        "run('few', WARM, folder / 'run', {}, train)\n")
    tests = Path(__file__).parent
    path = {"PYTHONPATH": f"{tests.parent}{os.pathsep}{tests / 'helpers'}"}
    started = [subprocess.Popen([sys.executable, str(script), str(tmp_path), *more],
                                env=os.environ | path) for more in (["killed"], [], [])]
    assert [process.wait(timeout=120) for process in started] == [-9, 0, 0]
    run("few", WARM, tmp_path / "run", {}, Runs(killed_at=0))   # no cell is left to run
