"""What the tests of the clip models share: random batches, quick compilation, fixtures."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(1)


def clip_batch(seed=0, size=2, length=3, side=32, words=5, *, objects=1, target=1, flow=False):
    """A batch of the task "rvos" with random frames and expressions of different lengths.

    Args:
      seed: of all random numbers.
      size, length, side, words: number of clips and of their frames, side of a frame in pixels,
        number of tokens.
      objects: 1: the object is a bright rectangle. 2: the clip also shows a dark one on the right.
      target: position of the target frame.
      flow: whether the batch has pictures of the optical flow.
    """
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (size, length, side, side, 3), np.uint8)
    masks = np.zeros((size, length, side, side), np.uint8)
    for sample in range(size):
        y, x = random.integers(0, side // (2 * objects), 2)
        width = side // 3 if objects == 1 else side // 4
        masks[sample, :, y : y + side // 2, x : x + width] = 1
        if objects == 2:
            masks[sample, :, y : y + side // 3, side // 2 + x :] = 2
    frames[masks == 1], frames[masks == 2] = 250, 10
    valid = np.arange(words) < random.integers(2, words + 1, size)[:, None]
    batch = {"flow": random.integers(0, 256, frames.shape, np.uint8)} if flow else {}
    return batch | {
        "frames": frames,
        "masks": masks,
        "masks_valid": np.ones((size, length), bool),
        "target": np.full(size, target, np.int32),
        "object_id": np.ones(size, np.int32),
        "tokens": np.where(valid, random.integers(2, 20, valid.shape), 0).astype(np.int32),
        "tokens_valid": valid,
        "video": np.arange(size, dtype=np.int32),
        "sample": np.arange(size, dtype=np.int32),
        "valid": np.ones(size, bool),
        "geometry": np.tile(np.float32([1, 1, 0, 0]), (size, 1)),
    }


def prompt(batch: dict[str, Any], sample: int = 0) -> dict[str, Any]:
    """The prompt of a stream with the expression of one sample."""
    return {name: batch[name][sample] for name in ("tokens", "tokens_valid")}


def clip_numbers(window: Any, number: int, count: int) -> np.ndarray:
    """The frames that the input pipeline takes for frame `number` of a video of `count` frames."""
    offsets = (np.arange(window.length) - window.target) * window.stride
    return np.clip(number + offsets, 0, count - 1)


def quick_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """jit that compiles quickly and runs slowly."""
    return jax.jit(function, **options, compiler_options={"xla_backend_optimization_level": 0})


def shapes(model: Any, batch: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """{path: shape} of a model's parameters."""
    tree = jax.eval_shape(model.init, KEY, batch)["params"]
    return {jax.tree_util.keystr(path): x.shape
            for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def drawn_variables(model: Any, batch: dict[str, Any]) -> Any:
    """Random variables with the shapes of `init`, drawn without compiling it."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        width = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 25
        return (random.standard_normal(leaf.shape) / np.sqrt(width)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, KEY, batch))


def loss_and_gradient(model: Any, *, by_all: bool = False) -> Callable[..., Any]:
    """(variables, batch, key, step) -> ((loss, (updates, means)), gradient by the parameters).

    With `by_all` the gradient is by all variables.
    """

    def loss(changed, rest, batch, key, step):
        variables = changed if by_all else {"params": changed, **rest}
        value, updates, means = model.loss(variables, batch, key, step)
        return value, (updates, means)

    compiled = quick_jit(jax.value_and_grad(loss, has_aux=True, allow_int=by_all))

    def call(variables, batch, key=KEY, step=0):
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        changed, rest = (variables, {}) if by_all else (variables["params"], rest)
        return compiled(changed, rest, batch, key, jnp.int32(step))

    return call


def random_params(module: Any, *inputs: Any, scale: float = 0.5, **options: Any) -> Any:
    """Random parameters of a flax module, biases too, without compiling `init`."""
    def init(key: jax.Array) -> Any:
        return module.init(key, *inputs, **options)["params"]

    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(random.normal(size=x.shape, scale=scale), jnp.float32),
        jax.eval_shape(init, KEY),
    )


class GivenOutput:
    """Stands in for the network of a model and returns the same output for any input."""

    def __init__(self, output: Any):
        self.output = output

    def apply(self, variables: Any, *inputs: Any, **options: Any) -> tuple[Any, Any]:
        return self.output, {"batch_stats": {}}


@contextlib.contextmanager
def given_modules(kind: type[nn.Module], output: Any) -> Iterator[list[Any]]:
    """Modules of that kind return `output`; yields the list of the inputs that they got."""
    inputs: list[Any] = []

    def instead(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        if not isinstance(context.module, kind):
            return call(*arguments, **keywords)
        inputs.append(arguments[0])
        return output

    with nn.intercept_methods(instead):
        yield inputs


def negated_at(
    module: nn.Module, variables: Any, x: jax.Array, places: Sequence[str]
) -> Callable[[str], Any]:
    """Returns a function from a place of a backbone to its outputs if the features there are
    negated; any of `places`, or "nowhere"."""
    known = ["nowhere", *places]

    @quick_jit
    def outputs(at: jax.Array) -> Any:
        def change(here: str, x: jax.Array) -> jax.Array:
            return jnp.where(at == known.index(here), -x, x)

        return module.apply(variables, x, train=False, change=change)

    return lambda place: outputs(known.index(place))


def differ(some: Sequence[jax.Array], others: Sequence[jax.Array]) -> list[bool]:
    """Which of the arrays differ anywhere."""
    return [bool((a != b).any()) for a, b in zip(some, others, strict=True)]
