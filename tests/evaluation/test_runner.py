"""What evaluations share: times, tables and saved results, without a model."""

import json

import pytest

from vseg_jax.evaluation import runner


def test_times_are_medians_and_none_where_nothing_was_timed():
    assert set(runner.Clock().result().values()) == {None}
    result = runner.Clock(starts=[3.0, 1.0, 2.0], frames=[0.5, 0.25, 0.25]).gather().result()
    assert result == {"frames_per_second": 3.0, "seconds_per_frame": 0.25, "seconds_to_start": 2.0}


def test_columns_of_a_table_stand_below_their_headings(capsys):
    runner.print_table(("AP", "identity_preservation"), {"a": [50.0, None], "long": [7.25, 1.0]})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["AP", "identity_preservation"], ["a", "50.0", "-"], ["long", "7.2", "1.0"]]
    assert len({len(line) for line in lines}) == 1


def test_results_appear_when_the_evaluation_ends(tmp_path, capsys):
    folder = tmp_path / "saved"
    for number in range(2):   # the second time in place of the first
        with runner.start("toy", 1, "frames", save=folder, progress=False) as run:
            assert run.folder not in (None, folder)
            run.write({"number": number})
        assert json.loads((folder / runner.TABLE).read_text()) == {"number": number}
    with pytest.raises(KeyboardInterrupt), runner.start(
            "toy", 1, "frames", save=folder, progress=False) as run:
        run.write({"number": 2})
        raise KeyboardInterrupt
    assert json.loads((folder / runner.TABLE).read_text()) == {"number": 1}
    with runner.start("toy", 1, "frames", save=None, progress=False) as run:
        run.write({"number": 3})   # nothing is saved
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert capsys.readouterr() == ("", "")
