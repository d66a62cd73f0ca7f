"""Layout of arrays: the mesh, the rules for the state, and batches from several processes."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from vseg_jax.training.settings import TrainConfig

AXES = ("data", "model")


def make_mesh(config: TrainConfig) -> Mesh:
    """Returns the mesh of all devices, [data, model].

    Raises:
      ValueError: the product of the axes is not the number of devices, the model axis crosses
        processes, or the batch cannot be divided evenly.
    """
    devices, model = jax.device_count(), config.model_parallel
    data = config.data_parallel or max(devices // model, 1)
    if data * model != devices:
        raise ValueError(
            f"train.data_parallel x train.model_parallel is {data} x {model}, but there are "
            f"{devices} devices; set data_parallel to 0 and model_parallel to a divisor of "
            f"{devices}"
        )
    if jax.local_device_count() % model:
        raise ValueError(
            f"train.model_parallel is {model}, which does not divide the {jax.local_device_count()}"
            " devices of a process; the model axis must stay inside one process, because each "
            "process feeds its own samples"
        )
    if config.batch_size % (data * config.accumulate):
        raise ValueError(
            f"train.batch_size is {config.batch_size}; it must be a multiple of {data} (devices "
            f"along the data axis) x {config.accumulate} (train.accumulate)"
        )
    # Explicit axes, the default, would require flax's layers to name shardings.
    return jax.make_mesh((data, model), AXES, axis_types=(AxisType.Auto,) * 2)


def path_name(path: tuple[Any, ...]) -> str:
    """Returns a JAX key path as text: 'params/encoder/kernel'."""
    names = (getattr(p, "key", getattr(p, "name", getattr(p, "idx", p))) for p in path)
    return "/".join(str(name) for name in names)


def state_shardings(state: Any, config: TrainConfig, mesh: Mesh | AbstractMesh) -> Any:
    """Returns a `NamedSharding` for each leaf of `state`, by the first rule that matches its path.

    With "fsdp" (fully sharded data parallelism) in place of rules, leaves of two or more axes are
    split over the data axis, along their largest dimension that it divides. Vectors, and leaves
    without such a dimension, are replicated.

    Raises:
      ValueError: a rule matches no leaf, names an unknown axis, has more axes than the leaf, or
        splits a dimension that its axis does not divide.
    """
    if config.sharding == "fsdp":
        return jax.tree.map(lambda leaf: NamedSharding(mesh, _fully_sharded(leaf.shape, mesh)),
                            state)
    matched = set()

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = path_name(path)
        for pattern, axes in config.sharding:
            if re.search(pattern, name):
                matched.add(pattern)
                _check_rule(pattern, axes, name, leaf.shape, mesh)
                return NamedSharding(mesh, PartitionSpec(*axes))
        return NamedSharding(mesh, PartitionSpec())

    shardings = jax.tree_util.tree_map_with_path(place, state)
    for pattern, _ in config.sharding:
        if pattern not in matched:
            raise ValueError(f"train.sharding: the rule {pattern!r} matches no leaf of the state "
                             "(or only leaves that an earlier rule matches); correct or remove it")
    return shardings


def _fully_sharded(shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    divided = [size if size % mesh.shape["data"] == 0 else 0 for size in shape]
    if len(shape) < 2 or not any(divided):
        return PartitionSpec()
    return PartitionSpec(*(None,) * divided.index(max(divided)), "data")


def _check_rule(
    pattern: str, axes: tuple, name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh
) -> None:
    where = f"train.sharding: the rule {pattern!r} -> {axes}"
    if len(axes) > len(shape):
        raise ValueError(f"{where} has more axes than {name} of shape {shape}; "
                         "make the pattern narrower")
    for axis, size in zip(axes, shape, strict=False):
        if axis is not None and axis not in mesh.shape:
            raise ValueError(f"{where} names the axis {axis!r}; there are {', '.join(AXES)}")
        if axis is not None and size % mesh.shape[axis]:
            raise ValueError(f"{where} splits {name} of shape {shape}: {size} is not a multiple of "
                             f"the {mesh.shape[axis]} devices along {axis!r}")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the layout of batches: samples along the data axis, other axes not split."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Makes global arrays from this process's share, [B_local, ...] -> [B, ...]."""
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }


def put_tree(tree: Any, shardings: Any) -> Any:
    """Lays out a pytree that every process holds entirely, as global arrays."""

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.device_put(leaf, sharding)
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree, shardings)


def gather(tree: Any) -> Any:
    """Returns the tree in a form that this process can use by itself, to evaluate or save.

    If all leaves are replicated, each becomes the first local device's copy, without moving data.
    A tree with split leaves stays as it is in a single process, and becomes numpy arrays in
    several, which fetch from each other what they do not have.
    """
    leaves = jax.tree.leaves(tree)
    if all(leaf.is_fully_replicated for leaf in leaves):
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
    if jax.process_count() == 1:
        return tree

    return jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree)


def global_shapes(batch: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of the global batch, from one process's share."""
    count = jax.process_count()
    return {
        name: jax.ShapeDtypeStruct((value.shape[0] * count, *value.shape[1:]), value.dtype)
        for name, value in batch.items()
    }


def bytes_per_device(tree: Any, shardings: Any) -> int:
    """Returns the bytes of `tree` (arrays or shapes) that one device holds."""
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    )
