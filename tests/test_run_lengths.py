"""COCO's run-length code: equal to pycocotools', and damaged codes are named."""

import numpy as np
import pytest

from vseg_jax.run_lengths import decode_rle, encode_rle

# Masks that pycocotools 2.0.11 encoded.
LARGE = np.zeros((1080, 1920), bool)
LARGE[100:900, 3:6] = LARGE[5, 1700:1703] = LARGE[0, 0] = LARGE[1000:, 700] = True
NOISE = np.unpackbits(np.uint8([112, 21, 60, 65, 153, 90, 151, 190]))[:63].reshape(9, 7)


@pytest.mark.parametrize("mask, text", [
    (NOISE, "311011OO110O33NM00N71I21M012"),
    (LARGE, "01[X3oh0]PM000djlf0`YOQaP:aMZ]SoN000ckT7"),
    (np.zeros((4, 5)), "d0"), (np.ones((4, 5)), "0d0"),
])
def test_compressed_codes_as_pycocotools_writes_them(mask, text):
    for counts in (text, text.encode()):
        decoded = decode_rle({"size": list(mask.shape), "counts": counts}, "a test")
        np.testing.assert_array_equal(decoded, mask > 0)


def test_codes_equal_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.random()
        code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        np.testing.assert_array_equal(decode_rle(code, "a test"), mask)


@pytest.mark.parametrize("code, message", [
    ({"size": [4, 5], "counts": [10, 9]}, "of a test has 19 pixels, its size is 4x5"),
    ({"size": [4, 5], "counts": [25, -5]}, "of a test has 20 pixels"),
    ({"size": [4, 5], "counts": "d"}, "of a test cannot be read"),
    ({"size": [4, 5], "counts": ""}, "of a test cannot be read"),
    ({"size": [4], "counts": [4]}, "of a test cannot be read"),
    ({"size": None, "counts": [4]}, "of a test cannot be read"),
    ({"size": ["4", "5"], "counts": [20]}, "of a test cannot be read"),
    ({"size": [4.0, 5.0], "counts": [20]}, "of a test cannot be read"),
    ({"size": [-4, -5], "counts": [20]}, "its size is -4x-5"),
    ({"size": [4, 5], "counts": [10**30]}, "of a test cannot be read: OverflowError"),
    ({"counts": [4]}, "of a test cannot be read"),
])
def test_damaged_codes(code, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(code, "a test")


def test_a_code_of_another_size():
    code = {"size": [4, 5], "counts": [20]}
    assert decode_rle(code, "a test", (4, 5)).shape == (4, 5)
    with pytest.raises(ValueError, match=r"is 4x5 \(height x width\), but its video is 5x4"):
        decode_rle(code, "a test", (5, 4))


def test_encoded_as_pycocotools_encodes():
    for mask, text in ((NOISE, "311011OO110O33NM00N71I21M012"),
                       (LARGE, "01[X3oh0]PM000djlf0`YOQaP:aMZ]SoN000ckT7"),
                       (np.zeros((4, 5)), "d0"), (np.ones((4, 5)), "0d0")):
        assert encode_rle(mask) == {"size": list(mask.shape), "counts": text}
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.random()
        np.testing.assert_array_equal(decode_rle(encode_rle(mask), "a test"), mask)
