"""Compares mmvt with its public code (mmvt_public.py): blocks, the whole network, gradients."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("einops")

import mmvt_public  # noqa: E402
import references  # noqa: E402

from vseg_jax.models.mmvt import Mmvt  # noqa: E402
from vseg_jax.weights import mmvt  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "goldens"))
import mmvt as golden  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        references.folder() is None or not (references.folder() / "MMMMTBVS").is_dir(),
        reason="VSEG_REFERENCES is not set, or has no folder MMMMTBVS",
    ),
]
HEAD = mmvt.HEAD
# Public blocks -> ours; single layers are paired by the table of weights.
BLOCKS = {
    f"{HEAD}.language_project": "words", f"{HEAD}.aspp": "vision_aspp",
    f"{HEAD}.flow_aspp": "flow_aspp", f"{HEAD}.fuse_feature_post_rgb": "vision_place",
    f"{HEAD}.fuse_feature_post_flow": "flow_place",
    **{f"{HEAD}.{name}.out_conv": f"levels_{k}/block"
       for k, name in enumerate(("up_16_16", "up_16_8", "up_8_4"))},
    **{f"{HEAD}.language_guided_segmentation.transformer.layers.{i}.{a}": f"mix/layer_{i}/{b}"
       for i in range(4) for a, b in ((1, "attention"), (3, "temporal"))},
}


def error(ours, theirs) -> float:
    """Returns the largest difference relative to the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def filled(config, *, small):
    """Returns the public network and losses with seeded weights, and our variables."""
    network, computer = mmvt_public.load(references.folder(), small=small)
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    golden.fill(network, shapes)
    return network.eval(), computer, mmvt_public.variables(config, shapes)


def test_every_layer_and_block_after_the_encoders():
    config = mmvt_public.SMALL
    network, computer, variables = filled(config, small=True)
    theirs = {}

    def keep(name):
        def hook(module, inputs, out):
            if isinstance(out, torch.Tensor):
                # Channels come first except in linear layers, norms of tokens, and attention.
                last = isinstance(module, torch.nn.Linear | torch.nn.LayerNorm)
                last |= name in BLOCKS and out.ndim == 3
                theirs[name] = (out if last else out.movedim(1, -1)).detach().numpy()
        return hook

    for name, module in network.named_modules():
        if name.startswith((HEAD, "contrastive")):
            module.register_forward_hook(keep(name))
    inputs = mmvt_public.features(config)
    with torch.no_grad():
        golden.run(network, computer, *inputs)
    model = Mmvt(config)

    @jax.jit
    def run(variables, *inputs):
        return mmvt_public.predict_from_maps(
            model, variables, *inputs, train=False, capture_intermediates=True,
            mutable="intermediates",
        )[1]["intermediates"]

    ours = {}
    for path, leaf in jax.tree.leaves_with_path(run(variables, *inputs[:-1])):
        ours.setdefault("/".join(str(step.key) for step in path[:-2]), leaf)
    pairs = dict(BLOCKS)
    for name in theirs:
        for rule in mmvt.RULES:
            if match := re.fullmatch(rule.pattern, f"{name}.weight"):
                if rule.target:
                    path = match.expand(rule.target).removeprefix("params/")
                    pairs[name] = path.rpartition("/")[0]
                break
    errors = {}
    for name, path in pairs.items():
        mine, peer = (x.reshape(-1, x.shape[-1]) for x in (ours[path], theirs[name]))
        if path.startswith("words"):  # we encode a sentence once, not once a frame
            every = theirs[name].reshape(2, mmvt_public.FRAMES, -1, peer.shape[-1])
            peer = every[:, 0].reshape(mine.shape)
        errors[name] = error(mine, peer)
    worst = max(errors, key=errors.get)
    print(f"\nthe worst of {len(errors)} layers and blocks: {errors[worst]:.1e} ({worst})")
    assert len(errors) > 120 and errors[worst] < 1e-4, errors


def test_whole_network():
    """Compares masks from frames, flow and tokens; ResNet-50 and ResNet-34 of 1/16 width."""
    config = mmvt_public.SMALL
    network, _, variables = filled(config, small=True)
    batch = mmvt_public.batch()
    with torch.no_grad():
        theirs = network.inference(
            *(mmvt_public.images(batch[k]) for k in ("frames", "flow")),
            *(mmvt_public.every_frame(batch[k]) for k in ("tokens", "tokens_valid")),
        )[:, 0].numpy()
    ours = jax.jit(Mmvt(config).predict)(variables, batch).logits[:, 0]
    print(f"\nwhole network, float32: {error(ours, theirs):.1e} of {np.abs(theirs).max():.1f}")
    assert error(ours, theirs) < 1e-4


def test_all_gradients_in_float64():
    """Compares all gradients, in its own process; mmvt_float64.py explains why."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "mmvt_float64.py"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    errors, none, terms = found["gradients"], found["none"], max(found["terms"].values())
    worst = max(errors, key=errors.get)
    print(f"\nfloat64: loss and terms {terms:.1e}, running statistics {found['statistics']:.1e}, "
          f"the worst of {len(errors)} gradients {errors[worst]:.1e} ({worst})")
    assert terms < 1e-9 and found["statistics"] < 1e-9
    assert errors[worst] < 1e-6, {k: v for k, v in errors.items() if v >= 1e-6}
    assert len(errors) > 400 and max(none.values()) < 1e-9, none
