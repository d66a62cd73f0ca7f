import numpy as np
import pytest
from archives import cut, wav, youtube_vis

from vseg_jax.input_pipeline.builders import avis, files, prepare
from vseg_jax.input_pipeline.instances import InstanceSamples
from vseg_jax.input_pipeline.records import decode_audio, open_dataset
from vseg_jax.input_pipeline.settings import ClipConfig, InstanceConfig


@pytest.fixture
def source(tmp_path):
    return youtube_vis(tmp_path / "avis", train=4, audio=True)


def test_records_have_the_audio_of_their_video(source, tmp_path):
    folder = prepare("avis", source, tmp_path / "data")
    dev = open_dataset(folder, "dev")
    assert [e.video_id for e in dev.index] == files.draw([f"vid{k}" for k in range(4)], 1, 0)
    assert len(open_dataset(folder, "train")) == 3
    record = dev[0]
    audio = decode_audio(record.audio, "a test")
    assert len(audio) == pytest.approx(16000, abs=20)
    assert record.fps == pytest.approx(3, abs=0.01)  # three frames in a second of audio
    assert abs(np.abs(np.fft.rfft(audio)).argmax() - 440) <= 2
    samples = InstanceSamples(dev, ClipConfig(height=12, width=20), InstanceConfig(uses_audio=True),
                              train=False)
    assert samples[2]["audio_valid"].all() and samples[2]["audio"].max() > 0
    assert avis.verify(source, avis.Options()) == []


def test_videos_without_audio(source, tmp_path):
    (source / "train/audio/vid1.wav").unlink()
    problems = avis.verify(source, avis.Options())
    assert len(problems) == 1 and problems[0].startswith("train: videos without audio: 1 of 4")
    assert "vid1.wav" in problems[0]
    with pytest.raises(ValueError, match=r"lacks audio: .*vid1\.wav\); missing_audio=silent uses"):
        prepare("avis", source, tmp_path / "data")
    folder = prepare("avis", source, tmp_path / "data", {"missing_audio": "silent", "dev": 0})
    records = {r.video_id: r for r in open_dataset(folder, "train")}
    assert records["vid1"].audio == b"" and records["vid0"].audio


@pytest.mark.parametrize("damage, message", [
    (lambda p: wav(p, np.zeros((1, 8000)), 8000),
     "vid0.wav has audio with a sample rate of 8000 Hz; at least 16000 "),
    (lambda p: wav(p, np.zeros((1, 0)), 16000), "vid0.wav is empty"),
    (lambda p: p.write_bytes(b"RIFF"), "vid0.wav cannot be decoded"),
    (lambda p: cut(p, 0.5), "vid0.wav is cut off: it has 88222 bytes of 176444"),
])
def test_audio_that_cannot_be_used(source, tmp_path, damage, message):
    damage(source / "train/audio/vid0.wav")
    problems = avis.verify(source, avis.Options())
    assert len(problems) == 1 and message in problems[0]
    assert problems[0].startswith("train: audio that cannot be used: 1 of 4, the first: ")
    with pytest.raises(ValueError, match=message):
        prepare("avis", source, tmp_path / "data", {"dev": 0})
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file()]


def test_options(source, tmp_path):
    with pytest.raises(ValueError, match=r"'dev' is 1\.5; it must be a share"):
        prepare("avis", source, tmp_path / "data", {"dev": 1.5})
    with pytest.raises(ValueError, match="not the folder of AVIS"):
        prepare("avis", tmp_path, tmp_path / "data")
