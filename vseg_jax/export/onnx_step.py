"""A model's streaming step as one ONNX graph, which runs without JAX and without the library.

The graph takes a frame, its prompt and the state of one stream, and returns the prediction and the
next state. A stream begins with a state of zeros, so no second graph starts it.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from vseg_jax.export.programs import entries, entry, fields, stream_inputs
from vseg_jax.export.simplify import simplified
from vseg_jax.inference.restore import Restored
from vseg_jax.layers.convolution import portable_convolutions
from vseg_jax.training.checkpoints import path_name

VERSION = 1
OPSET = 21
GRAPH, DESCRIPTION = "model.onnx", "model.json"
IMAGE = "image"   # `frame` is the output with the number of the predicted frame
STATE, NEXT = "state/", "next/"   # before the names of the state's arrays, as inputs and as outputs

# (model, variables, state, frame, prompt) -> the next state and the prediction
Advance = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]


def write(restored: Restored, folder: Path, size: tuple[int, int] | None = None) -> None:
    """Writes `model.onnx` and its description, `model.json`, into a folder.

    The description lists the inputs `image`, `prompt` and `state` and the outputs `prediction` with
    their names, shapes and dtypes. An array of the state is the input `name` and the output `next`.

    Args:
      restored: the model.
      folder: that exists.
      size: see `vseg_jax.export.export.export`.

    Raises:
      ImportError: the extra "onnx" is not installed.
      ValueError: the model has no ONNX form; the message says why.
    """
    to_onnx = _converter()
    if getattr(restored.model.config, "adaptation_steps", 0):
        raise ValueError("first-frame adaptation takes gradients, which ONNX has no operations "
                         "for; export without it: --config.model.adaptation_steps=0")
    inputs = stream_inputs(restored, size)
    frame, prompt = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (inputs.frame, inputs.prompt))
    with portable_convolutions():
        program, state, prediction = _program(restored, frame, prompt)
    names = [IMAGE, *prompt, *(STATE + name for name in state)]
    try:
        converted = to_onnx(
            jaxpr_as_fun(program), program.in_avals, model_name="step", opset=OPSET,
            input_names=names, output_names=[*prediction, *(NEXT + name for name in state)])
    except Exception as error:   # of any type, from the operation that it does not know
        raise ValueError(f"jax2onnx {importlib.metadata.version('jax2onnx')} cannot convert this "
                         f"model: {error}") from error
    _strip(converted.graph)
    path = folder / GRAPH
    path.write_bytes(converted.SerializeToString())
    _check(path)
    description = {
        "version": VERSION, "delay": restored.model.delay, "image": {"name": IMAGE, **entry(frame)},
        "prompt": entries(prompt), "prediction": entries(prediction),
        "state": [{**one, "name": STATE + one["name"], "next": NEXT + one["name"]}
                  for one in entries(state)],
        "categories": list(restored.categories),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def _converter() -> Callable[..., Any]:
    # They warn of plugins for packages that are not used here, and of what `_strip` removes.
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise ImportError(f"writing ONNX needs jax2onnx ({error}); install the extra: "
                          "pip install 'vseg_jax[onnx]'") from error
    return to_onnx


def _program(
    restored: Restored, frame: Any, prompt: dict[str, Any]
) -> tuple[ClosedJaxpr, dict[str, Any], dict[str, Any]]:
    """Returns the step as a program of flat arrays, and the shapes of state and prediction."""
    model, variables = restored.model, jax.tree.map(jnp.asarray, restored.variables)
    advance = _OF_TASK[model.task]
    state = jax.eval_shape(model.start, variables, frame, prompt)
    leaves, tree = jax.tree.flatten(state)
    arrays, of_variables = jax.tree.flatten(variables)
    if any(leaf.dtype == jnp.bfloat16 for leaf in leaves):
        raise ValueError("the state is bfloat16, for which numpy has no type; export with "
                         "--config.model.dtype=float32, the weights are the same")

    def step(*inputs: Any) -> list[Any]:
        given = iter(inputs)
        variables = jax.tree.unflatten(of_variables, itertools.islice(given, len(arrays)))
        frame, prompts = next(given), {name: next(given) for name in prompt}
        state, prediction = advance(
            model, variables, jax.tree.unflatten(tree, given), frame, prompts)
        return [*fields(prediction).values(), *jax.tree.leaves(state)]

    program = simplified(step, arrays, frame, *prompt.values(), *leaves)
    named = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}
    _, prediction = jax.eval_shape(
        lambda *x: advance(model, variables, *x), state, frame, prompt)
    return program, named, fields(prediction)


def _follow(model: Any, variables: Any, state: Any, frame: Any, prompt: Any) -> tuple[Any, Any]:
    # Objects enter an empty memory as they enter later.
    return model.step(variables, state, frame, prompt)


def _search(model: Any, variables: Any, state: Any, frame: Any, prompt: Any) -> tuple[Any, Any]:
    query = lax.cond(state.count == 0, lambda: model.start(variables, frame, prompt).query,
                     lambda: state.query)
    return model.step(variables, state.replace(query=query), frame)


def _find(model: Any, variables: Any, state: Any, frame: Any, prompt: Any) -> tuple[Any, Any]:
    return lax.cond(
        state.count == 0, lambda: model.first_step(variables, frame, prompt),
        lambda: model.step(variables, state, frame, prompt))


_OF_TASK: dict[str, Advance] = {"vos": _follow, "rvos": _search, "vis": _find}


def _strip(graph: Any) -> None:
    """Removes what ONNX Runtime warns of: wrong notes of inner shapes, and arrays without use."""
    graphs = list(_nested(graph))
    used = {name for one in graphs for node in one.node for name in node.input}
    used |= {output.name for one in graphs for output in one.output}
    for one in graphs:
        del one.value_info[:]
        for i in reversed(range(len(one.initializer))):
            if one.initializer[i].name not in used:
                del one.initializer[i]


def _nested(graph: Any) -> Iterator[Any]:
    """Yields an ONNX graph and those in its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nested(attribute.g)


def _check(path: Path) -> None:
    """Raises ValueError if ONNX Runtime lacks an operation of the graph."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"ONNX Runtime {onnxruntime.__version__} cannot run this model: {error}"
                         ) from error
