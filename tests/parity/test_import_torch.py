"""From the state dict of a public class to its masks: `vseg import` and `vseg predict` on a clip.

The classes have random weights. Their code runs as in its own evaluation scripts.
"""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("av")

import mmvt_public  # noqa: E402
import propagation  # noqa: E402
import references  # noqa: E402

from vseg_jax import cli  # noqa: E402
from vseg_jax.binarize import foreground  # noqa: E402
from vseg_jax.inference.geometry import sigmoid, to_original  # noqa: E402
from vseg_jax.input_pipeline.flow import dis_flows, flow_to_image  # noqa: E402
from vseg_jax.media.video import Video, VideoWriter  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "goldens"))
import mmvt as golden  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(references.folder() is None, reason="VSEG_REFERENCES is not set"),
]
FRAMES = 12
TIE = 2e-4   # probabilities differ from the public ones by 4e-5 at most (docs/parity.md)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def vseg(*arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0


def clip(path, frames):
    """Writes a video and returns its frames as they are read again."""
    with VideoWriter(path, 10.0) as writer:
        for frame in frames:
            writer.add(frame)
    return np.stack(list(Video(path)))


def masks_of(folder):
    return np.stack([np.asarray(Image.open(p)) for p in sorted((folder / "masks").glob("*.png"))])


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("repository", "variant"), [("STM", "stm"), ("SwiftNet", "swiftnet18")])
def test_masks_of_mask_propagation(repository, variant, tmp_path):
    """Two objects; a pixel may differ only where the public probabilities tie."""
    peer = references.propagation(repository)
    shapes = {k: tuple(v.shape) for k, v in peer.state_dict().items()}
    state = propagation.state_dict(repository, shapes)
    peer.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    torch.save(torch.nn.DataParallel(peer).state_dict(), tmp_path / "weights.pth",
               _use_new_zipfile_serialization=repository == "SwiftNet")  # STM's file is older
    frames, masks = propagation.video(FRAMES, 100, 150)
    frames = clip(tmp_path / "clip.mp4", frames)
    Image.fromarray(masks[0]).save(tmp_path / "first.png")
    vseg("import", "--config", f"swiftnet:{variant}", "--weights", tmp_path / "weights.pth",
         "--output", tmp_path / "model")
    vseg("predict", "--workdir", tmp_path / "model", "--video", tmp_path / "clip.mp4", "--mask",
         tmp_path / "first.png", "--short_side=100", "--output", tmp_path / "ours",
         "--config.model.objects=2")
    ours = masks_of(tmp_path / "ours")
    with torch.no_grad():
        objects, _ = references.follow(peer, frames / 255, masks[0])
    everything = np.concatenate([1 - objects.sum(1, keepdims=True), objects], axis=1)
    theirs = np.concatenate([masks[:1], everything.argmax(1)])
    ranked = np.sort(everything, axis=1)
    lead = ranked[:, -1] - ranked[:, -2]
    differing = ours[1:] != theirs[1:]
    sizes = [(theirs[1:] == k).mean() for k in range(3)]
    print(f"\n{repository}: {differing.sum()} of {differing.size} pixels differ, where the most "
          f"probable slot leads by {lead[differing].max(initial=0):.1e} at most; "
          f"{(lead < TIE).mean():.2%} of all leads are smaller than {TIE}; shares of the slots "
          + ", ".join(f"{size:.0%}" for size in sizes))
    assert ours.shape == theirs.shape and min(sizes) > 0.01
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert lead[differing].max(initial=0) < TIE and differing.mean() < 1e-4


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "is", "running", "left",
         *(f"word{k}" for k in range(40))]
QUERY = "a dog is running leftwards"   # the last word is unknown: it is not split


def public_part(file, name, **names):
    """Returns a function or class out of a file whose other imports are not needed."""
    path = references.folder() / "MMMMTBVS" / file
    node = next(node for node in ast.parse(path.read_text()).body
                if getattr(node, "name", "") == name)
    exec(compile(ast.Module([node], []), str(path), "exec"), names)
    return names[name]


def public_mmvt(network, frames):
    """Returns the logits [T - 3, H, W] of frames 1 ... T - 3, with the input of a2d_test.py."""
    fit = public_part("dataset/utils.py", "ResizeAndPad", np=np, Image=Image)(
        mmvt_public.SIDE, mmvt_public.SIDE, Image.BICUBIC)
    flows = [flow_to_image(flow) for flow in dis_flows(frames[:-1], frames[1:])]
    frames, flows = (np.stack([np.asarray(fit(Image.fromarray(x))) for x in several])
                     for several in (frames, flows))
    ids = [2, *(WORDS.index(w) if w in WORDS else 1 for w in QUERY.split(" ")[:18]), 3]
    valid = np.arange(mmvt_public.WORDS) < len(ids)
    tokens = np.zeros(mmvt_public.WORDS, np.int64)
    tokens[:len(ids)] = ids
    logits = []
    for t in range(1, len(frames) - 2):
        order = [t - 1, t + 1, t]
        with torch.no_grad():
            logits.append(network.inference(
                *(mmvt_public.images(x[order][None]) for x in (frames, flows)),
                *(mmvt_public.every_frame(x[None]) for x in (tokens, valid)))[0, 0].numpy())
    return np.stack(logits)


@pytest.mark.usefixtures("cache")
def test_masks_of_mmvt(tmp_path):
    """The public class in a sixteenth of its width; flow by DIS on both sides.

    Frames without a neighbor that has flow, which the public code does not predict, are left out.
    The public code enlarges probabilities and this library logits, so masks are equal if the logits
    of the public code are enlarged here, and nearly equal to its own.
    """
    pytest.importorskip("einops")
    pytest.importorskip("transformers")
    network, _ = mmvt_public.load(references.folder(), small=True)
    golden.fill(network.eval(), {k: tuple(v.shape) for k, v in network.state_dict().items()})
    torch.save({"it": 30_000, "network": network.state_dict(), "optimizer": {"state": {}}},
               tmp_path / "checkpoint.pth")
    tokenizer = tmp_path / "bert"
    tokenizer.mkdir()
    (tokenizer / "vocab.txt").write_text("\n".join(WORDS))
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    small = mmvt_public.SMALL
    keys = {key: getattr(small, key) for key in (
        "depth", "width", "channels", "head_width", "hidden", "align_channels")}
    keys |= {f"bert.{key}": value for key, value in vars(small.bert).items()}
    vseg("import", "--config", "mmvt:public", "--weights", tmp_path / "checkpoint.pth", "--output",
         tmp_path / "model", f"--config.text.tokenizer={tokenizer}",
         *(f"--config.clip.{side}={mmvt_public.SIDE}" for side in ("height", "width")),
         *(f"--config.model.{key}={value}" for key, value in keys.items()))
    frames = clip(tmp_path / "clip.mp4", propagation.video(FRAMES, 42, 70)[0])
    vseg("predict", "--workdir", tmp_path / "model", "--video", tmp_path / "clip.mp4", "--query",
         QUERY, "--output", tmp_path / "ours")
    ours = masks_of(tmp_path / "ours")[1:-2]
    logits = public_mmvt(network, frames)
    geometry = np.float32([19 / 42, 32 / 70, 6, 0])   # 42 x 70 becomes 19 x 32
    enlarged = np.stack([sigmoid(to_original(x, geometry, (42, 70))) for x in logits])
    theirs = foreground(enlarged)
    resize = public_part("a2d_test.py", "resize_and_crop", np=np, torch=torch,
                         F=torch.nn.functional)
    own = [resize(torch.sigmoid(torch.from_numpy(x))[None, None], 42, 70)[0, 0].numpy()
           for x in logits]
    own = foreground(np.stack(own))
    overlap = (ours.astype(bool) & own).sum() / (ours.astype(bool) | own).sum()
    clear = np.abs(enlarged / enlarged.max((1, 2), keepdims=True) - 0.5) > 1e-3
    print(f"\nmmvt: {(ours != theirs).sum()} of {ours.size} pixels differ; IoU with the masks of "
          f"the public script {overlap:.4f}; share of the object {theirs.mean():.0%}")
    assert 0.02 < theirs.mean() < 0.98 and clear.mean() > 0.98
    np.testing.assert_array_equal(ours.astype(bool)[clear], theirs[clear])
    assert overlap > 0.95
