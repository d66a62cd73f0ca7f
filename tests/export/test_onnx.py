"""A model's streaming step as an ONNX graph predicts what the model does."""

import json
import re
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import standin
import tiny_models
from commandline import refused
from jax.extend.core import jaxpr_as_fun

from vseg_jax.export import export, onnx_step
from vseg_jax.export.simplify import simplified
from vseg_jax.inference.restore import Restored, save
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.settings import ClipConfig

pytest.importorskip("jax2onnx")
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
for name in ("cvls", "mmvt", "qvim", "rcf", "swiftnet"):
    sys.path.append(str(ROOT / "tests" / "models" / name))

import tiny_cvls  # noqa: E402
import tiny_mmvt  # noqa: E402
import tiny_qvim  # noqa: E402
import tiny_rcf  # noqa: E402
import tiny_swiftnet  # noqa: E402


def written(restored, folder, **options):
    folder.mkdir()
    onnx_step.write(restored, folder, **options)
    return folder


def stream(folder, images, prompts):
    """Yields the predictions of a graph; a stream begins with a state of zeros."""
    about = json.loads((folder / "model.json").read_text())
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    state = {e["name"]: np.zeros(e["shape"], e["dtype"]) for e in about["state"]}
    names = [e["name"] for e in about["prediction"]] + [e["next"] for e in about["state"]]
    for image, prompt in zip(images, prompts, strict=True):
        found = dict(zip(names, session.run(names, {"image": image, **prompt, **state}),
                         strict=True))
        state = {e["name"]: found[e["next"]] for e in about["state"]}
        for e in (*about["prediction"], *({**e, "name": e["next"]} for e in about["state"])):
            assert list(found[e["name"]].shape) == e["shape"], e
            assert found[e["name"]].dtype == e["dtype"], e
        yield {e["name"]: found[e["name"]] for e in about["prediction"]}


def same(found, wanted, tolerance=1e-4):
    for name, array in found.items():
        np.testing.assert_allclose(array, getattr(wanted, name), atol=tolerance, err_msg=name)


def follower(**changes):
    model = tiny_swiftnet.build(**changes)
    variables = tiny_models.drawn_variables(model, tiny_swiftnet.make_batch())
    config = {"system": "swiftnet", "model": {**tiny_swiftnet.SMALL, **changes}}
    about = {"config": config, "batch": {"frames": [[2, 3, 40, 44, 3], "uint8"]}}
    return Restored(model, variables, None, None, about)


def test_swiftnet(tmp_path, monkeypatch):
    """Objects enter with the first and with a later mask; the page's snippet follows them."""
    restored = follower()
    folder = written(restored, tmp_path / "follower")
    images, masks = tiny_swiftnet.make_clip(7)
    given = [np.zeros_like(masks[0]) for _ in masks]
    given[0][masks[0] == 1], given[3][masks[3] == 2] = 1, 2
    found = list(stream(folder, images, [{"mask": mask} for mask in given]))
    assert [int(one["frame"]) for one in found] == list(range(7))
    np.testing.assert_array_equal(found[0]["probability"][0], given[0])
    model, variables = restored.model, restored.variables
    state = tiny_swiftnet.quick_jit(model.start)(variables, images[0], {"mask": given[0]})
    step = tiny_swiftnet.quick_jit(model.step)
    for image, mask, one in zip(images[1:], given[1:], found[1:], strict=True):
        state, wanted = step(variables, state, image, {"mask": mask} if mask.any() else None)
        same(one, wanted)
    assert (found[-1]["scores"] > 0).all(), "both objects are followed"

    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 10, (88, 80))
    for image in images[:3]:
        writer.write(cv2.resize(image, (88, 80))[..., ::-1])
    writer.release()
    cv2.imwrite("first.png", cv2.resize(masks[0], (88, 80), interpolation=cv2.INTER_NEAREST))
    page = (ROOT / "docs" / "guides" / "export.md").read_text()
    snippet, = re.findall(r"```python\n(import json\n.*?)```", page, re.DOTALL)
    exec(compile(snippet, "export.md", "exec"), {})
    indices = [cv2.imread(f"mask_{t:05d}.png", cv2.IMREAD_UNCHANGED) for t in range(3)]
    np.testing.assert_array_equal(indices[0], masks[0])
    capture = cv2.VideoCapture("clip.mp4")
    decoded = [cv2.resize(capture.read()[1], (44, 40), interpolation=cv2.INTER_AREA)[..., ::-1]
               for _ in range(3)]
    wanted = Segmenter(model, variables).segment(decoded, mask=masks[0])
    for index, one in zip(indices, wanted, strict=True):
        assert (index != one.index).mean() < 0.01


def of_expressions(tiny, channels, **changes):
    model, batch = tiny.build(**changes), tiny.make_batch()
    variables = jax.tree.map(np.asarray, tiny_models.drawn_variables(model, batch))
    tokenizer = standin.tokenizer(batch["tokens"].shape[1])
    restored = Restored(model, variables, tokenizer, ClipConfig(height=32, width=32), {})
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, channels), np.uint8)
    return restored, images, tiny_models.prompt(batch)


@pytest.mark.parametrize(("tiny", "channels"), [
    (tiny_qvim, 3), (tiny_cvls, 3), (tiny_mmvt, 6)], ids=["qvim", "cvls", "mmvt"])
def test_models_of_expressions(tiny, channels, tmp_path):
    """The prompt is read in the first frame; predictions may come later."""
    restored, images, prompt = of_expressions(tiny, channels)
    nothing = {name: np.zeros_like(x) for name, x in prompt.items()}
    found = list(stream(written(restored, tmp_path / "out"), images, [prompt, *[nothing] * 4]))
    model, variables = restored.model, restored.variables
    state = tiny_models.quick_jit(model.start)(variables, images[0], prompt)
    step = tiny_models.quick_jit(model.step)
    for image, one in zip(images[1:], found[1:], strict=True):
        state, wanted = step(variables, state, image)
        same(one, wanted)
    assert int(found[0]["frame"]) == -model.delay


@pytest.mark.parametrize("changes", [
    {}, pytest.param(tiny_rcf.WITH_AUDIO, marks=pytest.mark.slow)], ids=["frames", "audio"])
def test_rcf(changes, tmp_path):
    """Every slot fires, so that identities are assigned and kept."""
    model = tiny_rcf.build(fire=0.2, **changes)
    batch = tiny_rcf.make_batch(length=1 + model.config.references, audio=model.uses_audio)
    variables = jax.tree.map(np.asarray, tiny_rcf.random_variables(model, batch))
    names = ("a", "b", "c")
    restored = Restored(model, variables, None, ClipConfig(height=64, width=64), {}, names)
    images, _ = tiny_rcf.make_clip(length=4)
    patch = np.random.default_rng(1).standard_normal((96, 64)).astype(np.float32)
    prompts = [{"audio": patch, "audio_valid": np.array(t != 2)} for t in range(4)]
    prompts = prompts if model.uses_audio else [{}] * 4
    folder = written(restored, tmp_path / "out")
    found = list(stream(folder, images, prompts))
    state, wanted = tiny_rcf.quick_jit(model.first_step)(variables, images[0], prompts[0])
    same(found[0], wanted)
    step = tiny_rcf.quick_jit(model.step)
    for image, prompt, one in zip(images[1:], prompts[1:], found[1:], strict=True):
        state, wanted = step(variables, state, image, prompt)
        same(one, wanted)
    assert json.loads((folder / "model.json").read_text())["categories"] == list(names)


def test_what_has_no_onnx_form_is_refused(tmp_path):
    saved = tmp_path / "saved"
    saved.mkdir()
    save(follower(), saved)
    for changes, reason in (({"adaptation_steps": 2}, "adaptation takes gradients.*steps=0"),
                            ({"dtype": "bfloat16"}, "bfloat16.*dtype=float32")):
        with pytest.raises(ValueError, match=reason):
            export.export_onnx(saved, tmp_path / "out", changes=changes)
    for options, reason in ((["--format=tflite"], "it must be jax or onnx"),
                            (["--format=onnx", "--half"], "--half is for one file"),
                            (["--format=onnx", "--config.model.adaptation_steps=3"], "gradients")):
        assert reason in refused("--workdir", saved, "--mode=export", "--output", tmp_path / "out",
                                 *options)
    assert [p.name for p in tmp_path.iterdir()] == ["saved"], "whole or not at all"


def test_the_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'vseg_jax\[onnx\]'"):
        onnx_step.write(follower(), tmp_path)


def test_simplified_programs_compute_the_same():
    def function(x, numbers, some):   # x is given when the program is made
        back, sums = jax.lax.scan(lambda c, a: (c + a, c * a), x[0], x, reverse=True)
        grown = jax.lax.while_loop(lambda c: c.sum() < 90, lambda c: c * 2, back + 1)
        case = jax.lax.switch(numbers[0], [jnp.sin, jnp.cos, jnp.tan], x)
        chosen = jnp.where(x[:, 0] > 0, some, ~some)
        parts = jnp.stack([jax.nn.relu(x), jax.lax.rsqrt(jnp.abs(x) + 1)], axis=1)
        ranks = jnp.arange(3, dtype=jnp.uint8) + numbers[1].astype(jnp.uint8)
        return [sums, grown, case, chosen, jnp.tile(parts, (2, 1, 1)), ranks, numbers, numbers,
                jax.lax.stop_gradient(x)]

    random = np.random.default_rng(0)
    inputs = (random.standard_normal((4, 3)).astype(np.float32), np.array([2, 5], np.int32),
              np.array([True, False, True, False]))
    program = simplified(function, [jnp.asarray(inputs[0])], *inputs[1:])
    operations = {equation.primitive.name for equation in program.eqns}
    gone = {"jit", "custom_jvp_call", "stop_gradient", "rsqrt", "stack", "tile"}
    assert "scan" in operations and not operations & gone
    results = jaxpr_as_fun(program)(*inputs[1:])
    for ours, theirs in zip(results, function(*inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert ours.dtype == theirs.dtype
    names = [id(v) for v in (*program.jaxpr.invars, *program.jaxpr.outvars)]
    assert len(set(names)) == len(names), "each input and result has a name of its own"
    assert sum(x.shape == (4, 3) for x in program.consts) == 1, "the constant is there once"
