"""rcf, online video instance segmentation, seeing and hearing.

Variants:
  youtube_vis  The paper's recipe, second part: YouTube-VIS 2019, from the run that `joint` left.
               ResNet-101, 60,000 steps of 16 clips.

                   python -m vseg_jax.main --config configs/rcf.py:youtube_vis \\
                     --workdir runs/rcf --config.data.source=/data/YouTubeVIS \\
                     --config.init_from=runs/rcf_joint

               The paper: AP 40.8 on valid, whose truth its server keeps (Table I); here 200 train
               videos are held out as `dev`. Never trained by us; `--mode dry_run` says what a step
               costs.

  joint        Its first part: YouTube-VIS and the overlapping categories of COCO together.

                   python -m vseg_jax.main --config configs/rcf.py:joint --workdir runs/rcf_joint \\
                     --config.data.source=/data/YouTubeVIS --config.extra_datasets.coco.source=/data/COCO \\
                     --config.model.backbone_weights=/weights/resnet101.pth

  avis         The paper's set with sound, which is not published: data of one's own in its form,
               20 categories. Never trained by us.

                   python -m vseg_jax.main --config configs/rcf.py:avis --workdir runs/avis \\
                     --config.data.source=/data/AVIS --config.init_from=runs/rcf \\
                     --config.model.vggish_weights=/weights/vggish.pth

  shapes       Made videos, a small model from scratch: minutes on two CPU cores.

                   python -m vseg_jax.main --config configs/rcf.py:shapes --workdir runs/shapes_vis

  shapes_audio Made videos of two actors that look alike, of which the larger hums; only its tone
               tells its category. `--config.model.audio=False` is the same model without ears.

                   python -m vseg_jax.main --config configs/rcf.py:shapes_audio --workdir runs/heard

  videos        Videos of one's own in YouTube-VIS form, the small model from scratch, scored on what
               it was trained on: a check of the path from one's masks to answers (docs/data.md says
               how a prepared dataset becomes such a folder). For more than that, more videos, a
               wider model, and a split for scores. dogs-jump of DAVIS 2017: docs/results.md.

                   python -m vseg_jax.main --config configs/rcf.py:videos --workdir runs/videos \\
                     --config.data.source=videos --config.model.categories=2

A Swin backbone: `--config.model.backbone=swin`, a learning rate of 3e-4, weight decay 1e-2 and no
group for the backbone (the paper's recipe). All switches: docs/papers/rcf.md.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.input_pipeline.settings import ClipConfig, DatasetConfig, InstanceConfig
from vseg_jax.models.rcf import RcfConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.training.settings import TrainConfig

VARIANTS = ("youtube_vis", "joint", "avis", "shapes", "shapes_audio", "videos")


# A tenth of the rate for the ResNet; its frozen norms would be moved by the weight decay.
RESNET = (("^backbone/.*norm", 0.0), ("^backbone/", 0.1))


def get_config(variant: str = "youtube_vis") -> ConfigDict:
    """The config of a variant; raises ValueError where there is none of that name."""
    if variant not in VARIANTS:
        raise ValueError(f"rcf has no variant '{variant}'; there are {', '.join(VARIANTS)}")
    config = {"youtube_vis": _youtube_vis, "joint": _joint, "avis": _avis, "shapes": _shapes,
              "shapes_audio": _shapes_audio, "videos": _videos}[variant]()
    config.system = "rcf"
    config.init_from = ""
    config.instances.references = config.model.get_ref("references")
    config.instances.uses_audio = config.model.get_ref("audio")
    for dataset in (*config.extra_datasets.values(), *config.evaluation.datasets.values()):
        dataset.prepared = config.data.get_ref("prepared")
    for dataset in config.evaluation.datasets.values():
        dataset.source = config.data.get_ref("source")
        dataset.options = config.data.options
    return config


def _youtube_vis() -> ConfigDict:
    config = ConfigDict()
    config.data = section(
        DatasetConfig, name="youtube_vis", split="train", source="data/YouTubeVIS"
    )
    config.extra_datasets = ConfigDict()
    # 640x360 as at test time; the crop stands for the changing short sides of MaskFormer's kin.
    config.clip = section(
        ClipConfig, height=360, width=640, resize="pad", crop=0.6, flip=0.5
    )
    config.instances = section(InstanceConfig)
    config.model = section(RcfConfig)
    config.train = section(
        TrainConfig, steps=60_000, batch_size=16, optimizer="adamw", learning_rate=6e-4,
        weight_decay=1e-4, schedule="poly", power=0.9, warmup=1000, clip_norm=0.01,
        groups=RESNET, log_every=100, checkpoint_every=2000,
    )
    config.workers = 8
    config.evaluation = section(EvaluationConfig, protocol="youtube_vis", overlay_clips=4, datasets={
        "dev": DatasetConfig(name="youtube_vis", split="dev"),
    })
    return config


def _joint() -> ConfigDict:
    config = _youtube_vis()
    config.extra_datasets.coco = section(DatasetConfig, name="coco", split="train", source="data/COCO")
    return config


def _avis() -> ConfigDict:
    config = _youtube_vis()
    config.data = section(DatasetConfig, name="avis", split="train", source="data/AVIS")
    config.model.update(categories=20, audio=True)
    # The paper does not say whether VGGish is trained; frozen as "pre-trained" suggests (inferred).
    config.train.groups = (("^vggish/", 0.0), *RESNET)
    config.evaluation.datasets = ConfigDict({
        "dev": section(DatasetConfig, name="avis", split="dev"),
    })
    return config


def _shapes() -> ConfigDict:
    config = ConfigDict()
    made = {"height": 96, "width": 96, "length": 12, "train": 1000, "test": 60, "flow": False,
            "audio": False, "actors": (2, 3), "scale": 1.6, "seed": 0,
            "splits": ("source_train", "source_test", "target_test")}
    config.data = section(
        DatasetConfig, name="moving_shapes", split="source_train", options=made
    )
    config.extra_datasets = ConfigDict()
    config.clip = section(ClipConfig, height=96, width=96, flip=0.5)
    config.instances = section(InstanceConfig, objects=5)
    config.model = section(
        RcfConfig, categories=8, depth=18, width=16, backbone_norm="batch", channels=64, heads=4,
        hidden=128, encoder_layers=2, decoder_layers=2, queries=5, mask_channels=32, dropout=0.0,
    )
    # At 1e-3 for all, masks are learned and classes never; at 3e-4, both slowly.
    config.train = section(
        TrainConfig, steps=4000, batch_size=8, optimizer="adamw", learning_rate=1e-3, beta2=0.98,
        weight_decay=1e-4, schedule="cosine", warmup=100, clip_norm=1.0, log_every=50,
        checkpoint_every=500, groups=(("^fusion/", 0.3), ("^decoder/", 0.3)),
    )
    config.workers = 0
    config.evaluation = section(EvaluationConfig, protocol="youtube_vis", overlay_clips=4, datasets={
        "source": DatasetConfig(name="moving_shapes", split="source_test"),
        "target": DatasetConfig(name="moving_shapes", split="target_test"),
    })
    return config


def _shapes_audio() -> ConfigDict:
    config = _shapes()
    config.data.options.update(
        {"look_alikes": True, "audio": True, "splits": ("source_train", "source_test")})
    config.model.update(
        audio=True, vggish_width=8, audio_features=128, audio_hidden=32, vggish_frozen=False)
    config.train.steps = 2000
    del config.evaluation.datasets.target
    return config


def _videos() -> ConfigDict:
    config = _shapes()
    config.data = section(
        DatasetConfig, name="youtube_vis", split="train", source="data/videos",
        options={"dev": 0, "year": 0},
    )
    config.clip = section(ClipConfig, height=96, width=160, resize="pad", flip=0.5)
    config.train.update(steps=500, batch_size=4)
    config.evaluation.datasets = ConfigDict({
        "train": section(DatasetConfig, name="youtube_vis", split="train"),
    })
    return config
