"""Weights of public BERTs in the Hugging Face layout.

Reads `model.safetensors`, or the older `pytorch_model.bin`, from any folder whose config.json
`BertConfig.from_folder` accepts, such as those of BERT and MiniLM: keys with and without the prefix
`bert.`, normalization as `weight`/`bias` or with the older `gamma`/`beta`. The heads of the
pretraining tasks (`cls.*`) and the buffers `position_ids` and `token_type_ids` are known and
dropped; any other key is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from vseg_jax.packages import locate
from vseg_jax.text.bert import Bert, BertConfig
from vseg_jax.weights.convert import Rule, convert, layer, norm, read

FILES = ("model.safetensors", "pytorch_model.bin")  # the first that exists is read


def load(folder: str | Path, config: BertConfig) -> dict[str, Any]:
    """Loads the `params` of `Bert(config)` from a Hugging Face folder.

    Args:
      folder: the folder, or `package:NAME` for one in an installed package (`vseg_jax.packages`).
      config: of the network.

    Raises:
      ValueError: the file of weights is missing; config.json differs from `config` (dropout
        excepted); a key has no rule, no key fills a parameter, or a shape does not fit.
    """
    folder = locate(folder)
    _check(folder, config)
    path = next((folder / name for name in FILES if (folder / name).exists()), None)
    if path is None:
        raise ValueError(
            f"no {' or '.join(FILES)} in {folder}; give the folder of a BERT in Hugging Face layout"
        )
    tokens = jax.ShapeDtypeStruct((1, 1), "int32")
    valid = jax.ShapeDtypeStruct((1, 1), "bool")
    like = jax.eval_shape(
        lambda t, v: Bert(config).init(jax.random.key(0), t, v, train=False), tokens, valid
    )
    without = () if config.pooler else ("params/pooler",)
    return convert(read(path), RULES, like, without)["params"]


def _check(folder: Path, config: BertConfig) -> None:
    """Checks config.json: shapes alone would let a wrong number of heads or epsilon pass."""
    given = BertConfig.from_folder(folder, pooler=config.pooler)
    differing = [
        f"{name} is {ours}, the folder has {theirs}"
        for name, ours in vars(config).items()
        if name not in _FREE and (theirs := getattr(given, name)) != ours
    ]
    if differing:
        raise ValueError(
            f"the BERT config does not fit {folder}/config.json: {'; '.join(differing)}; use "
            "BertConfig.from_folder"
        )


def _table(theirs: str, ours: str) -> list[Rule]:
    pattern = rf"{_BERT}embeddings\.{theirs}_embeddings\.weight"
    return [Rule(pattern, f"params/embeddings/{ours}/embedding")]


_FREE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
_BERT = r"(?:bert\.)?"
_LAYER = _BERT + r"encoder\.layer\.(\d+)"
RULES = [
    Rule(r"cls\..*", None),
    Rule(_BERT + r"embeddings\.(position|token_type)_ids", None),
    *_table("word", "word"),
    *_table("position", "position"),
    *_table("token_type", "segment"),
    *norm(_BERT + r"embeddings\.LayerNorm", "embeddings/norm"),
    *layer(_LAYER + r"\.attention\.self\.(query|key|value)", r"layer_\1/attention/\2"),
    *layer(_LAYER + r"\.attention\.output\.dense", r"layer_\1/attention/output"),
    *norm(_LAYER + r"\.attention\.output\.LayerNorm", r"layer_\1/attention_norm"),
    *layer(_LAYER + r"\.intermediate\.dense", r"layer_\1/intermediate"),
    *layer(_LAYER + r"\.output\.dense", r"layer_\1/output"),
    *norm(_LAYER + r"\.output\.LayerNorm", r"layer_\1/output_norm"),
    *layer(_BERT + r"pooler\.dense", "pooler"),
]
