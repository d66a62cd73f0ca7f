"""Word embedding, GRU and LSTM over padded sentences.

The gates follow PyTorch's `nn.GRU` and `nn.LSTM` (for the GRU: the reset gate acts after the
recurrent product), including their order along the last axis of the weights and the two biases,
so torch weights move over by transposing: `weight_ih_l0` -> `input_kernel`, `weight_hh_l0` ->
`hidden_kernel`, `bias_ih_l0` -> `input_bias`, `bias_hh_l0` -> `hidden_bias`.

Words that are not valid leave the state as it is and put out zeros, as torch's packed sequences
do: the last state of a right-padded sentence is that of its last valid word, and the backward
direction begins at that word. A sentence without a valid word gives zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class WordEmbedding(nn.Module):
    """A learned vector for every word, standard normal at the start.

    Attributes:
      vocabulary_size: number of words, padding and unknown included.
      features: size of a word vector.
      dtype: of the vectors; the table itself is float32.
    """

    vocabulary_size: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L C"]:
        return nn.Embed(
            self.vocabulary_size,
            self.features,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(1.0),
            name="words",
        )(tokens)


class Gru(nn.Module):
    """One-layer GRU; returns all states [B, L, features] and the last one [B, features].

    `memory` starts the update gate at a share of the old state, whatever the word (0.8: the last
    state is near a mean over the last five words); None starts it as PyTorch does.
    """

    features: int
    dtype: Any = jnp.float32
    memory: float | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L C"], valid: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B L F"], Float[Array, "B F"]]:
        def cell(h, gates, recurrent):
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
    """One-layer LSTM, both directions or one.

    Returns all states [B, L, F] and the last one [B, F]. With `bidirectional` F is 2 x `features`:
    the forward direction's, then the backward direction's, whose last state is that at word 0.
    """

    features: int
    bidirectional: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L C"], valid: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B L F"], Float[Array, "B F"]]:
        def cell(state, gates, recurrent):
            admit, forget, new, out = jnp.split(gates + recurrent, 4, axis=-1)
            memory = nn.sigmoid(forget) * state[1] + nn.sigmoid(admit) * jnp.tanh(new)
            return nn.sigmoid(out) * jnp.tanh(memory), memory

        def direction(name, reverse):
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
    input's share of the gates is one matrix product for all words, outside the scan.
    """

    features: int
    gates: int
    state_size: int
    cell: Callable[..., tuple[jax.Array, ...]]
    reverse: bool = False
    dtype: Any = jnp.float32
    memory: float | None = None  # of a GRU

    @nn.compact
    def __call__(self, x, valid):
        width = self.gates * self.features

        def weights(name, *shape):  # torch's start for both layers: +-1/sqrt(features) everywhere
            bound = self.features**-0.5

            def init(key, shape):
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

        def step(state, word):
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
