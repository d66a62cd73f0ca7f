import numpy as np
import pytest

from input_pipeline.audio import log_mel, patch_ending_at


def test_log_mel_of_a_tone_is_vggishs():
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


def test_silence_is_the_logarithm_of_the_offset():
    np.testing.assert_allclose(log_mel(np.zeros(400)), np.log(0.01), rtol=1e-6)


def test_patches_end_at_their_moment():
    samples = np.random.default_rng(0).uniform(-1, 1, 32000).astype(np.float32)
    late = patch_ending_at(samples, 1.5)
    assert late.shape == (96, 64)
    np.testing.assert_allclose(late, log_mel(samples[24000 - 15600:24000]), rtol=1e-6)
    early = patch_ending_at(samples, 0.25)  # 4000 samples, silence before them
    np.testing.assert_allclose(early[:70], np.log(0.01), rtol=1e-6)
    np.testing.assert_allclose(early[-1], log_mel(samples[3600:4000])[0], rtol=1e-6)
    np.testing.assert_allclose(patch_ending_at(samples, 9.0), patch_ending_at(samples, 2.0))


@pytest.mark.parametrize("shape", [(399,), (400, 2)])
def test_sound_that_is_too_short_or_stereo(shape):
    with pytest.raises(ValueError, match="at least 400 samples"):
        log_mel(np.zeros(shape))
