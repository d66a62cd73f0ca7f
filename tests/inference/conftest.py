"""A segmenter that takes mask prompts, and the video that it is shown."""

import pytest
import standin
import standin_vos

from vseg_jax.inference.segmenter import Segmenter


@pytest.fixture(scope="session")
def follower():
    """Follows the objects of mask prompts by their colors; has three slots."""
    return Segmenter(standin_vos.Follower(), standin_vos.variables())


@pytest.fixture(scope="session")
def squares():
    """(six frames of 24 x 32 pixels with a red and a blue square, their index masks)."""
    return standin.square_frames(6, (24, 32))
