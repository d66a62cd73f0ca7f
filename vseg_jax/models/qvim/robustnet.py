"""RobustNet's whitening losses in qvim, and the statistics that ISW needs (whitening.py).

The public code stops training after its sixth epoch, runs 500 pictures and their copies in other
colors through the network ten times, and clusters the variances of their covariances. Here this
happens during training: from `isw_start` on every step measures its batch, in evaluation mode and
without gradient, until `isw_trials` masks of `isw_images` clips each are found. The network keeps
training meanwhile; the loss starts once the last mask is found.

The state is the collection `whitening` of the variables; P is a place of `Output.normalized`:
  total {P: [C, C]}: sums of variances since the last mask;
  count []: the number of clips in these sums;
  masks {P: [C, C] bool}: the intersection of the masks so far;
  trials [] int32: the number of these masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.models.base import Batch
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.network import Output
from vseg_jax.models.qvim.photometric import photometric
from vseg_jax.models.qvim.whitening import (
    covariance,
    relaxed_margin,
    sensitive,
    sensitivity,
    upper,
    whitening_loss,
)

State = dict[str, Any]


def init(normalized: Mapping[str, Float[Array, "B *N C"]]) -> State:
    """Returns the first state, for the places and channels of `Output.normalized`."""
    sizes = {place: (x.shape[-1],) * 2 for place, x in normalized.items()}
    return {
        "total": {k: jnp.zeros(size) for k, size in sizes.items()},
        "count": jnp.zeros(()),
        "masks": {k: jnp.ones(size, bool) for k, size in sizes.items()},
        "trials": jnp.zeros((), jnp.int32),
    }


def loss(
    config: QvimConfig, state: State | None, batch: Batch, output: Output
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Computes the whitening loss of each sample, a mean over places and modalities.

    Args:
      config: with the method "irw" or "isw".
      state: of ISW (see `init`); None for "irw".
      batch: the batch.
      output: of the network; its `words` are already normalized, too.

    Returns:
      (loss, counted); `counted` is 1 for samples that count, else 0.
    """
    c = config.compared
    terms = [
        _loss(config, state, place, covariance(x)) for place, x in output.normalized.items()
    ]
    for k in c.scales if c.text else ():
        words = covariance(output.words[k - 1], batch["tokens_valid"])
        terms.append(_loss(config, state, str(k), words))
    on = batch["valid"]
    if state is not None:
        on &= state["trials"] >= c.isw_trials
    return jnp.where(on, sum(terms) / len(terms), 0), on.astype(jnp.float32)


def _loss(
    config: QvimConfig, state: State | None, place: str, covariances: Float[Array, "B C C"]
) -> Float[Array, " B"]:
    """Computes the loss of one place and modality."""
    channels = covariances.shape[-1]
    if state is not None:
        return whitening_loss(covariances, state["masks"][place])
    margin = relaxed_margin(channels, config.compared.irw_relax)
    return whitening_loss(covariances, jnp.asarray(upper(channels)), margin)


def measure(
    config: QvimConfig,
    state: State,
    batch: Batch,
    encode: Callable[[jax.Array], Mapping[str, jax.Array]],
    key: jax.Array,
    step: Int[Array, ""],
) -> State:
    """Returns the state after a step; it changes from `isw_start` until all masks are found.

    Args:
      config: with the method "isw".
      state: before the step.
      batch: its frames are measured.
      encode: frames -> `Output.normalized` of inference.
      key: for the changes of color.
      step: of the training.
    """
    c = config.compared

    def add_batch(state: State) -> State:
        frames = batch["frames"]
        changed, original = encode(photometric(frames, key)), encode(frames)
        weight = batch["valid"].astype(jnp.float32)
        total = {
            place: total + jnp.einsum(
                "b,bcd->cd", weight, sensitivity(changed[place], original[place])
            )
            for place, total in state["total"].items()
        }
        state = {**state, "total": total, "count": state["count"] + weight.sum()}
        enough = state["count"] >= c.isw_images
        return jax.lax.cond(enough, add_mask, lambda s: s, state)

    def add_mask(state: State) -> State:
        return {
            "total": jax.tree.map(jnp.zeros_like, state["total"]),
            "count": jnp.zeros(()),
            "masks": {place: mask & found(state, place) for place, mask in state["masks"].items()},
            "trials": state["trials"] + 1,
        }

    def found(state: State, place: str) -> Bool[Array, "C C"]:
        return sensitive(state["total"][place] / state["count"], c.isw_clusters)

    started = step >= c.isw_start * config.total_steps
    state = jax.lax.stop_gradient(state)
    return jax.lax.cond(
        started & (state["trials"] < c.isw_trials), add_batch, lambda state: state, state
    )
