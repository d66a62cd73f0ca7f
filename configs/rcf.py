"""rcf, online video instance segmentation, optionally with audio.

Variants:
  youtube_vis  Second part of the paper's recipe: YouTube-VIS 2019, initialized from the run of
               `joint`. ResNet-101, 60,000 steps of 16 clips.

                   vseg train --config rcf:youtube_vis --workdir runs/rcf \\
                     --config.data.source=/data/YouTubeVIS --config.init_from=runs/rcf_joint

               The paper reports AP 40.8 on valid (Table I), which only the benchmark's server can
               score; here 200 train videos are held out as `dev`. We have not trained it;
               `vseg dry_run` reports the cost of a step.

  joint        First part: YouTube-VIS together with COCO's images of the shared categories.

                   vseg train --config rcf:joint --workdir runs/rcf_joint \\
                     --config.data.source=/data/YouTubeVIS \\
                     --config.extra_datasets.coco.source=/data/COCO \\
                     --config.model.backbone_weights=/weights/resnet101.pth

  joint_swin, youtube_vis_swin  The same two parts with Swin-B. The paper reports AP 44.9 on valid,
               and 47.6 with `--config.model.swin=large`.

                   vseg train --config rcf:joint_swin --workdir runs/rcf_joint_swin \\
                     --config.data.source=/data/YouTubeVIS \\
                     --config.extra_datasets.coco.source=/data/COCO \\
                     --config.model.backbone_weights=/weights/swin_base_patch4_window12_384_22k.pth

  avis         The paper's dataset with audio is not published. This variant takes your own videos
               in its format, with 20 categories. We have not trained it.

                   vseg train --config rcf:avis --workdir runs/avis \\
                     --config.data.source=/data/AVIS --config.init_from=runs/rcf \\
                     --config.model.vggish_weights=/weights/vggish.pth

  real         For videos of real persons, animals and vehicles, on one CPU core: an
               EfficientNet-Lite0 with ImageNet weights from a public package, trained on clips made
               from stills with categories (`refer_stills` without expressions). Half of the clips
               show a still as it is, under a moving camera; in the others, objects are pasted,
               enter and hide each other. The best checkpoint is chosen on clips of held-out stills
               (`stills`). DAVIS 2016, which has one mask and no category in each video, is scored
               without categories: the four training sequences that `qvim:real` holds out (`dev`),
               and `val`. The shipped model `rcf-lite0` is a run of it: 84 minutes.

                   pip install 'vseg_jax[models]'
                   vseg train --config rcf:real --workdir runs/rcf_real \\
                     --config.data.source=/data/stills \\
                     --config.evaluation.datasets.dev.source=/data/DAVIS

  shapes       Synthetic videos, a small model from scratch on CPU cores: the paper's training, on a
               map of stride 16 and with a mask decoder that also reads where a cell is and what is
               under each mask. An object starts at a higher probability than it stays, and a hidden
               one is remembered for some frames.

                   vseg train --config rcf:shapes --workdir runs/shapes_vis

  shapes_audio  Synthetic videos of two actors that look alike. The larger one emits a tone,
               and only this tone reveals its category. `--config.model.audio=False` trains the same
               model without audio.

                   vseg train --config rcf:shapes_audio --workdir runs/shapes_audio

  videos       Your own videos in the format of YouTube-VIS, the small model from scratch, scored on
               its training videos: a check that training on your masks and predicting work. The
               page of YouTube-VIS in the documentation shows how to turn a prepared dataset into
               such a folder. For more than a check, use more videos, a wider model and a split for
               scores.

                   vseg train --config rcf:videos --workdir runs/videos \\
                     --config.data.source=videos --config.model.categories=2

  finetune     The shipped model `rcf-lite0`, trained further on your own videos, a folder that
               `vseg data new` wrote. The head of the classes is initialized afresh, because yours
               are others.

                   vseg train --config rcf:finetune --workdir runs/own_rcf \\
                     --config.data.source=own --config.model.categories=2

The page of the paper lists all switches.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs._common import finish, link, own_data, variant_of
from vseg_jax.input_pipeline.settings import ClipConfig, DatasetConfig, InstanceConfig
from vseg_jax.models.rcf import RcfConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.training.settings import TrainConfig

# When a slot has an object, and which identity, by rules that the paper does not have.
RULES = {"keep": 0.2, "duplicate_iou": 0.5, "override_frames": 8}
# A tenth of the rate for the ResNet; weight decay would change its frozen norms.
RESNET = (("^backbone/.*norm", 0.0), ("^backbone/", 0.1))


def get_config(variant: str = "youtube_vis") -> ConfigDict:
    """Returns the config of a variant; raises ValueError where there is none of that name."""
    config = variant_of(VARIANTS, variant, "rcf")
    config.instances.references = config.model.get_ref("references")
    config.instances.uses_audio = config.model.get_ref("audio")
    same = [data for data in config.evaluation.datasets.values() if not data.options]
    link(config.data, same, "source", "options")
    return finish(config, "rcf")


def _youtube_vis() -> ConfigDict:
    config = ConfigDict()
    config.data = section(
        DatasetConfig, name="youtube_vis", split="train", source="data/YouTubeVIS"
    )
    config.extra_datasets = ConfigDict()
    # 640x360 as at test time. "Multi-scale training is adopted": crop and shrink make objects 0.8
    # to 1.67 times as large, about the short sides of 288 to 512 of VisTR (inferred).
    config.clip = section(
        ClipConfig, height=360, width=640, resize="pad", crop=0.6, shrink=0.8, flip=0.5
    )
    config.instances = section(InstanceConfig)
    config.model = section(RcfConfig)
    config.train = section(
        TrainConfig, steps=60_000, batch_size=16, optimizer="adamw", learning_rate=6e-4,
        weight_decay=1e-4, schedule="poly", power=0.9, warmup=1000, clip_norm=0.01,
        groups=RESNET, log_every=100, checkpoint_every=2000,
    )
    config.workers = 8
    config.evaluation = section(
        EvaluationConfig, protocol="youtube_vis", overlay_clips=4,
        datasets={"dev": DatasetConfig(name="youtube_vis", split="dev")},
    )
    return config


def _joint() -> ConfigDict:
    config = _youtube_vis()
    config.extra_datasets.coco = section(
        DatasetConfig, name="coco", split="train", source="data/COCO"
    )
    return config


def _swin(config: ConfigDict) -> ConfigDict:
    """Returns a config with the paper's recipe for Swin backbones."""
    config.model.backbone = "swin"
    config.train.update(learning_rate=3e-4, weight_decay=1e-2, groups=())
    return config


def _avis() -> ConfigDict:
    config = _youtube_vis()
    config.data = section(DatasetConfig, name="avis", split="train", source="data/AVIS")
    config.model.update(categories=20, audio=True)
    # The paper does not say whether VGGish is trained; "pre-trained" suggests that it is frozen
    # (inferred).
    config.train.groups = (("^vggish/", 0.0), *RESNET)
    config.evaluation.datasets = ConfigDict({
        "dev": section(DatasetConfig, name="avis", split="dev"),
    })
    return config


def _small() -> ConfigDict:
    """Returns the config that the small variants have in common."""
    config = ConfigDict()
    options = {
        "height": 96, "width": 96, "length": 12, "train": 1000, "test": 60, "flow": False,
        "audio": False, "actors": (2, 3), "scale": 1.6, "seed": 0,
        "splits": ("source_train", "source_test", "target_test"),
    }
    config.data = section(
        DatasetConfig, name="moving_shapes", split="source_train", options=options
    )
    config.extra_datasets = ConfigDict()
    config.clip = section(ClipConfig, height=96, width=96, flip=0.5)
    config.instances = section(InstanceConfig, objects=5)
    config.model = section(
        RcfConfig, categories=8, depth=18, width=16, backbone_norm="batch", channels=64, heads=4,
        hidden=128, encoder_layers=2, decoder_layers=2, mask_channels=32, dropout=0.0,
        fuse_stride=16, coordinates=True, positions="once", class_pooling=True,
    )
    config.train = section(
        TrainConfig, steps=4000, batch_size=8, optimizer="adamw", learning_rate=1e-3, beta2=0.98,
        weight_decay=1e-4, schedule="cosine", warmup=100, clip_norm=1.0, log_every=50,
        checkpoint_every=500, groups=(("^fusion/", 0.3), ("^decoder/", 0.3)),
    )
    config.workers = 0
    config.evaluation = section(
        EvaluationConfig, protocol="youtube_vis", overlay_clips=4,
        datasets={
            "source": DatasetConfig(name="moving_shapes", split="source_test"),
            "target": DatasetConfig(name="moving_shapes", split="target_test"),
        },
    )
    return config


def _shapes() -> ConfigDict:
    config = _small()
    config.data.options.train = 4000
    config.model.update(RULES)
    config.train.update(steps=10_000, ema=0.999, checkpoint_every=1000)
    # Longer videos of more actors, which have more occlusions.
    config.evaluation.datasets.long = section(
        DatasetConfig, name="moving_shapes", split="source_test", options={
            **config.data.options.to_dict(), "length": 36, "actors": (4, 4),
            "splits": ("source_test",),
        },
    )
    return config


def _shapes_audio() -> ConfigDict:
    config = _small()
    config.data.options.update(
        {"look_alikes": "category", "audio": True, "splits": ("source_train", "source_test")})
    config.model.update(
        audio=True, vggish_width=8, audio_features=128, audio_hidden=32, vggish_frozen=False)
    config.train.steps = 2000
    del config.evaluation.datasets.target
    return config


def _videos() -> ConfigDict:
    config = _small()
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


# What the stills show often enough; other animals resemble one of these, and the vehicles of stills
# are mostly cars. Everything else is background.
REAL = ("person", "dog", "cat", "horse", "cow", "sheep", "bird", "vehicle")
VEHICLES = ("car", "bus", "train", "boat", "motorbike", "bicycle")
REAL_HOLDOUT = ("bus", "dance-jump", "flamingo", "horsejump-low")   # as in configs/qvim.py
# Public norms stay as they are; of the rest, only the blocks of the maps at strides 16 and 32 are
# trained.
LITE = (("^backbone/.*norm", 0.0), ("^backbone/block([89]|1[0-5])_", 0.05), ("^backbone/", 0.0))


def _real() -> ConfigDict:
    config = ConfigDict()
    config.data = section(
        DatasetConfig, name="refer_stills", split="train", source="data/stills", options={
            "height": 160, "width": 288, "length": 4, "train": 5000, "test": 60, "styles": (),
            "objects": (1, 5), "unpasted": 0.5, "keep": 0.5, "same": 0.3, "even": 0.5,
            "size": (0.25, 0.95), "moving": 0.8, "enter": 0.3, "covered": 0.6, "drift": 0.3,
            "renamed": tuple(f"{name}=vehicle" for name in VEHICLES),
            # Here to be the same for training and test when they are changed.
            "sets": (), "backgrounds": (), "held_out": 0.1, "seed": 0,
        },
    )
    config.extra_datasets = ConfigDict()
    config.clip = section(
        ClipConfig, height=128, width=224, resize="pad", crop=0.6, shrink=0.8, flip=0.5, color=0.3
    )
    config.instances = section(InstanceConfig, objects=8, categories=REAL, gap=(1, 3))
    config.model = section(
        RcfConfig, categories=len(REAL), backbone="efficientnet_lite0", fuse_stride=16,
        backbone_weights="package:efficientnet-lite0", channels=128, hidden=512, encoder_layers=2,
        decoder_layers=3, queries=8, mask_channels=32, pixel_channels=64, dropout=0.0,
        order_supervision=True, **RULES | {"fire": 0.3, "keep": 0.1},
    )
    config.train = section(
        TrainConfig, steps=5000, batch_size=8, optimizer="adamw", learning_rate=5e-4, beta2=0.98,
        weight_decay=1e-4, schedule="cosine", warmup=200, clip_norm=1.0, ema=0.998, groups=LITE,
        log_every=50, checkpoint_every=250, evaluate_every=1000,
    )
    config.workers = 0
    davis = {"name": "davis", "source": "data/DAVIS",
             "options": {"year": 2016, "holdout": REAL_HOLDOUT}}
    config.evaluation = section(
        EvaluationConfig, protocol="youtube_vis", choose_by="stills/HOTA", overlay_clips=4,
        datasets={
            "stills": DatasetConfig(name="refer_stills", split="test"),
            "dev": DatasetConfig(split="holdout", **davis),
            "val": DatasetConfig(split="val", **davis),
        })
    scored, options = config.evaluation.datasets, config.data.options
    link(config.data, [scored.stills], "source")
    scored.stills.options = {key: options.get_ref(key) for key in options} | {
        "length": 12, "train": 1}
    link(scored.dev, [scored.val], "source", "options")
    return config


def _finetune() -> ConfigDict:
    config = _real()
    config.data, datasets = own_data()
    config.instances.categories = ()
    config.train.update(steps=300, batch_size=4, learning_rate=2e-4, warmup=20, ema=0.99,
                        checkpoint_every=100, evaluate_every=0)
    config.evaluation.choose_by, config.evaluation.datasets = "", datasets
    config.init_from, config.init_fresh = "rcf-lite0", ("^head/classes/",)
    return config


VARIANTS = {
    "youtube_vis": _youtube_vis, "joint": _joint,
    "youtube_vis_swin": lambda: _swin(_youtube_vis()), "joint_swin": lambda: _swin(_joint()),
    "avis": _avis, "shapes": _shapes, "shapes_audio": _shapes_audio, "videos": _videos,
    "real": _real, "finetune": _finetune,
}
