import dataclasses

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from vseg_jax.input_pipeline.loader import eval_batches, train_batches
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer

CLIP = ClipConfig(length=2, stride=1, target=0, height=16, width=16, crop=0.5, flip=0.5, color=0.2)


@pytest.fixture(scope="module")
def samples(toy_dir):
    dataset = open_dataset(toy_dir, "train")
    return ReferringSamples(dataset, CLIP, WordTokenizer(["red", "green", "blue"], 9), train=True)


def take(iterator, count):
    return [{k: np.array(v) for k, v in next(iterator).items()} for _ in range(count)]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_batches_are_the_same_for_any_number_of_workers(samples):
    batches = {}
    for workers in (0, 1, 2):
        iterator = train_batches(samples, 4, seed=3, workers=workers)
        batches[workers] = take(iterator, 7)
        if workers == 2:  # the place is kept with workers too
            state = iterator.get_state()
            following = take(iterator, 2)
            iterator.set_state(state)
            assert_same(following, take(iterator, 2))
        iterator.close()
    assert batches[0][0]["frames"].shape == (4, 2, 16, 16, 3)
    assert_same(batches[0], batches[1])
    assert_same(batches[0], batches[2])


def test_every_epoch_has_every_sample_in_another_order_and_augmentation(samples):
    iterator = train_batches(samples, 6, seed=0)
    epochs = [take(iterator, 3), take(iterator, 3)]
    orders = [np.concatenate([batch["sample"] for batch in epoch]) for epoch in epochs]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(18))
    assert (orders[0] != orders[1]).any() and (orders[0] != np.arange(18)).any()
    looks = [
        next(b["geometry"][list(b["sample"]).index(7)] for b in epoch if 7 in b["sample"])
        for epoch in epochs
    ]
    assert (looks[0] != looks[1]).any()


def test_seeds_change_the_batches(samples):
    one, other = (take(train_batches(samples, 18, seed=s), 1)[0] for s in (0, 1))
    assert (one["sample"] != other["sample"]).any()


def test_batches_of_one_sample(samples):
    for mixture in (samples, [(samples, 0.7), (samples, 0.3)]):
        assert [len(batch["valid"]) for batch in take(train_batches(mixture, 1), 3)] == [1, 1, 1]


def test_processes_share_each_global_batch(samples):
    whole = take(train_batches(samples, 4, seed=5), 6)
    shares = [
        take(train_batches(samples, 4, seed=5, process_index=p, process_count=2), 6)
        for p in range(2)
    ]
    for k, batch in enumerate(whole):
        for key, value in batch.items():
            np.testing.assert_array_equal(value[0::2], shares[0][k][key])
            np.testing.assert_array_equal(value[1::2], shares[1][k][key])


def test_a_saved_position_resumes_exactly(samples, tmp_path):
    iterator = train_batches(samples, 4, seed=3)
    take(iterator, 3)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
        manager.wait_until_finished()
        following = take(iterator, 5)
        again = train_batches(samples, 4, seed=3)
        restore = grain.checkpoint.CheckpointRestore(again)
        manager.restore(3, args=ocp.args.Composite(data=restore))
    assert_same(following, take(again, 5))


@pytest.mark.parametrize("batch_size, processes", [(4, 1), (4, 2), (20, 4), (6, 1)])
def test_evaluation_covers_every_sample_once(samples, batch_size, processes):
    counts, seen = set(), []
    for process in range(processes):
        batches = list(eval_batches(samples, batch_size, process_index=process,
                                    process_count=processes))
        counts.add(len(batches))
        for batch in batches:
            assert batch["frames"].shape[0] == batch_size // processes
            seen += list(batch["sample"][batch["valid"]])
    assert counts == {-(-18 // batch_size)}
    assert sorted(seen) == list(range(18))


def test_evaluation_does_not_depend_on_the_time_of_reading(samples):
    plain = ReferringSamples(samples.dataset, dataclasses.replace(CLIP), samples.tokenizer,
                             train=False)
    assert_same(list(eval_batches(plain, 5)), list(eval_batches(plain, 5)))


@pytest.mark.parametrize("arguments, message", [
    ({"batch_size": 5, "process_count": 2}, "5 cannot be shared by 2"),
    ({"batch_size": 0}, "0 cannot"),
    ({"batch_size": 4, "process_index": 2, "process_count": 2}, "process 2 of 2"),
])
def test_batches_that_cannot_be_shared(samples, arguments, message):
    with pytest.raises(ValueError, match=message):
        train_batches(samples, **arguments)
    with pytest.raises(ValueError, match=message):
        eval_batches(samples, **arguments)
