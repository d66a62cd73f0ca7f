import pytest

from vseg_jax.layers.window import Window


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_outside_the_clip_is_rejected(target):
    with pytest.raises(ValueError, match="not a position in a clip of 3 frames; count from 0"):
        Window(length=3, stride=1, target=target)


def test_capacity_and_delay():
    window = Window(length=8, stride=2, target=4)
    assert (window.capacity, window.delay) == (15, 6)
    window = Window(length=3, stride=1, target=1, ahead=1)
    assert (window.capacity, window.delay) == (4, 2)
