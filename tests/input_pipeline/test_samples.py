import dataclasses

import cv2
import numpy as np
import pytest
from toy_dataset import COLORS, ToyBuilder, toy_record

from vseg_jax.input_pipeline.flow import flow_to_image
from vseg_jax.input_pipeline.records import (
    Expression,
    Object,
    decode_mask,
    encode_flow,
    encode_image,
    open_dataset,
)
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer

CLIP = ClipConfig(length=4, stride=1, target=2, height=24, width=32)


class _Listed(ToyBuilder):
    name = "listed"

    def splits(self):
        return {"train": self.options}


def samples_of(dataset, clip=CLIP, **options):
    texts = [e.text for entry in dataset.index for e in entry.expressions]
    tokenizer = WordTokenizer.from_texts(texts or ["none"], 12)
    return ReferringSamples(dataset, clip, tokenizer, **({"train": False} | options))


def built(folder, *records):
    return open_dataset(_Listed("", folder, records).build(), "train")


@pytest.fixture(scope="module")
def toys(toy_dir):
    return open_dataset(toy_dir, "train")


def test_one_sample_per_expression_and_frame_that_shows_the_object(toys):
    samples = samples_of(toys)
    assert len(samples) == (2 + 3 + 1) * 3
    sample = samples[4]  # second expression of the first video, its second annotated frame
    truth = samples.truth(4)
    assert (truth.video_id, truth.frame, truth.object_id) == ("toy-0", 2, 2)
    assert (truth.text, truth.category) == ("the green box that starts on the right", "box")
    assert truth.differs_in == "color"
    numbers = [int(sample[key]) for key in ("video", "sample", "object_id", "target")]
    assert numbers == [0, 4, 2, 2]
    np.testing.assert_array_equal(sample["masks_valid"], [True, False, True, False])
    assert (sample["masks"][1] == 255).all()
    np.testing.assert_array_equal(sample["masks"][2], truth.mask)
    green = (sample["frames"][2] == COLORS["green"]).all(-1)
    np.testing.assert_array_equal(green, truth.mask == 2)
    np.testing.assert_array_equal(sample["geometry"], [1, 1, 0, 0])


def test_frames_that_do_not_show_the_object_give_no_samples(tmp_path):
    record = toy_record(0)
    record.masks[2] = b""
    record.masks[4] = cv2.imencode(".png", np.ones((24, 32), np.uint8))[1].tobytes()
    samples = samples_of(built(tmp_path, record))
    seen = [(samples.truth(i).object_id, samples.truth(i).frame) for i in range(len(samples))]
    assert seen == [(1, 0), (1, 4), (2, 0)]


def test_shapes_and_types_are_static(toys):
    clip = dataclasses.replace(CLIP, height=20, width=28, crop=0.5, flip=0.5, color=0.3,
                               resize="pad")
    shapes = {
        tuple((k, v.shape, str(v.dtype)) for k, v in samples_of(toys, clip, train=train)[i].items())
        for i in range(18) for train in (False, True)
    }
    assert shapes == {(
        ("frames", (4, 20, 28, 3), "uint8"), ("masks", (4, 20, 28), "uint8"),
        ("masks_valid", (4,), "bool"), ("target", (), "int32"), ("object_id", (), "int32"),
        ("tokens", (12,), "int32"), ("tokens_valid", (12,), "bool"), ("video", (), "int32"),
        ("sample", (), "int32"), ("valid", (), "bool"), ("geometry", (4,), "float32"),
    )}


def test_augmentation_is_drawn_from_seed_and_number(toys):
    clip = dataclasses.replace(CLIP, crop=0.4, flip=0.5, color=0.3)
    one, same, other = (samples_of(toys, clip, train=True, seed=s) for s in (1, 1, 2))
    for key, value in one[5].items():
        np.testing.assert_array_equal(value, same[5][key])
    assert (one[5]["frames"] != other[5]["frames"]).any()
    assert any((one[3]["geometry"] != one[i]["geometry"]).any() for i in (4, 5))
    plain = samples_of(toys, clip)[5]
    np.testing.assert_array_equal(plain["geometry"], [1, 1, 0, 0])


def test_masks_stay_on_their_object_and_edges_where_geometry_says(toys):
    compared = 0
    clip = dataclasses.replace(CLIP, height=96, width=128, crop=0.5, flip=0.5)
    samples = samples_of(toys, clip, train=True)
    for i in range(len(samples)):
        sample, truth = samples[i], samples.truth(i)
        t = sample["target"]
        shown = sample["masks"][t] == truth.object_id
        assert shown.any()  # the crop kept a part of it
        inside = cv2.erode(shown.astype(np.uint8), np.ones((11, 11)))  # without blended edges
        color = COLORS[truth.text.split()[1]]
        painted = np.abs(sample["frames"][t].astype(int) - color).max(-1) < 12
        assert painted[inside > 0].all()
        compared += inside.any()
        rows, columns = np.nonzero(truth.mask == truth.object_id)
        scale_y, scale_x, offset_y, offset_x = sample["geometry"]
        ends = sorted(np.array([columns.min(), columns.max() + 1]) * scale_x + offset_x)
        found = np.nonzero(shown)
        assert abs(found[0].min() - max(rows.min() * scale_y + offset_y, 0)) <= 1
        assert abs(found[0].max() + 1 - min((rows.max() + 1) * scale_y + offset_y, 96)) <= 1
        assert abs(found[1].min() - max(ends[0], 0)) <= 1
        assert abs(found[1].max() + 1 - min(ends[1], 128)) <= 1
    assert compared > 10


def test_mirrored_clips_mirror_their_expression(toys):
    plain = samples_of(toys)[3]
    samples = samples_of(toys, dataclasses.replace(CLIP, flip=1.0), train=True)
    mirrored = samples[3]
    np.testing.assert_array_equal(mirrored["frames"], plain["frames"][:, :, ::-1])
    np.testing.assert_array_equal(mirrored["masks"], plain["masks"][:, :, ::-1])
    expected, _ = samples.tokenizer.encode("the green box that starts on the left")
    np.testing.assert_array_equal(mirrored["tokens"], expected)
    assert (plain["tokens"] != expected).any()


def test_color_is_the_same_for_every_frame_of_a_clip(tmp_path):
    record = toy_record(0)
    record.frames = record.frames[:1] * 6
    clip = dataclasses.replace(CLIP, color=0.5)
    samples = samples_of(built(tmp_path, record), clip, train=True)
    frames = samples[0]["frames"]
    assert (frames == frames[0]).all()
    assert (frames[0] != samples[1]["frames"][0]).any()
    np.testing.assert_array_equal(samples[0]["masks"][2], samples.truth(0).mask)


def test_styles_and_categories_select_expressions(tmp_path):
    record = toy_record(0)
    record.objects[1] = Object(2, "crate")
    record.expressions.append(Expression("it stands still", 1, "full"))
    dataset = built(tmp_path, record)
    assert samples_of(dataset, styles=("full",)).texts == ["it stands still"]
    assert {samples_of(dataset, categories=("crate",)).truth(i).object_id for i in range(3)} == {2}
    with pytest.raises(ValueError, match=r"no sample with styles \('odd',\)"):
        samples_of(dataset, styles=("odd",))


@pytest.mark.parametrize("frames, expected", [
    (0, [0, 2, 4, 6, 8]), (3, [0, 4, 8]), (2, [2, 6]), (1, [4]), (9, [0, 2, 4, 6, 8]),
])
def test_frames_of_an_expression_are_spread_evenly(tmp_path, frames, expected):
    samples = samples_of(built(tmp_path, toy_record(0, ("red",), length=10)), frames=frames)
    assert [samples.truth(i).frame for i in range(len(samples))] == expected


def test_shuffled_expressions_name_another_object_of_the_clip(toys):
    plain, shuffled = samples_of(toys), samples_of(toys, shuffle_expressions=True)
    assert len(shuffled) == len(plain) - 3  # toy-2 has one object
    names = {(e.video_id, x.text): x.object_id for e in toys.index for x in e.expressions}
    for i in range(len(shuffled)):
        truth = shuffled.truth(i)
        assert names[truth.video_id, truth.text] != truth.object_id
        assert truth.object_id == shuffled[i]["object_id"]
        expected, _ = shuffled.tokenizer.encode(truth.text)
        np.testing.assert_array_equal(shuffled[i]["tokens"], expected)
    # With one expression per object, every expression is still used equally often.
    read = [(shuffled.truth(i).video_id, shuffled.truth(i).text) for i in range(len(shuffled))]
    assert sorted(read) == sorted(
        (plain.truth(i).video_id, plain.truth(i).text) for i in range(len(shuffled))
    )


def test_without_a_second_named_object_expressions_come_from_other_videos(tmp_path):
    def one(number, color):
        record = toy_record(number, (color,))
        record.expressions.append(Expression(f"the {color} one", 1, "full"))
        return record

    silent = dataclasses.replace(toy_record(9, ("red",)), expressions=[])
    records = [one(0, "red"), silent, one(1, "green"), one(2, "blue"), one(3, "red")]
    samples = samples_of(built(tmp_path, *records), shuffle_expressions=True, styles=("full",))
    truths = [samples.truth(i) for i in range(0, len(samples), 3)]
    assert [(t.video_id, t.text) for t in truths] == [   # of four videos the second next one
        ("toy-0", "the blue one"), ("toy-1", "the red one"), ("toy-2", "the red one"),
        ("toy-3", "the green one")]
    expected, _ = samples.tokenizer.encode("the blue one")
    np.testing.assert_array_equal(samples[0]["tokens"], expected)
    assert samples[0]["video"] == 0 and samples[3]["object_id"] == 1
    with pytest.raises(ValueError, match="no sample"):   # there is no other video
        samples_of(built(tmp_path / "a", one(0, "red")), shuffle_expressions=True)


def test_only_the_frames_of_the_clip_are_decoded_and_bad_ones_are_named(tmp_path):
    record = toy_record(0)
    record.frames[5] = b"\xff\xd8 cut off"
    samples = samples_of(built(tmp_path, record))
    samples[0]  # frames 0 to 1
    with pytest.raises(ValueError, match="image of listed train video toy-0 frame 5 cannot"):
        samples[2]  # frame 4 and the one after it


def test_frames_of_another_size_are_named(tmp_path):
    record = toy_record(0)
    record.frames[0] = encode_image(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match=r"toy-0 frame 0 is 9x9 .*24x32"):
        samples_of(built(tmp_path, record))[0]


def test_frames_of_one_pixel(tmp_path):
    record = toy_record(0, ("red",), size=(7, 10), length=1)
    record.frames, record.height, record.width = [encode_image(np.zeros((1, 1, 3), np.uint8))], 1, 1
    record.masks = [cv2.imencode(".png", np.ones((1, 1), np.uint8))[1].tobytes()]
    assert decode_mask(record.masks[0], "x") == 1
    samples = samples_of(built(tmp_path, record), dataclasses.replace(CLIP, crop=0.1), train=True)
    assert (samples[0]["masks"] == 1).all() and samples[0]["frames"].shape == (4, 24, 32, 3)


def test_empty_expressions_are_named(tmp_path):
    record = toy_record(0)
    record.expressions[0] = Expression("", 1)
    with pytest.raises(ValueError, match="train video toy-0: the expression '' has no word"):
        samples_of(built(tmp_path, record))[0]


def test_indexing_beyond_the_last_sample_fails(toys):
    samples = samples_of(toys)
    with pytest.raises(IndexError):
        samples[len(samples)]
    assert len(list(samples)) == len(samples)


def moving(number=0):
    """A toy record whose upper half moves right and lower half down, faster from frame to frame."""
    record = toy_record(number)
    fields = np.zeros((len(record.frames) - 1, record.height, record.width, 2), np.float32)
    speed = np.arange(1, len(record.frames))[:, None, None]
    fields[:, :12, :, 0], fields[:, 12:, :, 1] = speed, 2 * speed
    record.flow = [encode_flow(f) for f in fields] + [b""]
    return record, fields


def test_flow_is_an_image_from_each_frame_to_the_next(tmp_path):
    record, fields = moving()
    samples = samples_of(built(tmp_path, record), flow=True)
    np.testing.assert_array_equal(
        samples[0]["flow"], [flow_to_image(fields[t]) for t in (0, 0, 0, 1)]
    )
    last = samples[2]["flow"]  # frames 2 to 5, of which the last has no next
    np.testing.assert_array_equal(last[2], flow_to_image(fields[4]))
    assert (last[3] == 255).all()
    assert "flow" not in samples_of(samples.dataset)[0]


def test_flow_goes_through_the_geometry_of_its_frame(tmp_path):
    record, _ = moving()
    dataset = built(tmp_path, record)
    clip = dataclasses.replace(CLIP, height=48, width=48, resize="pad")
    padded = samples_of(dataset, clip, flow=True)[0]["flow"]
    np.testing.assert_array_equal(
        padded[:, :36], [cv2.resize(p, (48, 36)) for p in samples_of(dataset, flow=True)[0]["flow"]]
    )
    assert (padded[:, 36:] == 0).all()  # as the frame's padding: no color of the wheel
    clip = dataclasses.replace(CLIP, crop=0.5, color=0.4)
    sample = samples_of(dataset, clip, train=True, flow=True)[1]
    same = [(sample["flow"][k] == sample["flow"][0]).all() for k in range(4)]
    assert all(same)  # the colors tell directions and shares of the longest vector, not speeds
    assert (sample["flow"] != samples_of(dataset, flow=True)[1]["flow"]).any()


def test_a_mirrored_clip_moves_the_other_way(tmp_path):
    record, fields = moving()
    clip = dataclasses.replace(CLIP, flip=1.0)
    mirrored = samples_of(built(tmp_path, record), clip, train=True, flow=True)[0]["flow"][0]
    np.testing.assert_array_equal(mirrored, flow_to_image(fields[0, :, ::-1] * [-1, 1]))
    plain = flow_to_image(fields[0])
    assert (mirrored[:12] != plain[:12]).any()
    np.testing.assert_array_equal(mirrored[12:], plain[12:])  # down stays down


def test_missing_flow_is_named_with_the_command(tmp_path, toys):
    message = r"train video toy-0 has no optical flow.*vseg flow --prepared"
    with pytest.raises(ValueError, match=message):
        samples_of(toys, flow=True)
    record, _ = moving()
    record.flow[3] = b""
    samples = samples_of(built(tmp_path / "gap", record), flow=True)
    with pytest.raises(ValueError, match="toy-0 has no flow from frame 3 to 4"):
        samples[2]
    record.flow[0] = encode_flow(np.zeros((9, 9, 2), np.float32))
    with pytest.raises(ValueError, match="flow of listed train video toy-0 frame 0 is 9x9"):
        samples_of(built(tmp_path / "size", record), flow=True)


def numbered(count, annotated, tmp_path):
    """A video whose frame t is all of the gray t, and whose annotated frames are these."""
    record = toy_record(0, ("red",), length=count)
    record.frames = [encode_image(np.full((24, 32, 3), t, np.uint8)) for t in range(count)]
    mask = cv2.imencode(".png", np.ones((24, 32), np.uint8))[1].tobytes()
    record.masks = [mask if t in annotated else b"" for t in range(count)]
    return built(tmp_path, record)


def grays(samples, i, rng=None):
    sample = samples[i] if rng is None else samples.sample(i, rng, step=0)
    return sample["frames"][:, 0, 0, 0].tolist(), sample["masks_valid"].tolist()


def test_clips_of_annotated_frames_only(tmp_path):
    dataset = numbered(30, (2, 9, 11, 29), tmp_path)
    clip = dataclasses.replace(CLIP, target=1, annotated=True)
    found = [grays(samples_of(dataset, clip), i) for i in range(4)]
    assert [frames for frames, _ in found] == [
        [2, 2, 9, 11], [2, 9, 11, 29], [9, 11, 29, 29], [11, 29, 29, 29]]
    assert [valid for _, valid in found] == [  # a repeated frame counts once
        [False, True, True, True], [True] * 4, [True, True, True, False],
        [True, True, False, False]]
    frames, _ = grays(samples_of(dataset, dataclasses.replace(clip, stride=2)), 0)
    assert frames == [2, 2, 11, 29]


def test_strides_are_drawn_in_training(tmp_path):
    dataset = numbered(60, (30,), tmp_path)
    clip = dataclasses.replace(CLIP, length=3, target=1, stride=1, stride_max=5)
    samples, rng = samples_of(dataset, clip, train=True), np.random.default_rng(0)
    drawn = np.array([grays(samples, 0, rng)[0] for _ in range(200)]) - 30
    assert (drawn[:, 1] == 0).all()
    before, after = -drawn[:, 0], drawn[:, 2]
    assert set(before) == set(after) == {1, 2, 3, 4, 5}
    assert (before != after).any()  # either side for itself
    assert grays(samples_of(dataset, clip), 0)[0] == [29, 30, 31]
    with pytest.raises(ValueError, match=r"stride_max is 1; .* at least stride \(2\)"):
        ClipConfig(stride=2, stride_max=1)


def test_a_list_chooses_objects_expressions_and_frames(toys, tmp_path):
    """In the form of MMVT's test.txt: frames count from 1, objects from 0."""
    path = tmp_path / "test.txt"
    path.write_text(
        "toy-0/00003,24,32,1,the only expression, whatever its text\n"
        "toy-1/00001.png,24,32,0,The  blue box that starts on the left,1\n"
    )
    samples = samples_of(toys, listed=str(path), frames=1)
    truths = [samples.truth(i) for i in range(len(samples))]
    assert [(t.video_id, t.frame, t.object_id) for t in truths] == [
        ("toy-0", 2, 2), ("toy-1", 0, 1)
    ]
    lost = ("toy-0/00002,24,32,0,a", "toy-0/00001,24,32,5,a", "elsewhere/00001,24,32,0,a")
    path.write_text("\n".join(["toy-2/5,24,32,0,a", *lost]))
    with pytest.warns(UserWarning, match=r"lacks 3 of the samples .*line 2"):
        assert len(samples_of(toys, listed=str(path))) == 1
    path.write_text(lost[0])
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"has no sample .* lists"):
        samples_of(toys, listed=str(path))
    with pytest.raises(ValueError, match="cannot be read"):
        samples_of(toys, listed=str(tmp_path / "none.txt"))


def test_of_several_expressions_the_list_names_one(tmp_path):
    record = dataclasses.replace(toy_record(0, ("red",)), expressions=[
        Expression("the red box, on the left", 1), Expression("the only box", 1),
    ])
    path = tmp_path / "test.txt"
    path.write_text("toy-0/1,24,32,0,The red  box, not read\n")
    samples = samples_of(built(tmp_path, record), listed=str(path))
    assert [samples.truth(i).text for i in range(len(samples))] == ["the red box, on the left"]
