"""A minimal server: frames come in over a websocket, index masks go out.

    pip install fastapi uvicorn websockets
    python examples/server.py swiftnet-lite0

The argument is any model that `vseg_jax.load` takes. A connection to ws://127.0.0.1:8000/segment is
one stream. Binary messages are its frames, JPEG or PNG; each is answered with one binary message, a
PNG with the ids of the objects, 0 for background. Text messages in JSON say what comes next:

- {"query": "a dog running"}, before the first frame: the object to find;
- {"mask": true}: the next binary message is a mask for the frame after it, a PNG with an id on each
  object's pixels. It names the objects of the first frame, and adds or corrects some later;
- {"end": true}: there are no more frames. The masks that are still due follow, then the connection
  closes.

A model with a delay answers its first frames with empty messages. What cannot be used is answered
with {"error": ...}, and the connection closes. All connections share one thread for the model, so
they take turns. There is no authentication: keep the server on this machine, or behind one that
has it.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from fastapi import FastAPI, WebSocket
from PIL import Image

import vseg_jax
from vseg_jax.inference import Segmentation, Segmenter, Session
from vseg_jax.input_pipeline.mask_files import index_of


def server(segmenter: Segmenter) -> FastAPI:
    """Returns the application that serves a model."""
    app, thread = FastAPI(), ThreadPoolExecutor(1)

    @app.websocket("/segment")
    async def segment(socket: WebSocket) -> None:
        await socket.accept()
        try:
            await follow(socket, segmenter, thread)
        except ValueError as error:   # what the client sent cannot be used
            await socket.send_json({"error": str(error)})
            await socket.close(1008)

    return app


async def follow(socket: WebSocket, segmenter: Segmenter, thread: ThreadPoolExecutor) -> None:
    """Answers the messages of one stream until it ends."""
    session: Session | None = None
    query, mask, mask_comes = None, None, False
    run = asyncio.get_running_loop().run_in_executor
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        if message.get("text") is not None:
            told = json.loads(message["text"])
            if not isinstance(told, dict):
                raise ValueError("a text message is a JSON object: query, mask or end")
            if told.get("end"):
                for due in await run(thread, session.finish) if session else ():
                    await socket.send_bytes(png(due))
                await socket.close()
                return
            query, mask_comes = told.get("query", query), bool(told.get("mask"))
        elif mask_comes:
            mask, mask_comes = index_of(image(message["bytes"]), "the mask"), False
        else:
            frame = np.asarray(image(message["bytes"]).convert("RGB"))
            if session is None:
                session = await run(thread, segmenter.start, frame, query, mask)
                found = session.first
            else:
                found = await run(thread, session.step, frame, mask)
            mask = None
            await socket.send_bytes(png(found))


def image(content: bytes) -> Image.Image:
    """Returns the image in a message; raises ValueError if it is none."""
    try:
        opened = Image.open(io.BytesIO(content))
        opened.load()
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"a message is not an image: {error}") from error
    return opened


def png(found: Segmentation | None) -> bytes:
    """Returns the index mask as a PNG; nothing where no segmentation is due."""
    return b"" if found is None else cv2.imencode(".png", found.index)[1].tobytes()


if __name__ == "__main__":
    import uvicorn

    if len(sys.argv) != 2:
        sys.exit("usage: python examples/server.py MODEL")
    uvicorn.run(server(vseg_jax.load(sys.argv[1])), host="127.0.0.1", port=8000)
