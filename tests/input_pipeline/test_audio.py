from pathlib import Path

import av
import numpy as np
import pytest
from archives import cut, video, wav

from vseg_jax.input_pipeline.audio import (
    frame_patches,
    log_mel,
    patch_ending_at,
    read_audio,
    silent_patches,
)

GOLDEN = Path(__file__).parents[1] / "goldens" / "log_mel.npz"


def test_log_mel_of_a_tone_equals_vggish():
    # From harritaylor/torchvggish torchvggish/mel_features.py, commit f3f90969.
    tone = np.sin(2 * np.pi * 1000 * np.arange(800) / 16000)
    mel = log_mel(tone)
    assert mel.shape == (3, 64) and mel.dtype == np.float32
    bands = [0, 10, 20, 21, 22, 23, 24, 30, 63]
    expected = [-4.483133, -3.478294, 4.775044, 2.262215, -0.589607, -1.005045, -2.360477,
                -4.001493, -4.601163]
    np.testing.assert_allclose(mel[0, bands], expected, atol=2e-6)
    assert mel[0].argmax() == 19
    np.testing.assert_allclose(mel.mean(), -3.429619, atol=1e-6)


def test_a_patch_equals_vggish():
    with np.load(GOLDEN) as file:
        patch = patch_ending_at(file["samples"] / 32768, 0.975)
        assert patch.shape == (96, 64)
        np.testing.assert_allclose(patch, file["log_mel"], atol=1e-5)


def test_silence_is_the_logarithm_of_the_offset():
    np.testing.assert_allclose(log_mel(np.zeros(400)), np.log(0.01), rtol=1e-6)


def test_patches_end_at_their_time():
    samples = np.random.default_rng(0).uniform(-1, 1, 32000).astype(np.float32)
    late = patch_ending_at(samples, 1.5)
    assert late.shape == (96, 64)
    np.testing.assert_allclose(late, log_mel(samples[24000 - 15600:24000]), rtol=1e-6)
    early = patch_ending_at(samples, 0.25)  # 4000 samples, silence before them
    np.testing.assert_allclose(early[:70], np.log(0.01), rtol=1e-6)
    np.testing.assert_allclose(early[-1], log_mel(samples[3600:4000])[0], rtol=1e-6)
    np.testing.assert_allclose(patch_ending_at(samples, 9.0), patch_ending_at(samples, 2.0))


@pytest.mark.parametrize("shape", [(399,), (400, 2)])
def test_audio_that_is_too_short_or_stereo(shape):
    with pytest.raises(ValueError, match="at least 400 samples"):
        log_mel(np.zeros(shape))


def test_patches_of_frames_end_with_them():
    samples = np.random.default_rng(0).uniform(-1, 1, 32000).astype(np.float32)
    patches = frame_patches(samples, [0, 3, 3], 4.0)
    np.testing.assert_array_equal(patches[0], patch_ending_at(samples, 0.25))
    np.testing.assert_array_equal(patches[1], patch_ending_at(samples, 1.0))
    np.testing.assert_array_equal(patches[1], patches[2])
    np.testing.assert_allclose(silent_patches(2), np.log(0.01), rtol=1e-6)


# --- files ------------------------------------------------------------------------------------


def test_audio_of_files(tmp_path):
    time = np.arange(48000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    for rate in (16000, 44100, 48000):
        stereo = np.stack([tone[:rate], 0 * tone[:rate]])  # one channel is silent
        stereo[0] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        path = wav(tmp_path / f"{rate}.wav", stereo, rate)
        audio = read_audio(path)
        assert audio.dtype == np.float32 and abs(len(audio) - 16000) <= 16
        expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(len(audio)) / 16000)
        np.testing.assert_allclose(audio[200:-200], expected[200:-200], atol=4e-3)


def samples_wav(path, codec, form, samples):
    """A WAV of 16 kHz, mono, whose samples are of the kind `codec`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format=form, layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("codec, form, dtype, scale, zero", [
    ("pcm_u8", "u8", np.uint8, 2**7, 2**7), ("pcm_s24le", "s32", np.int32, 2**31, 0),
    ("pcm_f32le", "flt", np.float32, 1, 0),
])
def test_audio_of_8_and_24_bits_and_of_floats(tmp_path, codec, form, dtype, scale, zero):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    path = samples_wav(tmp_path / "tone.wav", codec, form, (scale * tone + zero).astype(dtype))
    np.testing.assert_allclose(read_audio(path), tone, atol=0.01)


def patched(path, place, data):
    """The file with some bytes of its header changed."""
    content = bytearray(path.read_bytes())
    content[place:place + len(data)] = data
    path.write_bytes(content)
    return path


def test_a_wav_without_its_length_in_the_header(tmp_path):
    path = wav(tmp_path / "stream.wav", np.zeros((1, 800)), 16000)
    for unknown in (b"\xff" * 4, b"\0" * 4):
        assert len(read_audio(patched(patched(path, 4, unknown), 40, unknown))) == 800


def test_audio_of_a_video(tmp_path):
    path = video(tmp_path / "video.mp4", seconds=1.0)
    audio = read_audio(path)
    assert abs(len(audio) - 16000) < 2200  # AAC comes in frames of 1024
    spectrum = np.abs(np.fft.rfft(audio))
    assert abs(spectrum.argmax() * 16000 / len(audio) - 440) < 5


@pytest.mark.parametrize("make, message", [
    (lambda p: wav(p, np.zeros((1, 8000)), 8000), "sample rate of 8000 Hz; at least 16000"),
    (lambda p: video(p.with_suffix(".mp4"), seconds=0), "has no audio"),
    (lambda p: p, "there is no audio file"),
    (lambda p: p.write_bytes(b"no audio") and p, "cannot be decoded"),
    (lambda p: wav(p, np.zeros((1, 0)), 16000), "is empty"),
    (lambda p: p.write_bytes(b"") or p, "cannot be decoded"),
    (lambda p: cut(wav(p, np.zeros((1, 800)), 16000)) or p, "is cut off: it has 822 bytes of 1644"),
    (lambda p: patched(wav(p, np.zeros((1, 800)), 16000), 24, bytes(4)), "cannot be decoded"),
    (lambda p: patched(wav(p, np.zeros((1, 800)), 16000), 24, (10**9).to_bytes(4, "little")),
     "sample rate of 1000000000 Hz; .* at most 768000 are read; extract it from the video again"),
    (lambda p: patched(wav(p, np.zeros((1, 800)), 16000), 20, b"\x34\x12"),
     "has audio of a kind that cannot be decoded"),
    (lambda p: samples_wav(p, "pcm_f32le", "flt", np.full(800, np.nan, np.float32)),
     "has non-finite samples"),
])
def test_files_without_usable_audio(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        read_audio(make(tmp_path / "bad.wav"))
