import jax
import jax.numpy as jnp
import pytest
from tiny_rcf import WITH_AUDIO, build, make_batch

from vseg_jax.models.base import Model
from vseg_jax.models.rcf import Config


@pytest.mark.parametrize(("wrong", "message"), [
    ({"depth": 20}, "depth"), ({"references": 6}, "references"),
    ({"token_size": 5}, "token_size"), ({"channels": 12}, "multiple of 8"),
    ({"channels": 24, "heads": 5}, "heads"), ({"queries": 0}, "queries"),
    ({"dropout": 1.0}, "dropout"), ({"fire": 0.0}, "fire"), ({"eos_coef": -1.0}, "eos_coef"),
    ({"references": 0, "order_supervision": True}, "references"),
    ({"audio_hidden": 0}, "audio_hidden"), ({"separate_encoders": True}, "full_dec"),
    ({"separate_encoders": True, "fusion": "full_dec", "references": 0}, "references=0"),
    ({"fuse_stride": 16, "backbone": "swin"}, "fuse_stride=16 needs a ResNet or an EfficientNet"),
    ({"pixel_channels": 12}, "pixel_channels"),
])
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Config(**wrong)


def test_the_defaults_are_the_papers():
    c = Config()
    assert (c.references, c.token_size, c.queries, c.fusion) == (1, 4, 10, "reference_token")
    assert c.ref_weight and not c.order_supervision and c.iou_override and not c.audio
    assert (c.fire, c.mask_threshold, c.override_iou) == (0.4, 0.5, 0.5)
    assert c.eos_coef == 1, "Eq. 4 has no weight"
    assert not (c.class_pooling or c.coordinates), "what the paper does not have"
    assert (c.keep, c.duplicate_iou, c.override_frames) == (0, 1, 1), "what the paper does not have"
    assert isinstance(build(), Model)


# Every ablation of the paper, several in each model.
@pytest.mark.parametrize(("changes", "tokens"), [
    ({"references": 0, "aux_loss": False}, 4),
    ({"references": 3, "token_size": 1, "ref_weight_act": "none"}, 5),
    ({"references": 5, "token_size": 64, "ref_weight": False, "dtype": "bfloat16"}, 68),
    ({"token_size": 16, "ref_pool": "dwconv", "positions": "once"}, 20),
    ({"fusion": "full_enc", "references": 2, "queries": 3}, 12),
    ({"fusion": "full_dec", "references": 2}, 12),
    ({"fusion": "full_dec", "references": 2, "separate_encoders": True}, 12),
    ({"fuse_stride": 16}, 20),
    ({"backbone": "efficientnet_lite0", "backbone_norm": "frozen"}, 8),
    ({"backbone": "efficientnet_lite0", "fuse_stride": 16, "pixel_channels": 8}, 20),
    ({"order_supervision": True, "references": 2}, 8),
    ({"class_pooling": True, "coordinates": True, "pixel_channels": 8}, 8),
    ({**WITH_AUDIO, "references": 3}, 12), ({**WITH_AUDIO, "references": 0}, 5),
    ({**WITH_AUDIO, "references": 2, "fusion": "full_dec"}, 15),
])
def test_every_switch_makes_a_model(changes, tokens):
    model = build(**changes)
    c, batch = model.config, make_batch(length=1 + model.config.references, audio=model.uses_audio)
    kept = {}

    def run(key, batch):
        variables = model.init(key, batch)
        loss, *_ = model.loss(variables, batch, key, jnp.int32(0))
        _, state = model.network.apply(
            variables, batch["frames"][:1, 0], batch["audio"][:1, 0] if c.audio else None,
            train=False, method="full", capture_intermediates=lambda m, _: m.name == "fusion",
        )
        kept["fused"] = state["intermediates"]["fusion"]["__call__"][0]
        return loss

    loss = jax.eval_shape(run, jax.random.key(0), batch)
    assert loss.shape == () and loss.dtype == "float32"
    fused = kept["fused"]
    side = 64 // c.fuse_stride
    assert fused.tokens.shape == (1, tokens, c.channels) == (1, *fused.positions.shape[1:])
    assert fused.target.shape == (1, side, side, c.channels)
    assert (fused.mask is None) == (not c.audio)
    assert fused.mask is None or fused.mask.shape == (1, 1, tokens)


@pytest.mark.parametrize(("name", "channels"), [("base", 1024), ("large", 1536)])
def test_swin_of_the_paper(name, channels):
    model = build(backbone="swin", swin=name)
    shapes = jax.eval_shape(model.init, jax.random.key(0), make_batch())
    assert shapes["params"]["fusion"]["target"]["kernel"].shape == (channels, 16)
    assert "batch_stats" not in shapes


def test_resnet_101_of_the_paper():
    shapes = jax.eval_shape(build(depth=101, width=64).init, jax.random.key(0), make_batch())
    kernel = shapes["params"]["fusion"]["reference"]["project"]["kernel"]
    assert kernel.shape == (2048, 16)
