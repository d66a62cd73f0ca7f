"""Sessions in files: they continue bit by bit, and other models refuse them."""

import json

import jax
import numpy as np
import pytest
import standin
import standin_vis
import standin_vos

from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.models.swiftnet import Swiftnet, SwiftnetConfig

SIZE = (24, 32)


def follower(model=None, **changes):
    return Segmenter(model or standin_vos.Follower(), standin_vos.variables(), **changes)


def same(continued, uninterrupted):
    for one, other in zip(continued, uninterrupted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (one.frame, one.ids, one.values) == (other.frame, other.ids, other.values)
            assert (one.image == other.image).all()
            assert (one.probability == other.probability).all()
            assert (one.scores == other.scores).all()


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"trigger": "vat"},
                                     {"adaptation_steps": 2}])
def test_a_stream_of_masks_continues_bit_by_bit(tmp_path, changes):
    model = Swiftnet(SwiftnetConfig(depth=18, width=4, objects=4, every=2, capacity=2, share=0.3,
                                    **changes))
    segmenter = Segmenter(model, jax.jit(model.init)(jax.random.key(0), {}))
    frames, truth = standin.square_frames(6, SIZE)
    session = segmenter.start(frames[0], mask=truth[0] == 1)
    session.step(frames[1], np.where(truth[1] == 2, 2, 0))
    session.step(frames[2])
    session.save(tmp_path / "session")
    uninterrupted = [session.step(f) for f in frames[3:]]
    restored = segmenter.restore(tmp_path / "session")
    same([restored.step(f) for f in frames[3:]], uninterrupted)
    assert uninterrupted[0].ids == (1, 2) and [p.frame for p in uninterrupted] == [3, 4, 5]
    assert [p.name for p in tmp_path.iterdir()] == ["session"]


def test_streams_with_frames_in_flight_continue(tmp_path):
    segmenter = standin.segmenter()
    one, other = (standin.square_frames(5, size, seed=1)[0] for size in (SIZE, (30, 20)))
    session = segmenter.start_many([one[0], other[0]], ["red", "blue"])
    session.step([one[1], other[1]])
    session.step([None, other[2]])
    session.save(tmp_path / "a.npz")
    restored = segmenter.restore(tmp_path / "a.npz")
    for continued in (session, restored):
        with pytest.raises(ValueError, match="stream 0 has ended"):
            continued.step([one[3], other[3]])
    for frames in ([None, other[3]], [None, other[4]]):
        same(restored.step(frames), session.step(frames))
    for ours, theirs in zip(restored.finish(), session.finish(), strict=True):
        same(ours, theirs)
    session.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="finished"):
        segmenter.restore(tmp_path / "a.npz").step([one[0], other[0]])


def test_identities_and_audio_continue(tmp_path):
    segmenter = standin_vis.segmenter(audio=True, first=400)
    frames = standin_vis.video(6, green=(4, 5))[0]
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 640)).astype(np.float32)
    session = segmenter.start(frames[0], audio=audio[0])
    for t in (1, 2):
        session.step(frames[t], audio=audio[t])
    session.save(tmp_path / "a.npz")
    restored = segmenter.restore(tmp_path / "a.npz")
    for t in (3, 4, 5):
        same([restored.step(frames[t], audio=audio[t])], [session.step(frames[t], audio=audio[t])])
    assert restored.summary() == session.summary() and len(session.summary()) == 3


def test_another_model_or_a_damaged_file_is_refused(tmp_path):
    path, (frames, truth) = tmp_path / "a.npz", standin.square_frames(2, SIZE)
    follower().start(frames[0], mask=truth[0]).save(path)
    assert (follower().restore(path).step(frames[1]).index == truth[1]).all()
    other = standin_vos.Follower(standin_vos.FollowerConfig(objects=2))
    with pytest.raises(ValueError, match=r"another model; .*\n  config\.objects: 3 in the file, 2"):
        follower(other).restore(path)
    with pytest.raises(ValueError, match=r"another model; .*\n  short_side: 0 in the file, 12"):
        follower(short_side=12).restore(path)
    louder = Segmenter(standin_vos.Follower(), {"params": {"gain": np.float32(41)}})
    with pytest.raises(ValueError, match=r"another model; .*\n  weights: '\w+' in the file"):
        louder.restore(path)
    queries = standin.segmenter()
    with pytest.raises(ValueError, match="class: 'Follower' in the file, 'Standin' here"):
        queries.restore(path)

    class Changed(standin_vos.Follower):
        def start(self, variables, frame, prompt):
            return {**super().start(variables, frame, prompt), "more": np.zeros(2, np.float32)}

    Changed.__name__ = "Follower"   # the same class, of another version
    with pytest.raises(ValueError, match=r"the state in .* is not that of this model; .* version"):
        follower(Changed()).restore(path)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    later = np.frombuffer(json.dumps({**header, "version": 99}).encode(), np.uint8)
    np.savez(tmp_path / "later.npz", **{**arrays, "header": later})
    with pytest.raises(ValueError, match="has version 99, but this code reads version 1"):
        follower().restore(tmp_path / "later.npz")
    for missing in ("state/0", "last/0"):
        np.savez(tmp_path / "less.npz", **{k: v for k, v in arrays.items() if k != missing})
        with pytest.raises(ValueError, match=f"is damaged .*{missing}"):
            follower().restore(tmp_path / "less.npz")
    for missing in ("single", "finished", "streams", "sizes", "task", "state"):
        less = json.dumps({k: v for k, v in header.items() if k != missing}).encode()
        np.savez(tmp_path / "less.npz", **{**arrays, "header": np.frombuffer(less, np.uint8)})
        with pytest.raises(ValueError, match=f"is damaged .*{missing}"):
            follower().restore(tmp_path / "less.npz")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 10] = 77   # an unknown kind of compression
    (tmp_path / "unknown.npz").write_bytes(data)
    with pytest.raises(ValueError, match="is not a saved session, or is damaged"):
        follower().restore(tmp_path / "unknown.npz")
    data = path.read_bytes()
    for damaged in (data[:-200], b"", b"no session", data[:300] + b"x" + data[301:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a saved session, or is damaged"):
            follower().restore(path)
    np.savez(path, header=np.zeros(2))
    with pytest.raises(ValueError, match="is not a saved session, or is damaged"):
        follower().restore(path)
    with pytest.raises(ValueError, match="there is no saved session"):
        follower().restore(tmp_path / "gone")


def test_a_session_is_saved_completely_or_not_at_all(tmp_path, monkeypatch):
    path, (frames, truth) = tmp_path / "a.npz", standin.square_frames(2, SIZE)
    session = follower().start(frames[0], mask=truth[0])
    pushed = session.push([frames[1]])
    with pytest.raises(ValueError, match="1 outputs of `push` have not been collected"):
        session.save(path)
    session.collect(pushed)
    path.write_bytes(b"before")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="the disk is full"):
        session.save(path)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1
