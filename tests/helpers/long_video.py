"""A long video, to check that memory does not grow with it."""

import tracemalloc

import jax

FRAMES = 600


def last_prediction(segment, frames):
    """The prediction of the last of `FRAMES` frames, which are `frames` again and again.

    `segment` takes an iterator over them and yields a prediction of each. From frame 100 to frame
    550, the memory of the process grows by less than 100 frames, and that of the device does not.
    """
    seen = []

    def video():
        for t in range(FRAMES):
            yield frames[t % len(frames)].copy()
            if t in (100, 550):
                seen.append((tracemalloc.get_traced_memory()[0], len(jax.live_arrays())))

    tracemalloc.start()
    try:
        for count, last in enumerate(segment(video()), 1):   # noqa: B007
            pass
    finally:
        tracemalloc.stop()
    (early, arrays_early), (late, arrays_late) = seen
    assert count == FRAMES and last.frame == FRAMES - 1
    assert late - early < 100 * frames[0].nbytes and arrays_late <= arrays_early + 2
    return last
