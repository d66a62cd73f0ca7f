"""How images, masks, flow and sound are encoded in a record.

Every decoder is told where its bytes are from (dataset, video, frame) and names it in errors.
"""

from __future__ import annotations

import io
import operator
import wave

import cv2
import numpy as np

SAMPLE_RATE = 16000  # of encoded audio, Hz


def encode_image(rgb: np.ndarray, quality: int | None = None) -> bytes:
    """uint8 [H, W, 3] RGB to PNG, or to JPEG of the given quality (1 to 100)."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3], got {rgb.dtype} {rgb.shape}")
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if quality is None:
        return _imencode(".png", bgr)
    return _imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Encoded bytes to uint8 [H, W, 3] RGB; `where` (dataset, video, frame) goes into errors."""
    return _imdecode(data, cv2.IMREAD_COLOR_RGB, f"the image of {where}")


def encode_mask(mask: np.ndarray) -> bytes:
    """uint8 [H, W] index mask to an 8-bit gray PNG."""
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask must be uint8 [H, W], got {mask.dtype} {mask.shape}")
    return _imencode(".png", mask)


def decode_mask(data: bytes, where: str) -> np.ndarray:
    """Index PNG to uint8 [H, W]."""
    mask = _imdecode(data, cv2.IMREAD_UNCHANGED, f"the mask of {where}")
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(
            f"the mask of {where} is {mask.dtype} {mask.shape}; masks are stored as 8-bit gray "
            "index PNGs (convert palette images when building)"
        )
    return mask


def encode_rle(mask: np.ndarray) -> dict:
    """bool [H, W] to COCO's run-length code {"size", "counts"}, the counts compressed to a string.

    The same text as pycocotools writes.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask must be [H, W], got {mask.shape}")
    flat = np.concatenate([[False], mask.T.ravel() > 0])
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size)
    numbers = np.diff(ends, prepend=0)
    numbers[3:] -= numbers[1:-2].copy()  # they differ little from the last but one
    text = []
    for number in numbers.tolist():
        while not -16 <= number < 16:  # 5 bits with the sign
            text.append((number & 0x1F) | 0x20)
            number >>= 5
        text.append(number & 0x1F)
    return {"size": list(mask.shape), "counts": bytes(c + 48 for c in text).decode()}


def decode_rle(rle: dict, where: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """COCO's run-length code to bool [H, W].

    Args:
      rle: {"size": [height, width], "counts": runs of 0 and 1 in turn, down the columns, as a
        list of numbers or as pycocotools' compressed string}.
      where: what the code is of, for errors.
      size: (height, width) of its video, where that is known.

    Raises:
      ValueError: another size, runs that do not fill it, or a damaged string.
    """
    (height, width), runs = rle_runs(rle, where, size)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def rle_runs(
    rle: dict, where: str, wanted: tuple[int, int] | None = None
) -> tuple[tuple[int, int], np.ndarray]:
    """(height, width) and the runs of a code; arguments and errors as of `decode_rle`."""
    try:
        height, width = map(operator.index, rle["size"])
        counts = rle["counts"]
        runs = _rle_numbers(counts) if isinstance(counts, (str, bytes)) else np.array(counts, int)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"the run-length code of {where} cannot be read: {error!r}; wanted is "
                         '{"size": [height, width], "counts": ...}') from error
    if wanted and (height, width) != tuple(wanted):
        raise ValueError(f"the run-length code of {where} is {height}x{width} (height x width), "
                         f"but its video is {wanted[0]}x{wanted[1]}; encode the mask at that size")
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width or height < 0:
        raise ValueError(f"the run-length code of {where} has {runs.sum()} pixels, its size is "
                         f"{height}x{width} (height x width); encode the mask again, or download "
                         "the file again")
    return (height, width), runs


def _rle_numbers(text: str | bytes) -> np.ndarray:
    """The numbers of a compressed string: 5 bits a character, lowest first, 0x20 where more follow
    and 0x10 the sign in the last; from the fourth number on, what it differs by from the last but
    one."""
    data = text.encode() if isinstance(text, str) else text
    bits = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((bits & 0x20) == 0)
    if (bits < 0).any() or (bits > 63).any() or (len(bits) and ends[-1:] != len(bits) - 1):
        raise ValueError("it is cut off or has a character that means nothing")
    if not len(bits):
        return bits
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((bits & 0x1F) << shifts, starts)
    numbers -= np.where(bits[ends] & 0x10, 1 << 5 * lengths, 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


def encode_flow(flow: np.ndarray) -> bytes:
    """float32 [H, W, 2] (u right, v down, pixels) to KITTI's PNG: 16 bits, 1/64 pixel, +-512."""
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"flow must be [H, W, 2], got {flow.shape}")
    fixed = np.clip(np.rint(flow * 64.0 + 2**15), 0, 2**16 - 1).astype(np.uint16)
    valid = np.ones(flow.shape[:2], np.uint16)
    return _imencode(".png", np.dstack([valid, fixed[..., 1], fixed[..., 0]]))


def decode_flow(data: bytes, where: str) -> np.ndarray:
    """KITTI flow PNG to float32 [H, W, 2]; pixels marked invalid get NaN."""
    image = _imdecode(data, cv2.IMREAD_UNCHANGED, f"the flow of {where}")
    if image.dtype != np.uint16 or image.ndim != 3:
        raise ValueError(f"the flow of {where} is {image.dtype} {image.shape}, not a KITTI PNG")
    flow = (image[..., :0:-1].astype(np.float32) - 2**15) / 64.0
    flow[image[..., 0] == 0] = np.nan
    return flow


def encode_audio(samples: np.ndarray) -> bytes:
    """float [n] in [-1, 1] at 16 kHz to WAV (PCM 16 bit, mono)."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def decode_audio(data: bytes, where: str) -> np.ndarray:
    """WAV to float32 [n] in [-1, 1]."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"the audio of {where} cannot be decoded: {error}") from error
    if form != (1, 2, SAMPLE_RATE):
        raise ValueError(
            f"the audio of {where} has {form[0]} channels of {8 * form[1]} bits at {form[2]} Hz; "
            f"records hold one channel of 16 bits at {SAMPLE_RATE} Hz"
        )
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0


def check_size(image: np.ndarray, size: tuple[int, int], what: str) -> None:
    """ValueError unless `image` is `size` (height, width)."""
    if image.shape[:2] != tuple(size):
        raise ValueError(f"{what} is {image.shape[0]}x{image.shape[1]} (height x width), "
                         f"but its video is {size[0]}x{size[1]}")


def _imencode(suffix: str, image: np.ndarray, options: list[int] | None = None) -> bytes:
    if 0 in image.shape:
        raise ValueError(f"an image of shape {image.shape} has no pixels to encode")
    return cv2.imencode(suffix, image, options or [])[1].tobytes()


def _imdecode(data: bytes, flags: int, what: str) -> np.ndarray:
    if not data:
        raise ValueError(f"{what} is empty (no bytes)")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"{what} cannot be decoded: {error}") from error
    if image is None:
        raise ValueError(
            f"{what} cannot be decoded ({len(data)} bytes, first {bytes(data[:8])!r}); "
            "it is no JPEG or PNG or is cut off: download and prepare the dataset again"
        )
    return image
