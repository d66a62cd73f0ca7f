"""What the commands of the metrics have in common: scores as JSON, user errors as one line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any


def print_scores(score: Callable[[], Mapping[str, Any]]) -> int:
    """Prints scores as JSON, or the error that kept them from being computed.

    Args:
      score: computes the scores.

    Returns:
      The exit status: 0, or 2 where `score` raised a ValueError or an OSError.
    """
    try:
        result = score()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(without_nan(result), indent=2))
    return 0


def without_nan(value: Any) -> Any:
    """Returns a value with None in place of each NaN in it, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
