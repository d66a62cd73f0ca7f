"""The primary endpoint of a study: its bootstrap, Holm's correction, and the verdict."""

import dataclasses

import numpy as np
import pytest
from studies import STUDY, Runs

from vseg_jax.experiment.study import endpoint, run
from vseg_jax.settings import EndpointConfig, RowConfig, StudyConfig


@pytest.mark.parametrize("rivals", [(), ("plain", "better")])
def test_an_endpoint_compares_a_row_with_others(rivals):
    with pytest.raises(ValueError, match="name at least one, and not the row itself"):
        EndpointConfig("test", "better", rivals)


class Sampled(Runs):
    """As `Runs`, with the IoU of each of 40 samples, two per clip; "better" gains 0.1 in each."""

    def __call__(self, config, changes, folder, trains):
        settings, start = super().__call__(config, changes, folder, trains)

        def sampled():
            scores = start()
            noise = np.random.default_rng(int(changes["train.seed"])).normal(0, 0.2, 40)
            iou = 0.5 + noise + (0.1 + 0.02 * noise if config == "better.py" else 0)
            return scores | {"wild": {"sample_iou": iou.tolist(),
                                      "sample_video": [k // 2 for k in range(40)],
                                      "mean": float(iou.mean())}}

        return settings, sampled


def endpoint_study(*rivals, dataset="wild"):
    rows = {**STUDY.rows, **{name: RowConfig(f"{name}.py") for name in rivals}}
    return StudyConfig(rows, STUDY.columns, STUDY.seeds, "plain",
                       EndpointConfig(dataset, "better", ("plain", *rivals)))


def test_a_study_with_an_endpoint_tests_only_that(tmp_path):
    study = endpoint_study("other")
    table = run("few", study, tmp_path, {}, Sampled())
    assert "| better | 3 | 76.2 ± 1.2 |" in table and "t-test" not in table
    assert "mean IoU on wild, better against plain and other." in table
    row = next(line for line in table.splitlines() if line.startswith("| plain | +10."))
    assert row.endswith("| 3 | above |")
    assert "better is above plain and other." in table
    assert (tmp_path / "few-endpoint.png").is_file()
    assert (tmp_path / "few.md").read_text() == table == run("few", study, tmp_path, {}, Runs())


def test_an_incomplete_study_has_no_verdict(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run("few", endpoint_study(), tmp_path, {}, Sampled(killed_at=5))
    table = (tmp_path / "few.md").read_text()
    assert "when the last of its runs is complete; 1 are missing." in table
    assert "above" not in table and "+10" not in table
    assert (tmp_path / "few.png").is_file() and not (tmp_path / "few-endpoint.png").exists()


def test_differences_by_sample(tmp_path):
    """Of a dataset with samples; the other one has none."""
    study = dataclasses.replace(STUDY, columns={**STUDY.columns, "wild": "wild/mean"},
                                paired={"better": "plain"})

    class Few(Sampled):
        """Two objects of one clip; one gains 0.3, one loses 0.1."""

        def __call__(self, config, changes, folder, trains):
            settings, start = Runs.__call__(self, config, changes, folder, trains)
            better, seed = config == "better.py", int(changes["train.seed"])
            iou = [0.5 + better * (0.3 + 0.01 * seed), 0.5 - better * 0.1]
            return settings, lambda: start() | {
                "wild": {"sample_iou": iou, "sample_video": [0, 0], "mean": 0.5}}

    table = run("few", study, tmp_path / "few", {}, Few())
    assert "| wild | against |" in table and "| test | against |" not in table
    line = next(x for x in table.splitlines() if x.startswith("| better | plain |"))
    cells = [cell.strip() for cell in line.split("|")[3:-1]]
    assert cells[0] == "+10.5" and cells[2:] == ["50", "3"]
    low, high = map(float, cells[1].split(" to "))
    assert low < 10.5 < high   # over the seeds alone: there is one clip
    one = dataclasses.replace(study, seeds=(0,))
    assert "| better | plain | +10.0 |  | 50 | 1 |" in run("few", one, tmp_path / "1", {}, Few())
    many = run("few", one, tmp_path / "2", {}, Sampled())
    assert "| better | plain | +10." in many and " to " in many   # over the clips alone


def test_scores_without_samples_have_no_interval(tmp_path):
    table = run("few", endpoint_study(dataset="test"), tmp_path, {}, Sampled())
    assert "It is not tested: the scores lack the IoU of each sample." in table


def test_rows_of_other_samples_are_not_compared():
    row = {0: {"sample_iou": [0.5, 0.5], "sample_video": [0, 1]}}
    other = {0: {"sample_iou": [0.5, 0.5], "sample_video": [0, 2]}}
    with pytest.raises(ValueError, match="seed 0: the two rows were not evaluated on the same"):
        endpoint.compare(row, other)


def test_holm_by_hand():
    # sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 and 0.5 * 1; none is below the one before it
    assert endpoint.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert endpoint.holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert endpoint.holm([0.7, 0.8]) == [1, 1]


def test_differences_of_each_seed_by_hand():
    # seed 0 has two samples of clip 0 and one of clip 1, seed 1 one of each
    row = {0: {"sample_iou": [0.5, 0.7, 0.9], "sample_video": [0, 0, 1]},
           1: {"sample_iou": [0.6, 0.2], "sample_video": [0, 1]}}
    rival = {0: {"sample_iou": [0.4, 0.4, 0.4], "sample_video": [0, 0, 1]},
             1: {"sample_iou": [0.4, 0.4], "sample_video": [0, 1]}}
    assert endpoint.compare(row, rival).by_seed == pytest.approx((0.3, 0.0))


def test_estimate_and_its_error_by_hand():
    sums, counts = np.array([[0.2, 0.6], [0.0, 0.4]]), np.array([[1.0, 2.0], [1.0, 2.0]])
    one = np.ones((1, 2))
    (mean,), (error,) = endpoint._estimate(sums, counts, one, one)
    of_seed = np.array([0.8 / 3, 0.4 / 3])
    assert mean == pytest.approx(of_seed.mean())
    over_seeds = of_seed.var(ddof=1) / 2
    residuals = np.array([0.2 - 2 * mean, 1.0 - 4 * mean])   # of the clips
    assert error == pytest.approx((over_seeds + 2 * (residuals**2).sum() / 6**2)**0.5)
    # a resample that has the second seed and the first clip twice
    (mean,), _ = endpoint._estimate(sums, counts, np.array([[0.0, 2.0]]), np.array([[2.0, 0.0]]))
    assert mean == 0.0


def simulated(random, effect, seeds=8, clips=60):
    """Differences of two rows: an effect of the seed, one of the clip, and noise of samples."""
    counts = np.tile(random.integers(1, 4, clips), (seeds, 1)).astype(float)
    each = (effect + random.normal(0, 0.02, (seeds, 1)) + random.normal(0, 0.15, clips)
            + random.normal(0, 0.2, (seeds, clips)) / counts**0.5)
    return each * counts, counts


def test_the_interval_covers_the_true_difference_at_its_nominal_rate():
    random = np.random.default_rng(4)
    found = [endpoint.bootstrap(*simulated(random, 0.0), resamples=1000) for _ in range(300)]
    covered = [c.low <= 0 <= c.high for c in found]
    assert 0.92 <= np.mean(covered) <= 0.98   # the standard error of the rate is 0.013
    for c, covers in zip(found, covered, strict=True):   # p and interval agree
        assert covers if c.p > 0.055 else c.p >= 0.05 or not covers


def test_an_effect_moves_the_interval_and_is_found():
    found = []
    for seed in range(30):
        none, some = (endpoint.bootstrap(*simulated(np.random.default_rng(seed), effect), 1000)
                      for effect in (0.0, 0.1))
        for key in ("difference", "low", "high"):
            assert getattr(some, key) == pytest.approx(getattr(none, key) + 0.1, abs=1e-6)
        found.append(some.p < 0.05)
    assert np.mean(found) > 0.9


def test_noise_that_both_rows_have_cancels():
    random = np.random.default_rng(0)
    video = np.repeat(np.arange(50), 2)

    def scores(iou):
        return {"sample_iou": iou.tolist(), "sample_video": video.tolist()}

    shared = {seed: random.normal(0.5, 0.3, 100) + random.normal(0, 0.1) for seed in range(6)}
    own = {seed: random.normal(0, 0.02, 100) for seed in shared}
    base = {seed: scores(iou) for seed, iou in shared.items()}
    paired = endpoint.compare(
        {seed: scores(iou + own[seed] + 0.01) for seed, iou in shared.items()}, base)
    unpaired = endpoint.compare(
        {seed: scores(shared[(seed + 1) % 6] + own[seed] + 0.01) for seed in shared}, base)
    assert paired.p < 0.01 and paired.difference == pytest.approx(0.01, abs=0.003)
    assert unpaired.p > 0.1
    assert unpaired.high - unpaired.low > 10 * (paired.high - paired.low)


def test_equal_rows_do_not_differ():
    none = endpoint.bootstrap(np.zeros((3, 9)), np.ones((3, 9)))
    assert (none.difference, none.low, none.high, none.p) == (0, 0, 0, 1)
