"""Rewrites programs in terms of the operations that ONNX and its converter know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.extend.core.primitives import copy_p


def simplified(
    function: Callable[..., Any], constants: Sequence[jax.Array], *shapes: Any
) -> ClosedJaxpr:
    """Returns the program of a function for given first arguments.

    It computes the same as the function, with these differences:

    - The bodies of nested functions stand in their places, and with them the values of functions
      with gradients of their own. Nothing marks where gradients stop.
    - Choosing between truth values is logic, because ONNX Runtime chooses between numbers only.
    - Stacks and tiles are concatenations, for which the converter has rules.
    - A result that is an input or another result is a copy, because ONNX gives a value one name.
    - Loops over sequences run forward, over reversed ones where they ran backward.
    - Unsigned and short integers are counted as int32 first, because ONNX has no such ranges.

    Args:
      function: takes arrays and returns a flat list of arrays.
      constants: the values of its first arguments. The program holds each of them once, wherever it
        is used, which is not so for arrays that the function closes over.
      shapes: of its other arguments.
    """
    program = jax.make_jaxpr(function)(*constants, *shapes)

    def rewritten(*inputs: Any) -> list[Any]:
        results: list[Any] = []
        for result in _run(program, *constants, *inputs):
            known = any(result is other for other in (*inputs, *results))
            results.append(copy_p.bind(result) if known else result)
        return results

    return jax.make_jaxpr(rewritten)(*shapes)


def _run(program: ClosedJaxpr, *inputs: Any) -> list[Any]:
    """Computes the results of a program, operation by operation."""
    values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values |= dict(zip(program.jaxpr.invars, inputs, strict=True))

    def value(name: Any) -> Any:
        return name.val if isinstance(name, Literal) else values[name]

    for equation in program.jaxpr.eqns:
        results = _computed(equation, [value(name) for name in equation.invars])
        values |= dict(zip(equation.outvars, results, strict=True))
    return [value(name) for name in program.jaxpr.outvars]


def _computed(equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
    name, params = equation.primitive.name, equation.params
    for body in ("jaxpr", "call_jaxpr"):
        if name != "scan" and body in params:
            nested = params[body]
            closed = nested if isinstance(nested, ClosedJaxpr) else ClosedJaxpr(nested, ())
            return _run(closed, *inputs)
    rule = _RULES.get(name)
    results = rule(params, inputs) if rule else equation.primitive.bind(*inputs, **params)
    return results if equation.primitive.multiple_results else [results]


def _while(params: dict[str, Any], inputs: list[Any]) -> Any:
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    of_test, of_body, start = inputs[:first], inputs[first:second], inputs[second:]
    return lax.while_loop(
        lambda carry: _run(params["cond_jaxpr"], *of_test, *carry)[0],
        lambda carry: _run(params["body_jaxpr"], *of_body, *carry), start)


def _cond(params: dict[str, Any], inputs: list[Any]) -> Any:
    branches = [lambda *x, branch=branch: _run(branch, *x) for branch in params["branches"]]
    index, operands = inputs[0], inputs[1:]
    if len(branches) == 2:
        return lax.cond(index.astype(bool), branches[1], branches[0], *operands)
    return lax.switch(index, branches, *operands)


def _scan(params: dict[str, Any], inputs: list[Any]) -> Any:
    first, second = params["num_consts"], params["num_consts"] + params["num_carry"]
    constants, start, sequences = inputs[:first], inputs[first:second], inputs[second:]

    def body(carry: list[Any], items: list[Any]) -> tuple[list[Any], list[Any]]:
        results = _run(params["jaxpr"], *constants, *carry, *items)
        return results[:len(start)], results[len(start):]

    if not params["reverse"]:
        carry, results = lax.scan(body, start, sequences, params["length"])
        return [*carry, *results]
    reversed_sequences = [lax.rev(x, (0,)) for x in sequences]
    carry, results = lax.scan(body, start, reversed_sequences, params["length"])
    return [*carry, *(lax.rev(x, (0,)) for x in results)]


def _select(params: dict[str, Any], inputs: list[Any]) -> Any:
    if len(inputs) == 3 and all(x.dtype == np.bool_ for x in inputs):
        chosen, otherwise, then = inputs
        chosen = lax.broadcast(chosen, then.shape[:then.ndim - chosen.ndim])
        return lax.bitwise_or(lax.bitwise_and(chosen, then),
                              lax.bitwise_and(lax.bitwise_not(chosen), otherwise))
    return lax.select_n(*inputs)


def _iota(params: dict[str, Any], inputs: list[Any]) -> Any:
    short = np.issubdtype(params["dtype"], np.integer) and params["dtype"] != np.int64
    counted = lax.broadcasted_iota(np.int32 if short else params["dtype"], params["shape"],
                                   params["dimension"])
    return counted.astype(params["dtype"])


def _rsqrt(params: dict[str, Any], inputs: list[Any]) -> Any:
    # The converter writes 1 / sqrt(x), and ONNX Runtime 1.32 loses y in a branch with y / sqrt(x).
    return lax.pow(inputs[0], np.asarray(-0.5, inputs[0].dtype))


def _stack(params: dict[str, Any], inputs: list[Any]) -> Any:
    axis = params["axis"]
    return lax.concatenate([lax.expand_dims(x, (axis,)) for x in inputs], axis)


def _unstack(params: dict[str, Any], inputs: list[Any]) -> Any:
    array, axis = inputs[0], params["axis"]
    return [lax.index_in_dim(array, i, axis, keepdims=False) for i in range(array.shape[axis])]


def _tile(params: dict[str, Any], inputs: list[Any]) -> Any:
    array = inputs[0]
    for axis, times in enumerate(params["reps"]):
        array = lax.concatenate([array] * times, axis) if times > 1 else array
    return array


_RULES: dict[str, Callable[[dict[str, Any], list[Any]], Any]] = {
    "while": _while, "cond": _cond, "scan": _scan, "select_n": _select, "iota": _iota,
    "rsqrt": _rsqrt, "stack": _stack, "unstack": _unstack, "tile": _tile,
    "stop_gradient": lambda params, inputs: inputs[0],
}
