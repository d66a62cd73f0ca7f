"""BERT against transformers' PyTorch BertModel, GRU and LSTM against torch.nn.

A real checkpoint is compared too where the environment variable VSEG_BERT_FOLDER names its
Hugging Face folder (for example MiniLM-L6-H384-uncased).
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.text.bert import Bert, BertConfig
from vseg_jax.text.recurrent import Gru, Lstm
from vseg_jax.weights import bert
from vseg_jax.weights.convert import convert

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity


def close(ours, theirs, name="", relative=1e-5):
    """Equal but for `relative` times the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    error = np.abs(ours - theirs).max() / (np.abs(theirs).max() + 1e-30)
    assert error < relative, f"{name}: relative error {error:.1e}"


def sentences(vocab_size, length=20):
    random = np.random.default_rng(0)
    valid = np.arange(length) < np.asarray([[length], [7], [13]])
    return random.integers(1, vocab_size, valid.shape, dtype=np.int32) * valid, valid


def compare_berts(model, folder):
    """Layer by layer, then the gradients of every parameter, without dropout."""
    model = model.eval()
    config = BertConfig.from_folder(folder)
    params = bert.load(folder, config)
    tokens, valid = sentences(config.vocab_size)
    out = model(
        input_ids=torch.from_numpy(tokens).long(),
        attention_mask=torch.from_numpy(valid).long(),
        output_hidden_states=True,
    )
    random = np.random.default_rng(1)
    weight = random.standard_normal((*valid.shape, config.hidden_size)).astype(np.float32)
    weight *= valid[..., None]
    loss = (out.last_hidden_state * torch.from_numpy(weight)).sum() + out.pooler_output.sum()
    loss.backward()

    @jax.jit
    def ours(params):
        (words, pooled), kept = Bert(config).apply(
            {"params": params}, jnp.asarray(tokens), jnp.asarray(valid),
            train=False, capture_intermediates=True,
        )
        return (words * weight).sum() + pooled.sum(), (pooled, kept["intermediates"])

    gradient, (pooled, kept) = jax.grad(ours, has_aux=True)(params)
    layers = ["embeddings"] + [f"layer_{i}" for i in range(config.num_hidden_layers)]
    for name, hidden in zip(layers, out.hidden_states, strict=True):
        close(kept[name]["__call__"][0][valid], hidden.detach().numpy()[valid], name)
    close(pooled, out.pooler_output.detach(), "pooled")
    gradients = {k: v.grad.numpy() for k, v in model.named_parameters()}
    theirs = convert(gradients, bert.RULES, {"params": params})["params"]
    compared = jax.tree_util.tree_leaves_with_path(jax.tree.map(lambda *g: g, gradient, theirs),
                                                   is_leaf=lambda x: isinstance(x, tuple))
    for path, pair in compared:
        name = jax.tree_util.keystr(path)
        if "'key']['bias'" not in name:  # zero but for rounding
            close(*pair, f"gradient of {name}", relative=1e-4)


def test_bert_base_with_random_weights(tmp_path):
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig())
    model.save_pretrained(tmp_path)
    compare_berts(model, tmp_path)


def test_a_real_checkpoint():
    folder = os.environ.get("VSEG_BERT_FOLDER")
    if not folder:
        pytest.skip("VSEG_BERT_FOLDER names no Hugging Face folder")
    compare_berts(transformers.BertModel.from_pretrained(folder), folder)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent(kind):
    torch.manual_seed(0)
    _, valid = sentences(2)
    x = np.random.default_rng(0).standard_normal((*valid.shape, 48)).astype(np.float32)
    theirs, ours = {
        "gru": (torch.nn.GRU(48, 32, batch_first=True), Gru(32)),
        "lstm": (torch.nn.LSTM(48, 32, batch_first=True, bidirectional=True), Lstm(32)),
    }[kind]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(valid.sum(1)), batch_first=True, enforce_sorted=False
    )
    states, last = theirs(packed)
    last = last[0] if kind == "lstm" else last
    last = last.transpose(0, 1).flatten(1)
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    (states.square().sum() + last.sum()).backward()

    def tree(value):
        suffixes = {"forward": "", "backward": "_reverse"} if kind == "lstm" else {"forward": ""}
        return {
            direction: {
                "input_kernel": value("weight_ih_l0" + suffix).T,
                "hidden_kernel": value("weight_hh_l0" + suffix).T,
                "input_bias": value("bias_ih_l0" + suffix),
                "hidden_bias": value("bias_hh_l0" + suffix),
            }
            for direction, suffix in suffixes.items()
        }

    params = tree(lambda name: getattr(theirs, name).detach().numpy())

    @jax.jit
    def loss(params):
        states, last = ours.apply({"params": params}, jnp.asarray(x), jnp.asarray(valid))
        return (states**2).sum() + last.sum(), (states, last)

    gradient, (our_states, our_last) = jax.grad(loss, has_aux=True)(params)
    close(our_states, states.detach())
    close(our_last, last.detach())
    jax.tree.map(close, gradient, tree(lambda name: getattr(theirs, name).grad.numpy()))
