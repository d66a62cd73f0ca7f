"""The server in examples/ answers frames with masks."""

import importlib.util
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import standin
import standin_vos
from PIL import Image

from vseg_jax.inference.segmenter import Segmenter

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

FILE = Path(__file__).resolve().parents[1] / "examples" / "server.py"


@pytest.fixture(scope="module")
def server():
    spec = importlib.util.spec_from_file_location("server", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.server


def encoded(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return content.getvalue()


def decoded(message):
    return cv2.imdecode(np.frombuffer(message, np.uint8), cv2.IMREAD_UNCHANGED)


def test_masks_name_objects_in_any_frame(server):
    segmenter = Segmenter(standin_vos.Follower(), standin_vos.variables())
    frames, masks = standin.square_frames(4)
    first, later = masks[0] * (masks[0] == 1), masks[2] * (masks[2] == 2)
    session = segmenter.start(frames[0], mask=first)
    wanted = [session.first.index, session.step(frames[1]).index,
              session.step(frames[2], later).index, session.step(frames[3]).index]
    with TestClient(server(segmenter)).websocket_connect("/segment") as socket:
        for t, frame in enumerate(frames):
            if t in (0, 2):
                socket.send_json({"mask": True})
                socket.send_bytes(encoded(first if t == 0 else later))
            socket.send_bytes(encoded(frame))
            np.testing.assert_array_equal(decoded(socket.receive_bytes()), wanted[t])
        socket.send_json({"end": True})
        assert socket.receive()["type"] == "websocket.close"
    assert set(np.unique(wanted[3])) == {0, 1, 2}


def test_a_query_and_a_delay(server):
    segmenter = standin.segmenter(delay=1)
    frames, _ = standin.square_frames(3)
    wanted = [one.index for one in segmenter.segment(frames, "red")]
    with TestClient(server(segmenter)).websocket_connect("/segment") as socket:
        socket.send_json({"query": "red"})
        found = []
        for frame in frames:
            socket.send_bytes(encoded(frame))
            found.append(socket.receive_bytes())
        socket.send_json({"end": True})
        found.append(socket.receive_bytes())
    assert found[0] == b"" and len(wanted) == 3
    for message, index in zip(found[1:], wanted, strict=True):
        np.testing.assert_array_equal(decoded(message), index)


@pytest.mark.parametrize(("messages", "error"), [
    ([b"no image"], "a message is not an image"), (["[]"], "a text message is a JSON object"),
    (["{"], "Expecting"), ([encoded(np.zeros((24, 32, 3), np.uint8))], "takes"),
])
def test_mistakes_are_reported(server, messages, error):
    with TestClient(server(standin.segmenter())).websocket_connect("/segment") as socket:
        for message in messages:
            socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
        assert error in socket.receive_json()["error"]
        assert socket.receive()["code"] == 1008
