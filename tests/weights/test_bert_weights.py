import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytorch_files import views, write_legacy, write_zip
from safetensors.numpy import save_file

from vseg_jax.text.bert import Bert, BertConfig
from vseg_jax.weights import bert
from vseg_jax.weights.convert import convert

GOLDEN = Path(__file__).parents[1] / "goldens" / "bert.npz"  # written by goldens/text.py
SIZES = {
    "vocab_size": 13,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 8,
}


def golden(prefix=""):
    with np.load(GOLDEN) as file:
        return {k.removeprefix(prefix): file[k] for k in file.files if k.startswith(prefix)}


def folder(path, weights):
    """Writes a folder as Hugging Face does."""
    (path / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES}))
    save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, path / "model.safetensors")
    return path


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_outputs_and_gradients_equal_the_original(tmp_path):
    path = folder(tmp_path, golden("weight/"))
    config = BertConfig.from_folder(path)
    params = bert.load(path, config)
    wanted = golden()
    tokens, valid = jnp.asarray(wanted["tokens"]), jnp.asarray(wanted["valid"])

    @jax.jit
    def loss(params):
        (words, pooled), kept = Bert(config).apply(
            {"params": params}, tokens, valid, train=False, capture_intermediates=True
        )
        value = (words * wanted["loss_words"]).sum() + (pooled * wanted["loss_pooled"]).sum()
        return value, (words, pooled, kept["intermediates"])

    gradient, (words, pooled, kept) = jax.grad(loss, has_aux=True)(params)
    for i, name in enumerate(["embeddings", "layer_0", "layer_1"]):
        hidden = kept[name]["__call__"][0] * valid[..., None]
        np.testing.assert_allclose(hidden, wanted[f"hidden_{i}"], atol=2e-5, err_msg=name)
    np.testing.assert_allclose(words, wanted["words"], atol=2e-5)
    np.testing.assert_allclose(pooled, wanted["pooled"], atol=2e-5)
    theirs = convert(golden("gradient/"), bert.RULES, {"params": params})["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4),
                 gradient, theirs)


def test_prefix_heads_and_old_names(tmp_path):
    """Loads names of the first release: `bert.`, gamma, beta, pretraining heads, position ids."""
    weights = golden("weight/")
    (tmp_path / "new").mkdir()
    new = folder(tmp_path / "new", weights)
    config = BertConfig.from_folder(new)
    old = {
        "bert." + k.replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in weights.items()
    }
    old["cls.predictions.bias"] = np.zeros(13, np.float32)
    old["cls.seq_relationship.weight"] = np.zeros((2, 12), np.float32)
    old["bert.embeddings.position_ids"] = np.arange(8)[None]
    equal(bert.load(folder(tmp_path, old), config), bert.load(new, config))


def test_the_older_file_of_pytorch(tmp_path):
    """Loads `pytorch_model.bin` in both formats; `model.safetensors` goes first."""
    weights = golden("weight/")
    (tmp_path / "new").mkdir()
    new = folder(tmp_path / "new", weights)
    config = BertConfig.from_folder(new)
    old = folder(tmp_path, {"nothing": np.zeros(1)})
    weights["embeddings.token_type_ids"] = np.zeros((1, 8), np.int64)
    for write in (write_zip, write_legacy):
        write(old / "pytorch_model.bin", views(weights))
        with pytest.raises(ValueError, match="nothing"):
            bert.load(old, config)
        (old / "model.safetensors").rename(old / "aside")
        equal(bert.load(old, config), bert.load(new, config))
        (old / "aside").rename(old / "model.safetensors")


def test_without_pooler(tmp_path):
    weights = golden("weight/")
    path = folder(tmp_path, weights)
    config = BertConfig.from_folder(path, pooler=False)
    whole = bert.load(path, dataclasses.replace(config, pooler=True))
    bare = {k: v for k, v in weights.items() if "pooler" not in k}
    del whole["pooler"]
    equal(bert.load(path, config), whole)  # the checkpoint's pooler is dropped
    equal(bert.load(folder(tmp_path, bare), config), whole)
    with pytest.raises(ValueError, match="pooler"):
        bert.load(path, dataclasses.replace(config, pooler=True))


def test_unknown_and_missing_keys_are_named(tmp_path):
    weights = golden("weight/")
    weights["encoder.layer.0.attention.self.distance_embedding.weight"] = np.zeros(3, np.float32)
    del weights["encoder.layer.1.output.dense.bias"]
    path = folder(tmp_path, weights)
    with pytest.raises(ValueError) as error:
        bert.load(path, BertConfig.from_folder(path))
    assert "distance_embedding" in str(error.value)
    assert "layer_1/output/bias" in str(error.value)


def test_config_that_differs_from_the_folder(tmp_path):
    path = folder(tmp_path, golden("weight/"))
    config = BertConfig.from_folder(path)
    bert.load(path, dataclasses.replace(config, hidden_dropout_prob=0.0))
    with pytest.raises(ValueError, match="num_attention_heads is 2, the folder has 3"):
        bert.load(path, dataclasses.replace(config, num_attention_heads=2))


def test_weights_that_do_not_fit_the_config(tmp_path):
    weights = golden("weight/")
    weights["embeddings.word_embeddings.weight"] = np.zeros((14, 12), np.float32)
    path = folder(tmp_path, weights)
    with pytest.raises(ValueError, match="word/embedding"):
        bert.load(path, BertConfig.from_folder(path))


def test_folder_without_weights(tmp_path):
    path = folder(tmp_path, golden("weight/"))
    (path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors or pytorch_model\.bin in "):
        bert.load(path, BertConfig.from_folder(path))
