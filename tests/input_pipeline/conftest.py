from pathlib import Path

import pytest
from toy_dataset import build_toy


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory) -> Path:
    """Folder of the built toy dataset (splits train: 3 clips, valid: 1)."""
    return build_toy(tmp_path_factory.mktemp("toy"))
