"""Lists the models that ship with the library.

    vseg models
    vseg models --json

A listed name can be given to `vseg predict --model`, `vseg_jax.load` and `--config.init_from`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from vseg_jax import urls, zoo
from vseg_jax.arguments import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `vseg models` and returns its exit status."""
    parser = Parser(prog="vseg models", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON")
    options = parser.parse_args(None if arguments is None else list(arguments))
    rows = [zoo.describe(name) for name in zoo.names()]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print("\n\n".join(map(_paragraph, rows)))
    else:
        print("No model ships with this version. `vseg predict --model` also takes a file that "
              f"somebody shares, or a run of your own: {urls.DOCS}")
    return 0


def _paragraph(row: dict[str, Any]) -> str:
    prompt = f"--{row['prompt']}" if row["prompt"] else "none"
    lines = [
        ("prompt", prompt),
        ("model", f"{row['system']}, {row['parameters'] / 1e6:.1f} M parameters, "
                  f"{row['bytes'] / 1e6:.1f} MB"),
        *(("scores", f"{score['metric']} {100 * score['value']:.1f} on {score['data']}")
          for score in row["scores"]),
        ("speed", row["speed"]), ("trained on", row["data"]), ("config", row["config"]),
        ("license", row["license"]),
        *(("needs", f"{name} ({install})") for name, install in row["packages"].items()),
    ]
    return "\n".join([f"{row['name']}: {row['summary']}",
                      *(f"  {name + ':':12} {text}" for name, text in lines)])


if __name__ == "__main__":
    sys.exit(main())
