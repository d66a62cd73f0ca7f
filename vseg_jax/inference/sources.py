"""Finds a model by what a user calls it: a path, the name of a shipped model, or `hf://...`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vseg_jax import zoo
from vseg_jax.config import nearest

HUB = "hf://"
HUB_FILE = "model.safetensors"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^@\s]+))?", re.ASCII)


def find(source: str | os.PathLike) -> Path:
    """Returns the folder or file of a model. A path that exists comes first.

    Args:
      source: a path; the name of a model that ships with the library (`vseg models`); or
        `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION`, a repository of the Hugging Face Hub, where
        a revision is a branch, a tag or, for exactly the same file each time, a commit.

    Raises:
      ValueError: there is none; the message says what was looked for.
    """
    text = os.fspath(source)
    if text.startswith(HUB):
        return _download(text)
    path = Path(text)
    if path.exists():
        return path
    shipped = zoo.find(text)
    if shipped is not None:
        return shipped
    hint = nearest(text, zoo.names()) if zoo.names() else ""
    raise ValueError(f"there is no folder or file {path} and no shipped model of that name{hint}. "
                     "Name the workdir of a training, what `vseg export` wrote, or a model that "
                     "`vseg models` lists")


def _download(address: str) -> Path:
    """Returns the model file of a repository, from the local cache if it is there.

    Only a safetensors file is ever requested: a pickle could run code.
    """
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise ValueError(f"{address} is not an address of the Hugging Face Hub; it must be "
                         "hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ValueError(f"{address} needs huggingface_hub: pip install 'vseg_jax[hub]'"
                         ) from error
    repository, revision = match.groups()
    try:
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(f"{address} is not in the local cache, and the Hub cannot be reached "
                         f"({error})") from error
    except errors.EntryNotFoundError as error:
        raise ValueError(
            f"{address} has no file {HUB_FILE}; pickles (.bin, .pth) are not loaded from the Hub. "
            f"`vseg export --output {HUB_FILE}` writes the file to upload") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ValueError(f"{address} does not exist, or is private and needs `hf auth login` "
                         f"({error})") from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise ValueError(f"{address} cannot be downloaded ({error})") from error
