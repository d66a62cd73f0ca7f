"""A segmenter that takes mask prompts, and the video that it is shown."""

import pytest
import standin
import standin_vos


@pytest.fixture(scope="session")
def follower():
    """Follows the objects of mask prompts by their colors; has three slots."""
    return standin_vos.segmenter()


@pytest.fixture(scope="session")
def squares():
    """(six frames of 24 x 32 pixels with a red and a blue square, their index masks)."""
    return standin.square_frames(6, (24, 32))
