"""Compares all gradients of mmvt's training loss with the public code in float64; prints JSON.

test_mmvt_torch.py runs this in its own process, because here every "float32" means float64:
whatever the config says, BERT and the losses keep some sums in float32, and rounding there switches
ReLUs on or off. Sizes are those of mmvt_public.py; normalization uses the batch; there is no
dropout.
"""

# ruff: noqa: E402
import dataclasses
import json
import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import torch

jnp.float32 = jnp.float64  # before flax and this package read their defaults
torch.Tensor.float = torch.Tensor.double  # of the targets; a loss has the type of its target

import mmvt_public
import references

from vseg_jax.models.mmvt import Mmvt
from vseg_jax.weights import mmvt
from vseg_jax.weights.convert import convert

sys.path.append(str(Path(__file__).parents[1] / "goldens"))
import mmvt as golden

NONE = 1e-12  # relative to the largest gradient; smaller ones count as zero


def main() -> None:
    """Prints the errors of loss, terms, gradients and running statistics."""
    network, computer = mmvt_public.load(references.folder(), small=True, exact=True)
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    golden.fill(network, shapes)
    bert = dataclasses.replace(
        mmvt_public.BERT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    config = dataclasses.replace(mmvt_public.SMALL, bert=bert, dtype="float64")
    variables = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float64), mmvt_public.variables(config, shapes)
    )
    batch = mmvt_public.batch()
    terms, gradients, statistics = theirs(network, computer, batch, variables)
    model, arrays = Mmvt(config), jax.tree.map(jnp.asarray, batch)

    def loss(params):
        value, updates, means = model.loss(
            {**variables, "params": params}, arrays, jax.random.key(0), jnp.asarray(0)
        )
        return value, (updates["batch_stats"], {k: total / n for k, (total, n) in means.items()})

    run = jax.jit(
        jax.grad(loss, has_aux=True), compiler_options={"xla_backend_optimization_level": 0}
    )
    ours, (updates, means) = run(variables["params"])
    # PyTorch stops the gradient of the embedding of padding, which is word 0.
    word = ours["text"]["bert"]["embeddings"]["word"]
    word["embedding"] = word["embedding"].at[0].set(0)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(gradients))
    errors, none = {}, {}
    for (path, mine), peer in zip(
        jax.tree.leaves_with_path(ours), jax.tree.leaves(gradients), strict=True
    ):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if np.abs(peer).max() < NONE * largest:  # not reached, or a bias before a norm
            none[name] = float(np.abs(mine).max() / largest)
        else:
            errors[name] = error(mine, peer)
    # The variance of words differs: they count once per sentence here, once per frame there.
    del updates["words"]["norm"]["var"], statistics["words"]["norm"]["var"]
    print(json.dumps({
        "terms": {name: error(means[name], terms[name]) for name in terms},
        "gradients": errors, "none": none,
        "statistics": max(jax.tree.leaves(jax.tree.map(error, updates, statistics))),
    }))


def theirs(network, computer, batch, like):
    """Returns the public code's terms, and its gradients and running statistics in our layout."""
    network.double().train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    frames, flow = (mmvt_public.images(batch[k], np.float64) for k in ("frames", "flow"))
    words = [mmvt_public.every_frame(batch[k]) for k in ("tokens", "tokens_valid")]
    truth = torch.from_numpy(batch["masks"][:, -1:].astype(np.int64))
    *maps, logits, mask = network(frames, flow, *words, truth)
    names = ("vision_map", "flow_map", "vision_flow_map")
    out = computer.compute(
        {"logits": logits, "mask": mask, "cls_gt": truth, "gt": truth,
         **dict(zip(names, maps, strict=True))}, 0,
    )
    out["total_loss"].backward()
    gradients = {
        k: np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        for k, p in network.named_parameters(remove_duplicate=False)
    }
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    terms = {
        "loss": "total_loss", "vision_language": "vision_contrast_loss",
        "flow_language": "flow_contrast_loss", "vision_flow": "vision_flow_contrast_loss",
    }
    return (
        {mine: out[name].item() for mine, name in terms.items()},
        convert(gradients, mmvt.RULES, {"params": like["params"]})["params"],
        convert(state, mmvt.RULES, like)["batch_stats"],
    )


def error(ours, theirs) -> float:
    """Returns the largest difference relative to the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape and ours.dtype == np.float64
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


if __name__ == "__main__":
    main()
