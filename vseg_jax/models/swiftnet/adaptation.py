"""First-frame adaptation: tunes the two key convolutions to one video (Sections 3.2, 3.3, 4.1).

The first frame is both query and memory; in a variant of ours, changed copies of it are the query
(`copies.py`). The inputs of the key convolutions (the query's r4, and the fused map of frame and
mask) do not depend on them and are computed once; a step computes keys and affinities only. This is
part of inference: it needs only the user's mask, and the model's variables do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.resize import area
from vseg_jax.models.base import Variables
from vseg_jax.models.swiftnet.config import SwiftnetConfig

KEYS = ("memory_kv", "query_kv")  # only the parameter `key` of each is adapted
EPS = 1e-7        # of denominators
TOLERANCE = 1e-3  # a loss below this share of its upper bound has vanished

Keys = Mapping[str, Any]
Losses = tuple[jax.Array, jax.Array]  # L_obj and L_bg, [N] each
# Maps parameters of the key convolutions to the keys of the query [Q, K] and memory [N, P, K].
KeysOf = Callable[[Keys], tuple[jax.Array, jax.Array]]


class Regions(NamedTuple):
    """What the query's pixels show: 1 - m_i and m_i of Eq. 3, if the first frame is the query.

    Attributes:
      background: [N, Q], in [0, 1], the share of a pixel that shows anything but the object.
      objects: [N, Q], the share that shows it; both are 0 beyond the border of a copy.
    """

    background: jax.Array
    objects: jax.Array


@struct.dataclass
class Adaptation:
    """A report of the S steps.

    The losses are shares of their largest values, in [0, 1] for any reduction: how much of what the
    background reads is the object, and the reverse. If both are near 0 before the first step, there
    is nothing to adapt.

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


def small_masks(masks: Float[Array, "N *C H W"], size: tuple[int, int]) -> Float[Array, "N P"]:
    """Returns the masks at the map's size, in [0, 1]; the pixels of C frames one after another.

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
    query: Float[Array, "Q K"],
    reference: Float[Array, "N P K"],
    masks: Float[Array, "N P"],
    regions: Regions | None = None,
) -> Losses:
    """Computes L_obj and L_bg of Eq. 3 for each object, with the affinity of Eq. 1.

    Affinities sum to 1 over j, so both follow from the heat map. The first frame is the query
    unless `regions` are those of another one.
    """
    regions = regions or Regions(1 - masks, masks)
    heat = heat_map(config, query, reference, masks)
    size = _sizes(config, regions)
    return ((regions.background * heat).sum(-1) / size.background,
            (regions.objects * (1 - heat)).sum(-1) / size.objects)


def _sizes(config: SwiftnetConfig, regions: Regions) -> Regions:
    """Returns what the sums over i of both losses are divided by, [N] each."""
    sums = Regions(*(x.sum(-1) for x in regions))
    if config.reduction == "sum":
        return Regions(*map(jnp.ones_like, sums))
    if config.reduction == "mean_i":
        sums = Regions(sums.background + sums.objects, sums.background + sums.objects)
    return Regions(*(jnp.maximum(x, EPS) for x in sums))


def bounds(config: SwiftnetConfig, regions: Regions) -> Losses:
    """Returns the largest values of L_obj and of L_bg: a region reads what it never should."""
    background, objects = (
        x.sum(-1) / size for x, size in zip(regions, _sizes(config, regions), strict=True))
    return background, objects


def adapt(
    config: SwiftnetConfig,
    keys: Keys,
    keys_of_frame: KeysOf,
    masks: Float[Array, "N P"],
    present: Bool[Array, " N"],
    regions: Regions | None = None,
) -> tuple[Keys, Adaptation]:
    """Returns the adapted parameters of the key convolutions, and a report.

    Every object has its own affinity, mask and alpha. The losses are summed over objects, because
    objects share the convolutions (Section 4.3). alpha makes both losses equal at the start and is
    then constant.

    Args:
      config: steps, rate and how the losses are computed.
      keys: the trained parameters.
      keys_of_frame: maps parameters to the keys of the query and of the memory.
      masks: see `small_masks`.
      present: slots with an object; the others have no weight.
      regions: of a query other than the first frame, see `losses`.
    """
    regions = regions or Regions(1 - masks, masks)

    def both(keys: Keys) -> Losses:
        each = losses(config, *keys_of_frame(keys), masks, regions)
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
    largest = bounds(config, regions)
    curves = [jnp.concatenate([c, x[None]]) / jnp.maximum(most, EPS)
              for c, x, most in zip(curves, last, largest, strict=True)]
    bad = collapsed(largest, first, last, present)
    adapted = jax.tree.map(lambda new, old: jnp.where(bad, old, new), adapted, keys)
    return adapted, Adaptation(*curves, bad)


def collapsed(
    largest: Losses, before: Losses, after: Losses, present: Bool[Array, " N"]
) -> Bool[Array, ""]:
    """Returns whether the adaptation failed for any object (inferred; not in the paper).

    The sum of both losses has trivial minima: with all affinity on the background L_obj is 0 and
    L_bg as large as it can be, with all of it on the object the reverse. It failed if one loss
    vanished and the other rose, or if their weighted sum rose or is not finite.

    Args:
      largest: see `bounds`.
      before: L_obj and L_bg before the first step.
      after: the same after the last step.
      present: slots with an object.
    """
    (obj, bg), (obj_0, bg_0) = after, before
    no_obj, no_bg = (x <= TOLERANCE * most for x, most in zip(after, largest, strict=True))
    one_sided = (no_obj & (bg > bg_0)) | (no_bg & (obj > obj_0))
    lower = _alpha(obj_0, bg_0) * obj + bg <= 2 * bg_0 + EPS
    return (present & (one_sided | ~lower)).any()


def _alpha(obj: Array, bg: Array) -> Array:
    return lax.stop_gradient(bg / jnp.maximum(obj, EPS))
