"""Public BERT weights (Hugging Face layout) -> our tree.

Reads `model.safetensors` of any folder whose config.json `BertConfig.from_folder` takes: keys with
and without the prefix `bert.`, normalization as `weight`/`bias` or with the older `gamma`/`beta`.
The heads of the pretraining tasks (`cls.*`) and the `position_ids` buffer are known and dropped;
any other key is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from vseg_jax.text.bert import Bert, BertConfig
from vseg_jax.weights.convert import Rule, convert, dense, read


def load(folder: str | Path, config: BertConfig) -> dict[str, Any]:
    """The `params` of `Bert(config)` from a Hugging Face folder.

    Raises:
      ValueError: no `model.safetensors`; a config.json that says otherwise than `config` (dropout
        aside); a key without a rule, a parameter that no key fills, a shape that does not fit (all
        are named).
    """
    _check(Path(folder), config)
    path = Path(folder) / "model.safetensors"
    if not path.exists():
        raise ValueError(
            f"no {path}; give the folder of a BERT in Hugging Face layout, saved as safetensors"
        )
    tokens = jax.ShapeDtypeStruct((1, 1), "int32")
    valid = jax.ShapeDtypeStruct((1, 1), "bool")
    like = jax.eval_shape(
        lambda t, v: Bert(config).init(jax.random.key(0), t, v, train=False), tokens, valid
    )
    without = () if config.pooler else ("params/pooler",)
    return convert(read(path), RULES, like, without)["params"]


def _check(folder: Path, config: BertConfig) -> None:
    """Shapes alone would let a wrong number of heads or epsilon pass."""
    given = BertConfig.from_folder(folder, pooler=config.pooler)
    differing = [
        f"{name} is {ours}, the folder's {theirs}"
        for name, ours in vars(config).items()
        if name not in _FREE and (theirs := getattr(given, name)) != ours
    ]
    if differing:
        raise ValueError(
            f"the BERT config does not fit {folder}/config.json: {'; '.join(differing)}; use "
            "BertConfig.from_folder"
        )


def _linear(theirs: str, ours: str) -> list[Rule]:
    pattern = rf"(?:bert\.)?{theirs}\."
    return [
        Rule(pattern + "weight", f"params/{ours}/kernel", dense),
        Rule(pattern + "bias", f"params/{ours}/bias"),
    ]


def _norm(theirs: str, ours: str) -> list[Rule]:
    pattern = rf"(?:bert\.)?{theirs}\.LayerNorm\."
    return [
        Rule(pattern + "(?:weight|gamma)", f"params/{ours}/scale"),
        Rule(pattern + "(?:bias|beta)", f"params/{ours}/bias"),
    ]


def _table(theirs: str, ours: str) -> list[Rule]:
    pattern = rf"(?:bert\.)?embeddings\.{theirs}_embeddings\.weight"
    return [Rule(pattern, f"params/embeddings/{ours}/embedding")]


_FREE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
_LAYER = r"encoder\.layer\.(\d+)\."
RULES = [
    Rule(r"cls\..*", None),
    Rule(r"(?:bert\.)?embeddings\.position_ids", None),
    *_table("word", "word"),
    *_table("position", "position"),
    *_table("token_type", "segment"),
    *_norm("embeddings", "embeddings/norm"),
    *_linear(_LAYER + r"attention\.self\.(query|key|value)", r"layer_\1/attention/\2"),
    *_linear(_LAYER + r"attention\.output\.dense", r"layer_\1/attention/output"),
    *_norm(_LAYER + r"attention\.output", r"layer_\1/attention_norm"),
    *_linear(_LAYER + r"intermediate\.dense", r"layer_\1/intermediate"),
    *_linear(_LAYER + r"output\.dense", r"layer_\1/output"),
    *_norm(_LAYER + "output", r"layer_\1/output_norm"),
    *_linear(r"pooler\.dense", "pooler"),
]
