"""Encoding of images, masks, flow and audio in a record.

Every decoder takes `where` its bytes come from (dataset, video, frame) and names it in errors.
"""

from __future__ import annotations

import io
import wave

import cv2
import numpy as np

SAMPLE_RATE = 16000  # of encoded audio, Hz


def encode_image(rgb: np.ndarray, quality: int | None = None) -> bytes:
    """Encodes uint8 [H, W, 3] RGB as PNG, or as JPEG of the given quality (1 to 100)."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3], got {rgb.dtype} {rgb.shape}")
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if quality is None:
        return _imencode(".png", bgr)
    return _imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decodes PNG or JPEG bytes to uint8 [H, W, 3] RGB."""
    return _imdecode(data, cv2.IMREAD_COLOR_RGB, f"the image of {where}")


def encode_mask(mask: np.ndarray) -> bytes:
    """Encodes an index mask uint8 [H, W] as an 8-bit gray PNG."""
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask must be uint8 [H, W], got {mask.dtype} {mask.shape}")
    return _imencode(".png", mask)


def decode_mask(data: bytes, where: str) -> np.ndarray:
    """Decodes an index PNG to uint8 [H, W]."""
    mask = _imdecode(data, cv2.IMREAD_UNCHANGED, f"the mask of {where}")
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(
            f"the mask of {where} is {mask.dtype} {mask.shape}; masks are stored as 8-bit gray "
            "index PNGs (convert palette images when building)"
        )
    return mask


def encode_flow(flow: np.ndarray) -> bytes:
    """Encodes float32 [H, W, 2] (u right, v down, pixels) as KITTI's 16-bit PNG: 1/64 px, +-512."""
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"flow must be [H, W, 2], got {flow.shape}")
    fixed = np.clip(np.rint(flow * 64.0 + 2**15), 0, 2**16 - 1).astype(np.uint16)
    valid = np.ones(flow.shape[:2], np.uint16)
    return _imencode(".png", np.dstack([valid, fixed[..., 1], fixed[..., 0]]))


def decode_flow(data: bytes, where: str) -> np.ndarray:
    """Decodes a KITTI flow PNG to float32 [H, W, 2]; pixels marked as invalid become NaN."""
    image = _imdecode(data, cv2.IMREAD_UNCHANGED, f"the flow of {where}")
    if image.dtype != np.uint16 or image.ndim != 3:
        raise ValueError(f"the flow of {where} is {image.dtype} {image.shape}, not a KITTI PNG")
    flow = (image[..., :0:-1].astype(np.float32) - 2**15) / 64.0
    flow[image[..., 0] == 0] = np.nan
    return flow


def encode_audio(samples: np.ndarray) -> bytes:
    """Encodes float [n] in [-1, 1] at 16 kHz as WAV (PCM 16 bit, mono)."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def decode_audio(data: bytes, where: str) -> np.ndarray:
    """Decodes a WAV of a record to float32 [n] in [-1, 1]."""
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
    """Raises a ValueError unless `image` has `size` (height, width)."""
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
            "it is not a JPEG or PNG, or is cut off: download and prepare the dataset again"
        )
    return image
