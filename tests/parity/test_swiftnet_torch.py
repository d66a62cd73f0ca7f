"""Compares STM and SwiftNet with their public code (docs/parity.md): all blocks, and a clip."""

import copy
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import propagation  # noqa: E402
import references  # noqa: E402

from vseg_jax.models.swiftnet import Config, Model  # noqa: E402
from vseg_jax.models.swiftnet.encoders import unshuffle  # noqa: E402
from vseg_jax.models.swiftnet.memory import Layout  # noqa: E402
from vseg_jax.weights import swiftnet  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(references.folder() is None, reason="VSEG_REFERENCES is not set"),
]
TOLERANCE = 1e-4
# Public parts with submodules -> ours; single layers are paired by the weight rules.
PARTS = {
    "STM": {
        **{f"Encoder_{m}.res{s + 1}.{b}": f"{ours}/layer{s}_{b}"
           for m, ours in (("M", "memory_encoder/resnet"), ("Q", "encoder"))
           for s, blocks in enumerate((3, 4, 6), start=1) for b in range(blocks)},
        "Encoder_M": "memory_encoder",
    },
    "SwiftNet": {
        **{f"Encoder.res{s + 1}.{b}": f"encoder/layer{s}_{b}" for s in (1, 2, 3) for b in (0, 1)},
        "LAE": "aggregation", "aspp": "aspp",
    },
}
DECODER = {
    "ResMM": "block",
    **{f"RF{n}{theirs}": f"refine{n}{ours}" for n in (3, 2) for theirs, ours in (
        ("", ""), (".ResFS", "/skip_block"), (".ResMM", "/block"),
    )},
}


def error(ours, theirs) -> float:
    """Returns the largest difference relative to the largest value."""
    theirs = np.asarray(theirs)
    assert np.shape(ours) == theirs.shape
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module", params=["STM", "SwiftNet"])
def both(request):
    """Returns (repository, public network, our variables)."""
    peer = references.propagation(request.param)
    shapes = {k: tuple(v.shape) for k, v in peer.state_dict().items()}
    state = propagation.state_dict(request.param, shapes)
    peer.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    return request.param, peer, propagation.variables(request.param, shapes)


@pytest.fixture(scope="module")
def example():
    return propagation.example(64, 80)


def in_double(peer):
    """Returns a copy in float64; the public code otherwise converts masks to float32."""
    peer = copy.deepcopy(peer).double()
    for name, module in peer.named_modules():
        if name.endswith(("_m", "_o")):
            module.register_forward_pre_hook(lambda m, inputs: inputs[0].to(m.weight.dtype))
    return peer


def test_outputs_and_gradients(both, example):
    """Compares outputs in float32; outputs and gradients in float64, where no ReLU switches."""
    name, peer, variables = both
    network = propagation.OURS[name]
    with torch.no_grad():
        _, theirs = references.remember_and_read(peer, *example)
    _, ours, _ = jax.jit(lambda v, *x: propagation.remember_and_read(network, v, *x))(
        variables, *propagation.prepared(example, np.float32)
    )
    single = {k: error(ours[k], theirs[k]) for k in theirs}
    spread = np.quantile(theirs["probability"], (0.1, 0.5, 0.9))
    assert spread[0] < 0.4 and spread[2] > spread[0] + 0.2  # neither all equal nor all 0 or 1

    peer = in_double(peer)
    weights = np.random.default_rng(0).normal(size=theirs["probability"].shape)
    probability, theirs = references.remember_and_read(peer, *example)
    (probability * torch.from_numpy(weights)).sum().backward()
    gradients = {k: p.grad.numpy() for k, p in peer.named_parameters() if p.grad is not None}
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)

        @jax.jit
        def run(params, *x):
            def loss(params):
                probability, maps, _ = propagation.remember_and_read(
                    network.clone(dtype=jnp.float64), {**double, "params": params}, *x,
                    read=propagation.plain_read,
                )
                return (probability * weights).sum(), maps
            return jax.grad(loss, has_aux=True)(params)

        by_params, ours = run(double["params"], *propagation.prepared(example, np.float64))
        errors = {k: error(ours[k], theirs[k]) for k in theirs}
    expected = swiftnet.from_public(
        gradients | {k: v.numpy() for k, v in peer.state_dict().items() if "running" in k}, double
    )["params"]
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(by_params), jax.tree.leaves(expected), strict=True
    ):
        key = jax.tree_util.keystr(path, simple=True, separator="/")
        if "norm" in key:  # frozen here: no gradient of scale and shift
            continue
        if key == "memory_kv/key/bias":  # adds the same to all positions of the memory
            assert np.abs(ours).max() < 1e-12 and np.abs(theirs).max() < 1e-12
        else:
            errors[f"gradient by {key}"] = error(ours, theirs)
    worst = max(errors, key=errors.get)
    print(f"\n{name}: outputs in float32 {max(single.values()):.1e}; in float64 the worst of "
          f"{len(errors)} outputs and gradients {errors[worst]:.1e} ({worst})")
    assert max(single.values()) < TOLERANCE, single
    assert errors[worst] < 1e-6, {k: v for k, v in errors.items() if v >= 1e-6}


def test_every_block(both, example):
    """Compares outputs of all modules, copied before a later ReLU changes them in place."""
    name, peer, variables = both
    theirs = {}

    def keep(module_name):
        def hook(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            theirs[module_name] = references.channels_last(output.clone())
        return hook

    modules = [(n, m) for n, m in peer.named_modules() if n]
    hooks = [module.register_forward_hook(keep(n)) for n, module in modules]
    with torch.no_grad():
        references.remember_and_read(peer, *example)
    for hook in hooks:
        hook.remove()
    ours = jax.jit(lambda v, *x: propagation.remember_and_read(propagation.OURS[name], v, *x)[2])(
        variables, *propagation.prepared(example, np.float32)
    )
    rules = swiftnet.STM if name == "STM" else swiftnet.SWIFTNET
    pairs = PARTS[name] | {f"Decoder.{a}": f"decoder/{b}" for a, b in DECODER.items()}
    for layer, _ in modules:
        if target := target_of(f"{layer}.weight", rules):
            path, _, last = target.removeprefix("params/").rpartition("/")
            if last not in ("mask", "others"):
                pairs[layer] = path
    stem = "memory_encoder/masks" if name == "STM" else "aggregation/masks_stem"
    first = "Encoder_M.conv1" if name == "STM" else "LAE.conv1"
    theirs["both masks"] = theirs[f"{first}_m"] + theirs[f"{first}_o"]
    pairs["both masks"] = stem
    if name == "SwiftNet":
        theirs["both masks at r4"] = theirs["LAE.conv2_m"] + theirs["LAE.conv2_o"]
        pairs["both masks at r4"] = "aggregation/masks_r4"
    errors = {}
    for layer, path in pairs.items():
        mine = ours[path].reshape(-1, *ours[path].shape[-3:])
        # We compute once what is the same for all objects.
        errors[layer] = error(mine, theirs[layer][: len(mine)])
    worst = max(errors, key=errors.get)
    print(f"\n{name}: the worst of {len(errors)} layers and blocks {errors[worst]:.1e} ({worst})")
    assert errors[worst] < TOLERANCE, {k: v for k, v in errors.items() if v >= TOLERANCE}


def target_of(key, rules):
    for rule in rules:
        if match := re.fullmatch(rule.pattern, key):
            return match.expand(rule.target) if rule.target else None


def test_pixel_unshuffle():
    forward = references.propagation("SwiftNet").LAE.forward
    x = torch.arange(2 * 32 * 48, dtype=torch.float32).reshape(2, 1, 32, 48)
    theirs = forward.__globals__["pixelshuffle_invert"](x, (16, 16))
    ours = unshuffle(jnp.asarray(x[:, 0]), 16)
    np.testing.assert_array_equal(ours, references.channels_last(theirs))


def test_clip(both):
    """Compares twelve frames with two objects and an empty slot; the memory keeps 5 and 10."""
    name, peer, variables = both
    frames, masks = propagation.video(12, 100, 150)
    with torch.no_grad():
        theirs, kept = references.follow(peer, frames / 255, masks[0])
    settings = {"STM": {"network": "stm", "depth": 50}, "SwiftNet": {"depth": 18}}[name]
    config = Config(**settings, objects=3, capacity=3)
    model = Model(config)
    state = jax.jit(model.start)(variables, jnp.asarray(frames[0]), {"mask": jnp.asarray(masks[0])})
    step, ours, chosen = jax.jit(model.step), [], {}
    places = 7 * 10
    share = config.kept(places)
    layout = Layout(places, config.corrections, config.capacity, share)
    for t in range(1, 12):
        before = state
        state, prediction = step(variables, before, jnp.asarray(frames[t]))
        ours.append(prediction.probability)
        if before.due.any():
            start = layout.ring + int(before.memory.updates) * share
            ring = state.memory.keys[:2, start : start + share]
            previous = before.memory.keys[:2, layout.previous : layout.ring, None]
            same = previous == ring[:, None]
            chosen[t - 1] = np.asarray(same.all(-1).argmax(1))
    ours = np.stack(ours)
    difference = np.abs(ours[:, :2] - theirs).max()
    print(f"\n{name}: 12 frames, probabilities differ by at most {difference:.1e}; "
          f"{share} of {places} pixels of frames 5 and 10 kept")
    assert difference < 1e-3
    assert ours[:, 2].max() < 1e-5
    assert set(chosen) == {5, 10}
    if name == "SwiftNet":
        for t, positions in kept.items():
            np.testing.assert_array_equal(np.sort(chosen[t]), positions)
    else:
        assert share == places
    # The video is not static: later memories have an influence.
    assert np.abs(theirs[-1] - theirs[0]).max() > 0.1
