import subprocess
import sys

import pytest

from vseg_jax.config import parse, section, shallow
from vseg_jax.configs.qvim import get_config
from vseg_jax.models import build, load
from vseg_jax.models.qvim import Qvim, QvimConfig
from vseg_jax.models.qvim.config import ComparedConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"qfa_scales": (0,)}, "1 .largest map. ... 5"),
        ({"am_adain_scales": (6,)}, "am_adain_scales has .6."),
        ({"decoder_channels": (1, 2)}, "give 5"),
        ({"clip_target": 8}, "clip of 8 frames"),
        ({"qfa_start": 1.0}, "share of the training"),
        ({"total_steps": 0}, "length of the training"),
        ({"qvim_feedback": True, "backbone": "resnet50"}, "needs backbone 'i3d'"),
        ({"backbone": "efficientnet_lite0", "compared": ComparedConfig("dsu", "backbone")},
         "compared.place is 'backbone', which needs a ResNet or I3D"),
    ],
)
def test_wrong_values_are_rejected(wrong, message):
    with pytest.raises(ValueError, match=message):
        QvimConfig(**wrong)


def test_the_config_survives_its_file_form():
    config = QvimConfig(sa_kv_max=None, qfa_scales=(1, 2), text="words")
    stored = section(QvimConfig, **shallow(config))
    assert parse(QvimConfig, stored.to_dict()) == config


def test_the_constraint_stands_where_qfa_does():
    assert QvimConfig().contrast_scale == 1
    assert QvimConfig(qfa_scales=(4, 2)).contrast_scale == 2
    assert QvimConfig(qfa_scales=()).contrast_scale == 1


def test_registry_of_models():
    model = build("qvim", {"clip_length": 8, "clip_target": 5, "clip_stride": 3})
    assert isinstance(model, Qvim) and model.delay == 6
    assert build("qvim", QvimConfig(clip_target=7)).delay == 0
    assert load("qvim").Config is QvimConfig
    with pytest.raises(ValueError, match="did you mean 'qvim'"):
        build("qvin", {})
    with pytest.raises(ValueError, match="did you mean 'channels'"):
        build("qvim", {"chanels": 3})


def test_the_registry_imports_no_model():
    code = "import sys, vseg_jax.models; sys.exit('vseg_jax.models.qvim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("variant", ["a2d", "rvos"])
def test_self_attention_is_exact_at_the_papers_size(variant):
    assert get_config(variant).model.sa_kv_max is None
