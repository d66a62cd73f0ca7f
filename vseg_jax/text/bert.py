"""BERT encoder (Devlin et al., NAACL 2019) for any BERT in a Hugging Face folder.

Layer order, initial values and positions of dropout are those of the original release:
normalization after each residual sum, exact GELU, learned absolute positions. All words are in
segment 0. Intermediate values are available with `capture_intermediates=True`, by the names
`embeddings`, `layer_0`, ... `weights/bert.py` reads pretrained weights.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.config import parse


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT, named as in a Hugging Face config.json; defaults of BERT-base uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512  # longest sentence in tokens
    type_vocab_size: int = 2            # segments; only segment 0 is used
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02     # standard deviation of initial weights
    pooler: bool = True                 # tanh layer on [CLS]; without it `pooled` is [CLS] itself

    def __post_init__(self):
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads is {self.num_attention_heads}; it must divide hidden_size, "
                f"{self.hidden_size}"
            )

    @classmethod
    def from_folder(cls, folder: str | Path, *, pooler: bool = True) -> BertConfig:
        """Reads `folder`/config.json, which Hugging Face stores with the weights.

        Raises:
          ValueError: the file is missing or broken, or the network is not a BERT encoder as built
            here (another model type, activation or position embedding, or a decoder).
        """
        path = Path(folder) / "config.json"
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(
                f"no {path}; give the folder of a BERT in Hugging Face layout "
                "(with config.json, and model.safetensors or pytorch_model.bin)"
            ) from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
        if not isinstance(given, dict):
            raise ValueError(f"{path}: must hold a JSON object, not {type(given).__name__}")
        for key, wanted in _SUPPORTED.items():
            if given.get(key, wanted) != wanted:
                raise ValueError(f"{path}: {key} is {given[key]!r}; only {wanted!r} is supported")
        known = {f.name for f in dataclasses.fields(cls)} - {"pooler"}
        sizes = {k: v for k, v in given.items() if k in known}
        return parse(cls, {**sizes, "pooler": pooler}, str(path))


# Keys of config.json that must have these values, because nothing else is implemented.
_SUPPORTED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


class Bert(nn.Module):
    """Maps token ids to word features and a sentence feature.

    Attributes:
      config: sizes.
      dtype: of the computation; parameters, normalization and softmax stay float32.
    """

    config: BertConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"], *, train: bool
    ) -> tuple[Float[Array, "B L C"], Float[Array, "B C"]]:
        """Encodes sentences.

        Args:
          tokens: ids in [0, vocab_size); the first of each sentence is [CLS].
          valid: which tokens exist; the others are not attended to.
          train: enables dropout, which draws from the rng `dropout`.

        Returns:
          words: output of the last layer, zero where not valid.
          pooled: feature of the sentence, from the first token.

        Raises:
          ValueError: there are more tokens than positions.
        """
        c = self.config
        if tokens.shape[1] > c.max_position_embeddings:
            raise ValueError(
                f"{tokens.shape[1]} tokens, but this BERT has {c.max_position_embeddings} "
                "positions; use shorter sentences"
            )
        x = _Embeddings(c, self.dtype, name="embeddings")(tokens, train=train)
        for i in range(c.num_hidden_layers):
            x = _Layer(c, self.dtype, name=f"layer_{i}")(x, valid, train=train)
        pooled = x[:, 0]
        if c.pooler:
            pooled = jnp.tanh(_dense(c, c.hidden_size, self.dtype, "pooler")(pooled))
        return jnp.where(valid[..., None], x, 0), pooled


class _Embeddings(nn.Module):
    """The sum of word, position and segment vectors, normalized."""

    config: BertConfig
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Array, *, train: bool) -> Array:
        c = self.config

        def table(size: int, name: str) -> nn.Embed:
            init = nn.initializers.normal(c.initializer_range)
            return nn.Embed(size, c.hidden_size, embedding_init=init, name=name)

        x = table(c.vocab_size, "word")(tokens)
        x += table(c.max_position_embeddings, "position").embedding[: tokens.shape[1]]
        x += table(c.type_vocab_size, "segment").embedding[0]
        x = _norm(c, self.dtype, "norm")(x)
        return nn.Dropout(c.hidden_dropout_prob)(x, deterministic=not train)


class _Layer(nn.Module):
    """Self-attention and an MLP, each with a residual connection and normalization."""

    config: BertConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, valid: Array, *, train: bool) -> Array:
        c = self.config

        def add_and_norm(x: Array, change: Array, name: str) -> Array:
            change = nn.Dropout(c.hidden_dropout_prob)(change, deterministic=not train)
            return _norm(c, self.dtype, name)(x + change)

        attended = _SelfAttention(c, self.dtype, name="attention")(x, valid, train=train)
        x = add_and_norm(x, attended, "attention_norm")
        hidden = _dense(c, c.intermediate_size, self.dtype, "intermediate")(x)
        hidden = nn.gelu(hidden, approximate=False)
        change = _dense(c, c.hidden_size, self.dtype, "output")(hidden)
        return add_and_norm(x, change, "output_norm")


class _SelfAttention(nn.Module):
    """Multi-head attention over the valid words."""

    config: BertConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, valid: Array, *, train: bool) -> Array:
        c = self.config
        heads = (*x.shape[:2], c.num_attention_heads, c.hidden_size // c.num_attention_heads)
        query, key, value = (
            _dense(c, c.hidden_size, self.dtype, name)(x).reshape(heads)
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key).astype(jnp.float32) * heads[-1] ** -0.5
        # The lowest finite number instead of -inf keeps sentences without words free of NaN.
        scores = jnp.where(valid[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        weights = nn.Dropout(c.attention_probs_dropout_prob)(weights, deterministic=not train)
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
        return _dense(c, c.hidden_size, self.dtype, "output")(attended)


def _dense(config: BertConfig, features: int, dtype: Any, name: str) -> nn.Dense:
    init = nn.initializers.normal(config.initializer_range)
    return nn.Dense(features, dtype=dtype, kernel_init=init, name=name)


def _norm(config: BertConfig, dtype: Any, name: str) -> nn.LayerNorm:
    # The variance takes two passes because some channels of BERT have a mean far from zero.
    return nn.LayerNorm(config.layer_norm_eps, use_fast_variance=False, dtype=dtype, name=name)
