"""Counts the operations of a program's matrix products and convolutions, before compilation.

XLA's own analysis of a compiled program counts the body of a loop once, and on a GPU not at all
what it leaves to cuBLAS and cuDNN, which is nearly everything.
"""

from __future__ import annotations

import math
from typing import Any


def count(jaxpr: Any) -> int:
    """Returns the additions and multiplications of a program, each as one operation.

    A loop counts as often as it runs where that is known when it is traced, else once; a branch as
    its most expensive arm. All else (norms, activations, resizing) counts as nothing.

    Args:
      jaxpr: of the program, for example `jax.jit(function).trace(*inputs).jaxpr`.
    """
    return sum(_of_equation(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * out * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        # The zeros that a dilation inserts into the input are not multiplied.
        return 2 * out * math.prod(kernel) // features // math.prod(params["lhs_dilation"])
    if name == "cond":
        return max(count(branch) for branch in params["branches"])
    inner = sum(count(value) for value in params.values() if hasattr(value, "eqns")
                or hasattr(getattr(value, "jaxpr", None), "eqns"))
    return inner * params.get("length", 1) if name == "scan" else inner
