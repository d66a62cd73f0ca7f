import json

import numpy as np
import pytest
from archives import davis_2017
from toy_dataset import build_toy

from vseg_jax.input_pipeline.builders import as_youtube_vis, avis, prepare, youtube_vis
from vseg_jax.input_pipeline.builders.moving_shapes import Builder, Options
from vseg_jax.input_pipeline.records import decode_mask, open_dataset


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    options = Options(height=32, width=32, length=3, train=2, test=1, splits=("source_train",),
                      flow=False)
    return Builder("", tmp_path_factory.mktemp("shapes"), options).build()


def test_a_dataset_survives_the_round_trip(shapes, tmp_path):
    before = open_dataset(shapes, "source_train")
    path = as_youtube_vis.write(before, tmp_path / "out")
    assert path == tmp_path / "out/train.json"
    for name, module in (("youtube_vis", youtube_vis), ("avis", avis)):
        folder = prepare(name, tmp_path / "out", tmp_path / "data", {"dev": 0})
        after = open_dataset(folder, "train")
        assert after.categories == before.categories
        for a, b in zip(before, after, strict=True):
            assert (a.video_id, a.frames) == (b.video_id, b.frames)
            kinds = {o.id: o.category for o in a.objects}
            back = {o.id: o.category for o in b.objects}
            for one, other in zip(a.masks, b.masks, strict=True):  # ids are counted anew
                one, other = decode_mask(one, ""), decode_mask(other, "")
                np.testing.assert_array_equal(one > 0, other > 0)
                for i in np.unique(one[one > 0]):
                    [j] = np.unique(other[one == i])
                    assert kinds[i] == back[j]
            assert bool(b.audio) == (module is avis)
    assert b.fps == pytest.approx(8.0)  # the rate of the audio
    row = json.loads(path.read_text())["annotations"][0]
    mask = decode_mask(before[0].masks[0], "") == before[0].objects[0].id
    x, y, width, height = row["bboxes"][0]
    assert row["areas"][0] == mask.sum() == mask[y:y + height, x:x + width].sum()


def test_objects_without_a_category(tmp_path, capsys):
    source = davis_2017(tmp_path / "davis", {"val": ["dogs"]})
    folder = prepare("davis", source, tmp_path / "data")
    call = [str(folder), "val", str(tmp_path / "out")]
    assert as_youtube_vis.main(call) == 2
    assert "video dogs: object 1 has no category; give one with" in capsys.readouterr().err
    assert as_youtube_vis.main([*call, "--categories", "dog"]) == 2
    assert as_youtube_vis.main([*call, "--categories", "1=dog,2=person"]) == 0
    folder = prepare("youtube_vis", tmp_path / "out", tmp_path / "data", {"dev": 0})
    dataset = open_dataset(folder, "train")
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "dog"), (2, "person")]
    assert [o.category for o in dataset.index[0].objects] == ["dog", "person"]
    assert as_youtube_vis.main([*call, "--categories", "1=dog,2=person"]) == 2
    assert "out already exists" in capsys.readouterr().err


def test_frames_without_a_mask_are_left_out(tmp_path):
    toys = open_dataset(build_toy(tmp_path), "valid")
    content = json.loads(as_youtube_vis.write(toys, tmp_path / "out").read_text())
    assert content["videos"][0]["file_names"] == [f"toy-9/{t:05d}.png" for t in (0, 2, 4)]
    assert len(content["annotations"][0]["segmentations"]) == 3
