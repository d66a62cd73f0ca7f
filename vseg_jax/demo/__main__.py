"""Opens a page in the browser on which videos are segmented, on this machine alone.

    vseg demo
    vseg demo --model runs/quickstart
    vseg demo --short_side 480 --frames 600

The page needs gradio: pip install 'vseg_jax[demo]'.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vseg_jax.arguments import Parser
from vseg_jax.demo.limits import Limits
from vseg_jax.interruption import Interruption

_MODEL = "swiftnet-lite0"
_LOCAL = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `vseg demo` until Ctrl-C and returns its exit status."""
    options = _parser().parse_args(None if arguments is None else list(arguments))
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs gradio: pip install 'vseg_jax[demo]'")
    with tempfile.TemporaryDirectory(prefix="vseg-demo-") as folder:
        # gradio's copies of uploads and downloads; deleted at the end with all that is left.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from vseg_jax.demo.page import Page
        from vseg_jax.inference import load

        limits = Limits(options.frames, options.side, options.megabytes)
        page = Page(load(options.model, options.short_side), Path(options.model).name, limits,
                    Path(folder))
        with Interruption() as stop:
            address = page.launch(options.host, options.port, options.open)
            print(f"The page is at {address}; Ctrl-C ends it.", flush=True)
            while not stop.requested:
                time.sleep(0.2)
            page.blocks.close(verbose=False)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="vseg demo", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=_MODEL, metavar="MODEL",
                        help="see vseg predict --help; also a workdir; default: %(default)s")
    parser.add_argument("--short_side", type=int, metavar="PIXELS",
                        help="see vseg predict --help")
    parser.add_argument("--frames", type=_positive, default=Limits.frames, metavar="NUMBER",
                        help="of a video that are read at most; default: %(default)s")
    parser.add_argument("--side", type=_positive, default=Limits.side, metavar="PIXELS",
                        help="longer side to which larger videos are scaled down; default: "
                             "%(default)s")
    parser.add_argument("--megabytes", type=_positive, default=Limits.megabytes, metavar="NUMBER",
                        help="of the largest file that is taken; default: %(default)s")
    parser.add_argument("--host", default=_LOCAL, metavar="ADDRESS",
                        help="where to listen; 0.0.0.0 lets other machines in, without a password; "
                             "default: %(default)s, this machine alone")
    parser.add_argument("--port", type=_positive, metavar="NUMBER",
                        help="default: the first free one from 7860 on")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main())
