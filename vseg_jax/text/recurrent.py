"""Word embedding, and GRU and LSTM over padded sentences.

The gates follow PyTorch's `nn.GRU` and `nn.LSTM` (in the GRU the reset gate acts after the
recurrent product), including their order along the last axis of the weights and the two biases.
PyTorch weights therefore only need transposing: `weight_ih_l0` -> `input_kernel`, `weight_hh_l0` ->
`hidden_kernel`, `bias_ih_l0` -> `input_bias`, `bias_hh_l0` -> `hidden_bias`.

Words that are not valid keep the state and output zeros, like PyTorch's packed sequences: the last
state of a right-padded sentence is that of its last valid word, and the backward direction starts
at that word. The states of a sentence without a valid word are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

State = tuple[Array, ...]


class WordEmbedding(nn.Module):
    """A learned vector for every word.

    Attributes:
      vocabulary_size: number of words, including padding and unknown.
      features: size of a word vector.
      dtype: of the vectors; the table is float32.
      one_hot: whether word i starts as the unit vector along axis i (modulo `features`: the words
        of a larger vocabulary start alike in pairs); else it is drawn from the standard normal
        distribution.
    """

    vocabulary_size: int
    features: int
    dtype: Any = jnp.float32
    one_hot: bool = False

    @nn.compact
    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L C"]:
        """Returns the vectors of the tokens."""
        return nn.Embed(
            self.vocabulary_size,
            self.features,
            dtype=self.dtype,
            embedding_init=_one_hot if self.one_hot else nn.initializers.normal(1.0),
            name="words",
        )(tokens)


def _one_hot(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    del key  # nothing is drawn
    return jax.nn.one_hot(jnp.arange(shape[0]) % shape[1], shape[1], dtype=dtype)


class Gru(nn.Module):
    """A GRU with one layer.

    Attributes:
      features: size of the state.
      dtype: of the computation; parameters stay float32.
      memory: initial share of the old state in the update gate, the same for all words (with 0.8
        the last state is close to a mean over the last five words); None initializes as PyTorch.
    """

    features: int
    dtype: Any = jnp.float32
    memory: float | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L C"], valid: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B L F"], Float[Array, "B F"]]:
        """Returns all states and the last one."""

        def cell(h: State, gates: Array, recurrent: Array) -> State:
            reset, update, new = jnp.split(gates, 3, axis=-1)
            recurrent_reset, recurrent_update, recurrent_new = jnp.split(recurrent, 3, axis=-1)
            reset = nn.sigmoid(reset + recurrent_reset)
            update = nn.sigmoid(update + recurrent_update)
            new = jnp.tanh(new + reset * recurrent_new)
            return (new + update * (h[0] - new),)

        return _Recurrence(
            self.features, 3, 1, cell, dtype=self.dtype, memory=self.memory, name="forward"
        )(x, valid)


class Lstm(nn.Module):
    """An LSTM with one layer, in one or both directions.

    Attributes:
      features: size of the state of one direction.
      bidirectional: whether to also run backward.
      dtype: of the computation; parameters stay float32.
    """

    features: int
    bidirectional: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L C"], valid: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B L F"], Float[Array, "B F"]]:
        """Returns all states and the last one.

        With `bidirectional` F is 2 x `features`: the forward direction, then the backward one,
        whose last state is that of word 0.
        """

        def cell(state: State, gates: Array, recurrent: Array) -> State:
            admit, forget, new, out = jnp.split(gates + recurrent, 4, axis=-1)
            memory = nn.sigmoid(forget) * state[1] + nn.sigmoid(admit) * jnp.tanh(new)
            return nn.sigmoid(out) * jnp.tanh(memory), memory

        def direction(name: str, reverse: bool) -> tuple[Array, Array]:
            recurrence = _Recurrence(self.features, 4, 2, cell, reverse, self.dtype, name=name)
            return recurrence(x, valid)

        states, last = direction("forward", False)
        if not self.bidirectional:
            return states, last
        backward_states, backward_last = direction("backward", True)
        return (
            jnp.concatenate([states, backward_states], axis=-1),
            jnp.concatenate([last, backward_last], axis=-1),
        )


class _Recurrence(nn.Module):
    """Scans `cell(state, input gates, recurrent gates) -> state` over the words.

    `state` is a tuple of `state_size` arrays [B, features], the first of which is the output. The
    input's part of the gates is one matrix product over all words, outside the scan.
    """

    features: int
    gates: int
    state_size: int
    cell: Callable[[State, Array, Array], State]
    reverse: bool = False
    dtype: Any = jnp.float32
    memory: float | None = None  # see `Gru`

    @nn.compact
    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array]:
        width = self.gates * self.features

        def weights(name: str, *shape: int) -> Array:
            # Initialized as both of PyTorch's layers, in +-1/sqrt(features).
            bound = self.features**-0.5

            def init(key: Array, shape: tuple[int, ...]) -> Array:
                drawn = jax.random.uniform(key, shape, jnp.float32, -bound, bound)
                if self.memory is None:
                    return drawn
                reset, update, new = jnp.split(drawn, 3, axis=-1)
                start = math.log(self.memory / (1 - self.memory)) if name == "input_bias" else 0.0
                return jnp.concatenate([reset, jnp.full_like(update, start), new], axis=-1)

            return self.param(name, init, shape).astype(self.dtype)

        input_kernel = weights("input_kernel", x.shape[-1], width)
        input_bias = weights("input_bias", width)
        hidden_kernel = weights("hidden_kernel", self.features, width)
        hidden_bias = weights("hidden_bias", width)
        gates = x.astype(self.dtype) @ input_kernel + input_bias

        def step(state: State, word: tuple[Array, Array]) -> tuple[State, Array]:
            gates, valid = word
            recurrent = state[0] @ hidden_kernel + hidden_bias
            new = self.cell(state, gates, recurrent)
            state = tuple(
                jnp.where(valid[:, None], n, old) for n, old in zip(new, state, strict=True)
            )
            return state, jnp.where(valid[:, None], state[0], 0)

        start = (jnp.zeros((x.shape[0], self.features), self.dtype),) * self.state_size
        words = (gates.swapaxes(0, 1), valid.swapaxes(0, 1))
        last, states = jax.lax.scan(step, start, words, reverse=self.reverse)
        return states.swapaxes(0, 1), last[0]
