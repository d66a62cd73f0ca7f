import pytest

from vseg_jax.models.swiftnet import SwiftnetConfig


@pytest.mark.parametrize(("changes", "message"), [
    ({"depth": 34}, "depth is 34; it must be 18 or 50"),
    ({"network": "stm", "backbone": "efficientnet_lite0"}, "or network=swiftnet"),
    ({"objects": 0}, "objects is 0"),
    ({"objects": 255}, "room for 254"),
    ({"capacity": 0}, "capacity is 0"),
    ({"every": 0}, "every is 0"),
    ({"corrections": 0}, "corrections is 0"),
    ({"top_k": 0}, "top_k is 0"),
    ({"min_confidence": 1.0}, r"min_confidence is 1.0; it must be in \[0, 1\)"),
    ({"mdim": 0}, "mdim is 0"),
    ({"share": 0.0}, "share is 0.0"),
    ({"share": 1.5}, "share is 1.5"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"vat_pixels": -1}, "vat_pixels is -1"),
    ({"adaptation_steps": -50}, "adaptation_steps is -50"),
    ({"backbone_weights": "a", "network_weights": "b"}, "leave one of them empty"),
])
def test_wrong_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        SwiftnetConfig(**changes)
