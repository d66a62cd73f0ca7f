"""swiftnet, first-frame adaptation of mask propagation, on SwiftNet and on STM.

Variants:
  stage1  The public recipe's first stage: clips made of stills (COCO in the public code; any folder
          of images with index masks here), 384x384, batches of 4.

              python -m vseg_jax.main --config configs/swiftnet.py:stage1 \\
                --workdir runs/swiftnet_1 --config.data.source=/data/stills \\
                --config.model.backbone_weights=/weights/resnet50.pth

  stage2  Its second stage: YouTube-VOS and DAVIS 2017, the skip growing by 1 every 3,000 steps.

              python -m vseg_jax.main --config configs/swiftnet.py:stage2 \\
                --workdir runs/swiftnet_2 --config.init_from=runs/swiftnet_1 \\
                --config.data.source=/data/YouTubeVOS --config.extra_datasets.davis.source=/data/DAVIS

          The paper's numbers with this training: J&F 78.0 on DAVIS 2017 val, 79.0 with adaptation.
          Neither stage has been trained by us; `--mode dry_run` says what a step costs.

  davis1, davis2  A real but small set that a CPU can do: 10 sequences of DAVIS 2016 and made clips,
          a frozen EfficientNet-Lite0; pairs of frames first, then clips of three. The numbers are
          in docs/results.md.

              python -m vseg_jax.main --config configs/swiftnet.py:davis1 --workdir runs/davis_1 \\
                --config.data.source=/data/DAVIS \\
                --config.model.backbone_weights=/weights/efficientnet-lite0.pth
              python -m vseg_jax.main --config configs/swiftnet.py:davis2 --workdir runs/davis_2 \\
                --config.data.source=/data/DAVIS --config.init_from=runs/davis_1

  shapes  Made videos alone, ResNet-18 of a quarter of the width from scratch. A small set for
          trials; its numbers have not been tuned, nor run to the end.

              python -m vseg_jax.main --config configs/swiftnet.py:shapes --workdir runs/shapes_vos

STM is `--config.model.network=stm`. With adaptation, `--mode evaluate` and
`--config.model.adaptation_steps=50`; static memory, `--config.model.memory_update=False`: the
paper's Table 1. All switches: docs/papers/swiftnet.md.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.input_pipeline.settings import ClipConfig, DatasetConfig, PropagationConfig
from vseg_jax.models.swiftnet import SwiftnetConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.training.settings import TrainConfig

VARIANTS = ("stage1", "stage2", "davis1", "davis2", "shapes")


def get_config(variant: str = "stage1") -> ConfigDict:
    """The config of a variant; raises ValueError where there is none of that name."""
    if variant not in VARIANTS:
        raise ValueError(f"swiftnet has no variant '{variant}'; there are {', '.join(VARIANTS)}")
    config = {"stage1": _stage1, "stage2": _stage2, "davis1": _davis1, "davis2": _davis2,
              "shapes": _shapes}[variant]()
    config.system = "swiftnet"
    config.init_from = ""
    for dataset in (*config.extra_datasets.values(), *config.evaluation.datasets.values()):
        dataset.prepared = config.data.get_ref("prepared")
    return config


def _public(**train) -> ConfigDict:
    """What both stages of the public recipe share."""
    config = ConfigDict()
    config.clip = section(ClipConfig, height=384, width=384)
    config.model = section(SwiftnetConfig)
    config.train = section(TrainConfig, **{
        "steps": 200_000, "batch_size": 4, "learning_rate": 1e-5, "schedule": "poly",
        "power": 0.9, "checkpoint_every": 2000, **train,
    })
    config.extra_datasets = ConfigDict()
    config.workers = 8
    config.evaluation = section(EvaluationConfig, protocol="davis", datasets={
        "davis_val": DatasetConfig(name="davis", split="val", source="data/DAVIS"),
    })
    return config


def _stage1() -> ConfigDict:
    config = _public()
    config.data = section(DatasetConfig, name="stills", split="train", source="data/stills")
    config.propagation = section(PropagationConfig, stills=1.0)
    return config


def _stage2() -> ConfigDict:
    config = _public()
    config.data = section(
        DatasetConfig, name="youtube_vos", split="train", source="data/YouTubeVOS", weight=0.92
    )
    config.extra_datasets.davis = section(
        DatasetConfig, name="davis", split="train", source="data/DAVIS", weight=0.08
    )
    config.propagation = section(PropagationConfig)
    config.evaluation.datasets.davis_val.source = config.extra_datasets.davis.get_ref("source")
    return config


def _davis1() -> ConfigDict:
    config = ConfigDict()
    config.data = section(
        DatasetConfig, name="davis", split="train", source="data/DAVIS", options={"year": 2016},
        weight=0.8,
    )
    config.extra_datasets = ConfigDict({"shapes": section(
        DatasetConfig, name="moving_shapes", split="source_train", weight=0.2,
        options={"height": 192, "width": 320, "length": 12, "train": 100, "test": 4,
                 "flow": False, "audio": False, "splits": ("source_train",)},
    )})
    config.clip = section(ClipConfig, height=128, width=224)
    config.propagation = section(
        PropagationConfig, length=2, objects=1, stills=0.4,
        skip_start=3, skip_max=12, skip_every=100,
        zoom=(1.4, 2.2), color=0.2,  # the zoom makes objects as large as at a short side of 240
    )
    # The keys begin as the encoder's map at stride 16 itself, all 112 channels of it.
    config.model = section(
        SwiftnetConfig, backbone="efficientnet_lite0", key_channels=112, value_channels=112,
        mdim=64, dropout=0.0, objects=1, tied_key_gain=2.2,
    )
    # Adam moves all of a kernel's weights alike: where thousands of inputs that are never negative
    # meet one weight each, the keys bear little.
    groups = (("^encoder/", 0.0), ("/key/", 0.1),
              ("^(aggregation|memory_kv|query_kv|aspp)/", 0.3))
    config.train = section(
        TrainConfig, steps=1600, batch_size=8, learning_rate=5e-4, warmup=20, clip_norm=1.0,
        groups=groups, log_every=50, checkpoint_every=400,
    )
    config.workers = 0
    config.evaluation = section(EvaluationConfig, protocol="davis", short_side=240, datasets={
        "val": DatasetConfig(name="davis", split="val"),
    })
    config.evaluation.datasets.val.source = config.data.get_ref("source")
    config.evaluation.datasets.val.options = config.data.options
    return config


def _davis2() -> ConfigDict:
    config = _davis1()
    config.propagation.length = 3
    config.propagation.skip_start = 5
    config.train.steps = 1700
    config.train.learning_rate = 4e-4
    config.train.schedule = "cosine"
    config.train.ema = 0.995
    config.train.checkpoint_every = 300
    return config


def _shapes() -> ConfigDict:
    config = ConfigDict()
    made = {"height": 96, "width": 96, "length": 16, "train": 400, "test": 20, "flow": False,
            "audio": False, "splits": ("source_train", "source_test", "target_test")}
    config.data = section(
        DatasetConfig, name="moving_shapes", split="source_train", options=made
    )
    config.extra_datasets = ConfigDict()
    config.clip = section(ClipConfig, height=96, width=96)
    config.propagation = section(PropagationConfig, objects=3, skip_max=4, skip_every=100)
    config.model = section(SwiftnetConfig, depth=18, width=16, dropout=0.0)
    config.train = section(
        TrainConfig, steps=800, batch_size=8, learning_rate=1e-3, schedule="cosine", warmup=50,
        clip_norm=1.0, log_every=20, checkpoint_every=200,
    )
    config.workers = 0
    config.evaluation = section(EvaluationConfig, protocol="davis", overlay_clips=2, datasets={
        "source": DatasetConfig(name="moving_shapes", split="source_test"),
        "target": DatasetConfig(name="moving_shapes", split="target_test"),
    })
    for dataset in config.evaluation.datasets.values():
        dataset.options = config.data.options
    return config
