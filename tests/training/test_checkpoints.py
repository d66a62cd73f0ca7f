"""Tests checkpoints that are damaged, half written, of another model, or larger than the disk."""

import os
import shutil
import subprocess

import jax
import numpy as np
import pytest
import toy_model as toy

from vseg_jax.training import TrainConfig, sharding
from vseg_jax.training import optimizer as optim
from vseg_jax.training import state as train_state
from vseg_jax.training.checkpoints import Checkpoints, load

CONFIG = TrainConfig(steps=2, batch_size=8)


@pytest.fixture(scope="module")
def place():
    """Returns (abstract state with shardings, states at steps 1 to 3)."""
    optimizer = optim.make(CONFIG)
    sample = next(toy.batches())
    abstract = train_state.abstract(toy.Toy(), sample, optimizer, CONFIG)
    where = sharding.state_shardings(abstract, CONFIG, sharding.make_mesh(CONFIG))
    like = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, where)
    variables = jax.jit(toy.Toy().init)(jax.random.key(0), sample)
    state = train_state.create(variables, optimizer, CONFIG)
    states = {n: state.replace(step=state.step + n) for n in (1, 2, 3)}
    return like, states


@pytest.fixture(scope="module")
def saved(place, tmp_path_factory):
    """Returns a working directory with checkpoints of steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("saved")
    batches = toy.batches()
    with Checkpoints(workdir) as checkpoints:
        for step in (1, 2):
            next(batches)
            checkpoints.save(step, place[1][step], batches, {"window": {}})
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def restore(workdir, like, batches=None):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(like, batches or toy.batches())


def test_state_and_data_position_are_restored(workdir, place):
    batches = toy.batches()
    state, _ = restore(workdir, place[0], batches)
    assert int(state.step) == 2
    for name, array in toy.named(place[1][2]).items():
        np.testing.assert_array_equal(toy.named(state)[name], array, err_msg=name)
    expected = toy.batches()
    next(expected), next(expected)
    np.testing.assert_array_equal(next(batches)["x"], next(expected)["x"])


def damages():
    yield "flipped bit", lambda folder: _flip(max(folder.rglob("d/*"), key=_size))
    yield "cut file", lambda folder: os.truncate(max(folder.rglob("d/*"), key=_size), 100)
    yield "missing file", lambda folder: max(folder.rglob("d/*"), key=_size).unlink()
    yield "no item", lambda folder: shutil.rmtree(folder / "about")
    yield "empty data state", lambda folder: next((folder / "data").glob("p*")).write_text("")


def _size(path):
    return path.stat().st_size


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [pytest.param(d, id=name) for name, d in damages()])
def test_a_damaged_checkpoint_is_moved_away_and_the_previous_one_restored(
        workdir, place, damage, caplog):
    damage(workdir / "checkpoints" / "2")
    state, _ = restore(workdir, place[0])
    assert int(state.step) == 1
    assert "checkpoints/2 cannot be read" in caplog.text
    assert (workdir / "unreadable" / "2").is_dir()
    with Checkpoints(workdir) as checkpoints:  # its step can be saved again
        checkpoints.save(2, place[1][2], toy.batches(), {"window": {}})
        assert checkpoints.steps() == [1, 2]


@pytest.mark.parametrize("damage", [pytest.param(d, id=name) for name, d in damages()][:3])
def test_a_damaged_checkpoint_is_not_loaded(workdir, damage):
    assert set(load(workdir)[0]) >= {"params"}
    damage(workdir / "checkpoints" / "2")
    with pytest.raises(ValueError, match="checkpoints/2 cannot be used: damaged files: state/"):
        load(workdir)
    load(workdir, step=1)


def test_a_half_written_checkpoint_is_ignored(workdir, place):
    folder = workdir / "checkpoints"
    os.rename(folder / "2", folder / "2.orbax-checkpoint-tmp")
    with Checkpoints(workdir) as checkpoints:
        state, _ = checkpoints.restore(place[0], toy.batches())
        assert int(state.step) == 1
        checkpoints.save(2, place[1][2], toy.batches(), {"window": {}})
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]  # the leftover is removed


def test_a_run_without_a_readable_checkpoint_does_not_silently_start_over(workdir, place):
    for step in ("1", "2"):
        shutil.rmtree(workdir / "checkpoints" / step / "state")
    with pytest.raises(ValueError, match=r"none of the checkpoints of steps 1, 2 can be read"):
        restore(workdir, place[0])


def test_a_checkpoint_of_another_model_is_refused_and_differences_are_named(workdir, place):
    like = place[0]
    queue = jax.ShapeDtypeStruct((64, 4), "float32")
    other = like.replace(
        collections={**like.collections, "queue": {"keys": queue, "more": queue}})
    with pytest.raises(ValueError) as error:
        restore(workdir, other)
    message = str(error.value)
    assert "3 leaves differ" in message
    assert "missing collections/queue/more" in message
    assert "extra collections/queue/next" in message
    assert "collections/queue/keys is [[32, 4], 'float32'], the model wants [[64, 4]" in message
    assert (workdir / "checkpoints" / "2").is_dir()


def test_only_the_first_twenty_differences_are_listed(workdir, place):
    queue = {f"slot{i:02}": jax.ShapeDtypeStruct((1,), "float32") for i in range(30)}
    other = place[0].replace(collections={**place[0].collections, "queue": queue})
    with pytest.raises(ValueError, match=r"slot19.*\n  \.\.\. and 12 more") as error:
        restore(workdir, other)
    assert "slot20" not in str(error.value)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder],
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


# Orbax leaves an asyncio loop behind when a write fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_names_the_path_and_the_last_good_checkpoint(small_disk, place):
    batches = toy.batches()
    with Checkpoints(small_disk) as checkpoints:
        checkpoints.save(1, place[1][1], batches, {"window": {}})
        free = os.statvfs(small_disk)
        (small_disk / "ballast").write_bytes(bytes((free.f_bavail - 2) * free.f_bsize))
        with pytest.raises(ValueError, match="no space to save the checkpoint of step 2") as error:
            checkpoints.save(2, place[1][2], batches, {"window": {}})
        assert f"the last good checkpoint is {small_disk / 'checkpoints' / '1'}" in str(error.value)
    (small_disk / "ballast").unlink()
    state, _ = restore(small_disk, place[0])
    assert int(state.step) == 1
    with Checkpoints(small_disk) as checkpoints:
        checkpoints.save(2, place[1][2], batches, {"window": {}})
        assert checkpoints.steps() == [1, 2]


def test_another_number_of_processes_is_refused(workdir, place):
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(3, place[1][3], toy.batches(), {"window": {}, "processes": 4})
    with pytest.raises(ValueError, match="saved by 4 processes, this run has 1"):
        restore(workdir, place[0])


def test_only_the_latest_are_kept(tmp_path, place):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, place[1][step], toy.batches(), {"window": {}})
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["2", "3"]
