"""First-frame adaptation: tunes the two key convolutions to one video (Sections 3.2, 3.3, 4.1).

The first frame is both query and memory. The inputs of the key convolutions (the query's r4, and
the fused map of frame and mask) do not depend on them and are computed once; a step computes keys
and affinities only. This is part of inference: it needs only the user's mask, and the model's
variables do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.resize import area
from vseg_jax.models.base import Variables
from vseg_jax.models.swiftnet.config import SwiftnetConfig

KEYS = ("memory_kv", "query_kv")  # only the parameter `key` of each is adapted
EPS = 1e-7        # of alpha's denominator
TOLERANCE = 1e-3  # a loss below this share of its upper bound has vanished

Keys = Mapping[str, Any]
Losses = tuple[jax.Array, jax.Array]  # L_obj and L_bg, [N] each
# Maps parameters of the key convolutions to the keys [P, K] and [N, P, K] of the first frame.
KeysOf = Callable[[Keys], tuple[jax.Array, jax.Array]]


@struct.dataclass
class Adaptation:
    """A report of the S steps.

    Attributes:
      objects: [S + 1, N], L_obj of Eq. 3 before each step and after the last; 0 in empty slots.
      background: [S + 1, N], L_bg at the same steps.
      collapsed: [] bool; the adaptation failed (see `collapsed`), and the trained key convolutions
        are used instead.
    """

    objects: Any
    background: Any
    collapsed: Any


def keys_of(variables: Variables) -> dict[str, Any]:
    """Returns the parameters of the key convolutions."""
    return {name: variables["params"][name]["key"] for name in KEYS}


def with_keys(variables: Variables, keys: Keys | None) -> Variables:
    """Returns `variables` with other key convolutions; unchanged for None."""
    if keys is None:
        return variables
    params = dict(variables["params"])
    for name in KEYS:
        params[name] = {**params[name], "key": keys[name]}
    return {**variables, "params": params}


def small_masks(masks: Float[Array, "N H W"], size: tuple[int, int]) -> Float[Array, "N P"]:
    """Returns the masks at the map's size, in [0, 1].

    The paper says that "mask values are floats" (Section 3.3), but not how masks are downscaled;
    the mean over each cell's area is inferred.
    """
    return area(masks[..., None], size).reshape(masks.shape[0], -1)


def heat_map(
    config: SwiftnetConfig,
    query: Float[Array, "Q K"],
    reference: Float[Array, "N P K"],
    masks: Float[Array, "N P"],
) -> Float[Array, "N Q"]:
    """Returns h_i = sum_j m_j A_ij, the heat maps of Figure 3, with the affinity of Eq. 1.

    Each object's share of what a query pixel reads, in [0, 1]; the query can be of any frame.
    """
    scores = jnp.einsum("pk,njk->npj", query, reference, preferred_element_type=jnp.float32)
    if config.affinity_scale == "backbone":
        scores /= query.shape[-1] ** 0.5
    return jnp.einsum("npj,nj->np", jax.nn.softmax(scores, axis=-1), masks)


def losses(
    config: SwiftnetConfig,
    query: Float[Array, "P K"],
    reference: Float[Array, "N P K"],
    masks: Float[Array, "N P"],
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Computes L_obj and L_bg of Eq. 3 for each object, with the affinity of Eq. 1.

    Affinities sum to 1 over j, so both follow from the heat map.
    """
    heat = heat_map(config, query, reference, masks)
    size = masks.shape[-1] if config.reduction == "mean_i" else 1
    return ((1 - masks) * heat).sum(-1) / size, (masks * (1 - heat)).sum(-1) / size


def adapt(
    config: SwiftnetConfig,
    keys: Keys,
    keys_of_frame: KeysOf,
    masks: Float[Array, "N P"],
    present: Bool[Array, " N"],
) -> tuple[Keys, Adaptation]:
    """Returns the adapted parameters of the key convolutions, and a report.

    Every object has its own affinity, mask and alpha. The losses are summed over objects, because
    objects share the convolutions (Section 4.3). alpha makes both losses equal at the start and is
    then constant.

    Args:
      config: steps, rate and how the losses are computed.
      keys: the trained parameters.
      keys_of_frame: maps parameters to the first frame's keys, as query and as memory.
      masks: see `small_masks`.
      present: slots with an object; the others have no weight.
    """

    def both(keys: Keys) -> Losses:
        each = losses(config, *keys_of_frame(keys), masks)
        return tuple(jnp.where(present, x, 0) for x in each)

    first = both(keys)
    alpha = _alpha(*first)

    def total(keys: Keys) -> tuple[jax.Array, Losses]:
        l_obj, l_bg = both(keys)
        return (alpha * l_obj + l_bg).sum(), (l_obj, l_bg)

    def step(keys: Keys, _: None) -> tuple[Keys, Losses]:
        gradient, curves = jax.grad(total, has_aux=True)(keys)
        return jax.tree.map(lambda p, g: p - config.adaptation_rate * g, keys, gradient), curves

    adapted, curves = lax.scan(step, keys, None, length=config.adaptation_steps)
    last = both(adapted)
    curves = [jnp.concatenate([c, x[None]]) for c, x in zip(curves, last, strict=True)]
    bad = collapsed(config, first, last, masks, present)
    adapted = jax.tree.map(lambda new, old: jnp.where(bad, old, new), adapted, keys)
    return adapted, Adaptation(*curves, bad)


def collapsed(
    config: SwiftnetConfig,
    before: Losses,
    after: Losses,
    masks: Float[Array, "N P"],
    present: Bool[Array, " N"],
) -> Bool[Array, ""]:
    """Returns whether the adaptation failed for any object (inferred; not in the paper).

    The sum of both losses has trivial minima: all affinity on the background gives L_obj = 0 and
    L_bg = sum m, all of it on the object L_bg = 0 and L_obj = sum (1 - m). It failed if one loss
    vanished and the other rose, or if their weighted sum rose or is not finite.
    """
    size = masks.shape[-1] if config.reduction == "mean_i" else 1
    (obj, bg), (obj_0, bg_0) = after, before
    no_obj = obj <= TOLERANCE * (1 - masks).sum(-1) / size
    no_bg = bg <= TOLERANCE * masks.sum(-1) / size
    one_sided = (no_obj & (bg > bg_0)) | (no_bg & (obj > obj_0))
    lower = _alpha(obj_0, bg_0) * obj + bg <= 2 * bg_0 + EPS
    return (present & (one_sided | ~lower)).any()


def _alpha(obj: Array, bg: Array) -> Array:
    return lax.stop_gradient(bg / jnp.maximum(obj, EPS))
