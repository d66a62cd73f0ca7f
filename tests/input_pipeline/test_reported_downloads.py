"""What users of public code report about the downloads of the sentence datasets, as tests.

Each docstring is a report in plain words, with the repository and number of its issue. The archives
are small and synthetic, in the layout of the official downloads.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from archives import (
    A2D_SIZE,
    JHMDB_SIZE,
    a2d,
    a2d_clip,
    a2d_frame,
    box,
    jhmdb,
    refer_youtube_vos,
    refer_youtube_vos_valid_masks,
    write,
)

from vseg_jax.input_pipeline.builders import a2d_sentences, prepare
from vseg_jax.input_pipeline.builders import refer_youtube_vos as module
from vseg_jax.input_pipeline.builders.refer_youtube_vos import Options
from vseg_jax.input_pipeline.records import decode_image, decode_mask, open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.metrics.a2d import A2DMetric

DOCS = Path(__file__).parents[2] / "docs" / "datasets"
A2D_COUNTS = a2d_sentences.Official(videos=4, queries=5, missed=1, train=2, test=1)
RVOS_COUNTS = {"train": 4, "valid": 1, "test": 1}
CLIP = ClipConfig(length=1, target=0, height=16, width=24)


@pytest.fixture
def rvos(tmp_path):
    return refer_youtube_vos(tmp_path / "refer")


def build_rvos(source, tmp_path, **options):
    folder = prepare("refer_youtube_vos", source, tmp_path / "p", {"dev": 0} | options)
    return lambda split: open_dataset(folder, split)


def samples(dataset):
    tokenizer = WordTokenizer.from_texts(["a dog"], 8)
    return ReferringSamples(dataset, CLIP, tokenizer, train=False)


# --- Refer-YouTube-VOS ------------------------------------------------------------------------


def test_the_list_of_test_is_no_longer_published(rvos, tmp_path, capsys):
    """ReferFormer 6 and 8: the download has no list of test any more, its list of valid still names
    test's videos, and the frames of these are gone."""
    shutil.rmtree(rvos / "meta_expressions/test")
    shutil.rmtree(rvos / "valid/JPEGImages/tested")
    opened = build_rvos(rvos, tmp_path)
    assert [e.video_id for e in opened("valid").index] == ["late"]
    assert len(opened("train")) == 4
    assert "warning: refer_youtube_vos: valid: 1 of 2 videos have no frames" in (
        capsys.readouterr().out)
    assert module.verify(rvos, Options(), RVOS_COUNTS) == []


def test_an_incomplete_valid_is_not_taken_for_the_one_without_test(rvos, tmp_path, monkeypatch):
    """As above, but frames of valid are missing too: 507 videos are listed and not 202 of them have
    frames, so the archive was extracted in part."""
    shutil.rmtree(rvos / "meta_expressions/test")
    shutil.rmtree(rvos / "valid/JPEGImages/tested")
    monkeypatch.setitem(module.OFFICIAL, "valid", 2)
    with pytest.raises(ValueError, match="1 videos of valid have frames; the official one has 2"):
        build_rvos(rvos, tmp_path)


def test_the_old_list_of_test_without_frames(rvos, tmp_path, capsys):
    """ReferFormer 6: the authors of ReferFormer share the former list of test, for which there are
    no frames."""
    shutil.rmtree(rvos / "valid/JPEGImages/tested")
    opened = build_rvos(rvos, tmp_path)
    assert [e.video_id for e in opened("valid").index] == ["late"]
    with pytest.raises(ValueError, match="no split 'test'"):
        opened("test")
    assert "test: none of its 1 videos has frames" in capsys.readouterr().out
    assert module.verify(rvos, Options(), RVOS_COUNTS) == []


def test_valid_lists_its_own_videos_only(rvos, tmp_path):
    """ReferDINO 9: newer lists of valid differ from YouTube-VOS 2019 and name only the videos that
    the server scores."""
    path = rvos / "meta_expressions/valid/meta_expressions.json"
    content = json.loads(path.read_text())
    del content["videos"]["tested"]
    write(path, json.dumps(content))
    shutil.rmtree(rvos / "meta_expressions/test")
    shutil.rmtree(rvos / "valid/JPEGImages/tested")
    assert [e.video_id for e in build_rvos(rvos, tmp_path)("valid").index] == ["late"]
    assert module.verify(rvos, Options(), RVOS_COUNTS) == []


def test_train_without_meta_json(rvos, tmp_path, capsys):
    """ReferFormer 20: the download has no train/meta.json any more, which names objects and
    categories."""
    (rvos / "train/meta.json").unlink()
    opened = build_rvos(rvos, tmp_path)
    record, entry = opened("train")[0], opened("train").index[0]
    assert [(o.id, o.category, o.frames) for o in entry.objects] == [
        (1, "", (0, 1, 2)), (3, "", (0, 1))]  # from the masks
    np.testing.assert_array_equal(decode_mask(record.masks[1], ""),
                                  box((16, 24), 0, 5) + 3 * box((16, 24), 8, 12))
    assert len(samples(opened("train"))) == 4 * (2 * 3 + 2)
    with pytest.raises(ValueError, match="no split 'a2r'"):  # needs the categories
        opened("a2r")
    assert "meta.json with the categories" in capsys.readouterr().out
    assert module.verify(rvos, Options(), RVOS_COUNTS) == []
    (rvos / "train/Annotations/video1/00005.png").unlink()
    assert module.verify(rvos, Options(), RVOS_COUNTS) == [
        "train: missing masks: 1 (video1/00005.png)"]


def test_masks_of_valid_are_published(rvos, tmp_path, capsys):
    """skynbe/Refer-Youtube-VOS 7 and 8: the server is gone; the authors published the masks of
    valid, so that everybody can compute the scores."""
    objects = refer_youtube_vos_valid_masks(rvos)
    opened = build_rvos(rvos, tmp_path, objects=str(objects))
    record = opened("valid")[0]
    assert [(o.id, o.category) for o in record.objects] == [(1, "dog"), (2, "cat")]
    assert [(e.text, e.object_id) for e in record.expressions] == [
        ("a dog", 1), ("a cat behind it", 2)]
    assert [sorted(np.unique(decode_mask(m, ""))) for m in record.masks] == [[0, 1], [0, 1, 2]]
    assert len(samples(opened("valid"))) == 2 + 1
    assert "warning" not in capsys.readouterr().out
    options = Options(objects=str(objects), splits=("valid",))
    assert module.verify(rvos, options, RVOS_COUNTS) == []


def test_masks_of_valid_without_the_objects_are_not_guessed(rvos, tmp_path, capsys):
    """As above, without the list that tells which object an expression names."""
    refer_youtube_vos_valid_masks(rvos)
    record = build_rvos(rvos, tmp_path, splits="valid")("valid")[0]
    assert record.masks == [b"", b""] and {e.object_id for e in record.expressions} == {0}
    assert "the option 'objects' takes the authors' file" in capsys.readouterr().out


def test_obj_ids_in_the_list_of_valid_need_no_other_file(rvos, tmp_path):
    """As above, with a list of valid in the form of that of train."""
    refer_youtube_vos_valid_masks(rvos)
    path = rvos / "meta_expressions/valid/meta_expressions.json"
    content = json.loads(path.read_text())
    for key, object_id in (("0", "1"), ("1", "2")):
        content["videos"]["late"]["expressions"][key]["obj_id"] = object_id
    write(path, json.dumps(content))
    record = build_rvos(rvos, tmp_path, splits="valid")("valid")[0]
    assert [o.id for o in record.objects] == [1, 2] and all(record.masks)


def test_first_masks_of_youtube_vos_are_no_ground_truth(rvos, tmp_path):
    """As above, but with the masks of YouTube-VOS, which has one for each object: scores on these
    would be wrong."""
    objects = refer_youtube_vos_valid_masks(rvos)
    (rvos / "valid/Annotations/late/00010.png").unlink()
    with pytest.raises(ValueError, match=r"valid: missing masks: 1 \(late/00010\.png\); YouTube-V"):
        build_rvos(rvos, tmp_path, objects=str(objects))


def test_a_list_of_objects_of_other_expressions(rvos, tmp_path):
    """As above, with a list that does not belong to the expressions."""
    objects = refer_youtube_vos_valid_masks(rvos)
    write(objects, objects.read_text().replace("a cat behind it", "a cat"))
    with pytest.raises(ValueError, match="expression 1: 'a cat behind it' is not in the file of"):
        build_rvos(rvos, tmp_path, objects=str(objects))
    write(objects, '{"videos": {"late": {"objects": {"1": {"frames": []}}}, "tested": {}}}')
    with pytest.raises(ValueError, match=r"meta_expressions_valid\.json, video"):
        build_rvos(rvos, tmp_path, objects=str(objects))
    with pytest.raises(ValueError, match=r"nothing\.json cannot be read"):
        build_rvos(rvos, tmp_path, objects=str(tmp_path / "nothing.json"))


def test_one_split_alone(rvos, tmp_path):
    """Who only scores a model downloads the frames of valid and the lists, not 10 GB of train."""
    shutil.rmtree(rvos / "train")
    with pytest.raises(ValueError, match=r"train: videos without frames.*the option splits=valid"):
        build_rvos(rvos, tmp_path)
    assert [e.video_id for e in build_rvos(rvos, tmp_path, splits="valid")("valid").index] == [
        "late"]
    assert module.verify(rvos, Options(splits=("valid",)), RVOS_COUNTS) == []


# --- A2D-Sentences ----------------------------------------------------------------------------


def build_a2d(source, tmp_path, split="test", **options):
    return open_dataset(prepare("a2d_sentences", source, tmp_path / "p", options), split)


def test_folders_as_the_archives_make_them(tmp_path):
    """Public code reads A2D_main_1_0/Release, and the masks from a folder of their archive's name
    in another one: a2d_annotation_with_instances/a2d_annotation_with_instances."""
    source = a2d(tmp_path / "a2d")
    (source / "A2D_main_1_0").mkdir()
    (source / "Release").rename(source / "A2D_main_1_0/Release")
    (source / "a2d_annotation_with_instances").rename(source / "masks")
    (source / "a2d_annotation_with_instances").mkdir()
    (source / "masks").rename(source / "a2d_annotation_with_instances/"
                              "a2d_annotation_with_instances")
    assert a2d_sentences.verify(source, a2d_sentences.Options(), A2D_COUNTS) == []
    assert [e.annotated for e in build_a2d(source, tmp_path).index] == [(2,)]


@pytest.fixture
def misfitting(tmp_path):
    """Frame 2 of `test` has a mask of half the size; frame 9 of `walk_dog-1`, which has 6, too."""
    source = a2d(tmp_path / "a2d")
    folder = source / "a2d_annotation_with_instances"
    half = (A2D_SIZE[0] // 2, A2D_SIZE[1] // 2)
    a2d_frame(folder / "test/00002.h5", [0], [box(half, 2, 3, 4)], [36])
    (folder / "walk_dog-1/00007.h5").unlink()
    a2d_frame(folder / "walk_dog-1/00009.h5", [0], [box(A2D_SIZE, 20, 8)], [78])
    return source


def test_masks_that_do_not_fit_stop_before_any_clip_is_decoded(misfitting, tmp_path, monkeypatch):
    """A mask of another size, or of a frame that the decoder does not find, stops the preparation
    after thousands of clips, and all is lost."""
    monkeypatch.setattr(a2d_sentences, "read_video", lambda *_: pytest.fail("decoded"))
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"do not fit their clips: 2 of 5 \(.*00009\.h5: the "
                           r"clip .* only 6 frames, .*00002\.h5 is 16x24 .*misfits=skip leaves"):
            build_a2d(misfitting, tmp_path, split)
    [problem] = a2d_sentences.verify(misfitting, a2d_sentences.Options(), A2D_COUNTS)
    assert "2 of 5" in problem
    skip = a2d_sentences.Options(misfits="skip")
    assert a2d_sentences.verify(misfitting, skip, A2D_COUNTS) == []


def test_masks_that_do_not_fit_can_be_left_out(misfitting, tmp_path, capsys):
    """As above; the preparation lists them."""
    assert build_a2d(misfitting, tmp_path, misfits="skip").index[0].annotated == (2,)
    assert build_a2d(misfitting, tmp_path, "train", misfits="skip").index[0].annotated == (0,)
    lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(lines) == 2 and "00009.h5" in lines[0] and "00002.h5 is 16x24" in lines[1]


def test_masks_that_do_not_fit_can_be_fitted(misfitting, tmp_path, capsys):
    """As above; the mask is resized, and annotates the last frame."""
    record = build_a2d(misfitting, tmp_path, misfits="fit")[0]
    np.testing.assert_array_equal(decode_mask(record.masks[1], ""), box(A2D_SIZE, 4, 6, 8))
    record = build_a2d(misfitting, tmp_path, "train", misfits="fit")[0]
    np.testing.assert_array_equal(decode_mask(record.masks[5], ""), box(A2D_SIZE, 20, 8))
    assert capsys.readouterr().out.count("warning: a2d_sentences: a mask is fitted: ") == 2


def test_frames_of_a_variable_rate_are_decoded_once(tmp_path):
    """LBDT 4 and 5: how are the frames extracted? Commands that write images at a constant rate
    repeat frames of clips whose rate varies, and all later numbers are off."""
    source = a2d(tmp_path / "a2d")
    a2d_clip(source / "Release/clips320H/test.mp4", 5, times=(0, 1, 4, 5, 9))
    record = build_a2d(source, tmp_path)[0]
    red = [float(decode_image(data, "")[..., 0].mean()) for data in record.frames]
    np.testing.assert_allclose(red, [0, 40, 80, 120, 160], atol=12)


@pytest.mark.parametrize("protocol", ["legacy", "coco"])
def test_a_sample_has_one_prediction(protocol):
    """ReferFormer 39: the mAP was computed with five predictions of each sample, which raised it
    from 51.9 to 55.0. Here a second prediction of a sample counts as another sample, of which it
    is false."""
    truth = box((16, 24), 0, 0)
    metric = A2DMetric(protocol)
    metric.add(truth.astype(np.float32), truth)
    assert metric.result()["mAP"] == 1
    metric.add(box((16, 24), 8, 8).astype(np.float32), truth)
    assert len(metric) == 2 and metric.result()["mAP"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("page", "places"), [
    ("a2d_sentences", ("bigshare/A2D_main_1_0.tar.bz", "github.com/mttr2021/MTTR/issues/24")),
    ("jhmdb_sentences", ("files.is.tue.mpg.de/jhmdb", "github.com/iSEE-Laboratory/ReferDINO")),
    ("refer_youtube_vos", ("github.com/skynbe/Refer-Youtube-VOS", "ReferFormer/issues/20")),
])
def test_the_pages_name_other_places_than_home_pages(page, places):
    """MTTR 24, Locater 2 and ReferDINO 9: the home pages of A2D and J-HMDB are gone."""
    text = (DOCS / f"{page}.md").read_text()
    assert all(place in text for place in places)
    assert "jhmdb.is.tue.mpg.de" not in text + (DOCS / "index.md").read_text()


# --- J-HMDB-Sentences -------------------------------------------------------------------------


def test_the_list_of_acga_and_lbdt(tmp_path):
    """LBDT 3: which frames of J-HMDB are tested? LBDT and MMVT use the test.txt of ACGA, with rows
    "video/frame,height,width,object,expression"; LBDT's also have a category."""
    source = jhmdb(tmp_path / "jhmdb")
    rows = ["long_run_1/00001,24,32,0,a man, who runs", "long_run_1/00006,24,32,0,a man,run",
            "new_wave_2/00003,24,32,0,woman waving"]
    path = write(tmp_path / "test.txt", "\n".join(rows) + "\n")
    folder = prepare("jhmdb_sentences", source, tmp_path / "p", {"samples": str(path)})
    assert [e.annotated for e in open_dataset(folder, "test").index] == [(0, 5), (2,)]
    for bad, message in (("00001,24,32,0,a man", "line 1: expected video/frame,height"),
                         ("long_run_1/00001,a man", "line 1: expected video/frame,height"),
                         ("long_run_1/x,24,32,0,a man", "line 1: expected video/frame,height"),
                         ("long_run_1/00001,24,32,man,a", "line 1: expected video/frame,height")):
        write(path, bad)
        with pytest.raises(ValueError, match=message):
            prepare("jhmdb_sentences", source, tmp_path / "p", {"samples": str(path)})


def test_the_masks_of_jhmdb_belong_to_their_frames(tmp_path):
    """SgMg 17: all scores on J-HMDB are 0 with a model that is good on A2D, because the data or the
    checkpoint were read in the wrong way."""
    source = jhmdb(tmp_path / "jhmdb")
    folder = prepare("jhmdb_sentences", source, tmp_path / "p", {"frames": 0})
    record = open_dataset(folder, "test")[0]
    official = scipy.io.loadmat(source / "puppet_mask/run/long_run_1/puppet_mask.mat")["part_mask"]
    metric = A2DMetric("legacy")
    for t in range(official.shape[2]):
        image = source / f"Rename_Images/run/long_run_1/{t + 1:05d}.png"
        assert record.frames[t] == image.read_bytes()
        truth = decode_mask(record.masks[t], "") == record.expressions[0].object_id
        assert truth.shape == JHMDB_SIZE
        metric.add(official[..., t].astype(np.float32), truth)
    assert len(metric) == 6 and metric.result()["mean_iou"] == 1
