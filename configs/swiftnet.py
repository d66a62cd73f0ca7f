"""swiftnet, first-frame adaptation of mask propagation, on SwiftNet and on STM.

Variants:
  stage1  First stage of the public recipe: clips generated from the images of COCO, 384x384,
          batches of 4.

              vseg train --config swiftnet:stage1 --workdir runs/swiftnet_1 \\
                --config.data.source=/data/coco \\
                --config.model.backbone_weights=/weights/resnet50.pth

          Any folder of images with index masks serves as well: `--config.data.name=stills
          --config.data.options='{}'`.

  stage2  Second stage: YouTube-VOS and DAVIS 2017. The largest frame skip grows by 1 every 3,000
          clips, 750 steps.

              vseg train --config swiftnet:stage2 --workdir runs/swiftnet_2 \\
                --config.init_from=runs/swiftnet_1 --config.data.source=/data/YouTubeVOS \\
                --config.extra_datasets.davis.source=/data/DAVIS

          With this training the paper reports J&F 78.0 on DAVIS 2017 val, 79.0 with adaptation.
          We have trained neither stage; `vseg dry_run` reports the cost of a step.

  stm, swiftnet18  The public models of both networks: STM with ResNet-50 (the authors' and those of
          the public training code), SwiftNet with ResNet-18. Every setting is that of their public
          evaluation on DAVIS; training continues with the second stage.

              vseg import --config swiftnet:stm --weights STM_weights.pth --output stm
              vseg evaluate --config swiftnet:stm --workdir stm \\
                --config.extra_datasets.davis.source=/data/DAVIS

  ovis    The evaluation of the paper's Table 1, of single objects of 25 videos of OVIS; the study
          `studies:adaptation_ovis` is the whole table:

              vseg evaluate --config swiftnet:ovis --workdir runs/swiftnet_2 \\
                --config.evaluation.datasets.vos25.source=/data/OVIS

  follow1, follow2  A small network that follows what the first mask names, for two CPU cores: an
          EfficientNet-Lite0, first on still images, then on DAVIS 2016 train, stills and synthetic
          videos. Two training sequences are kept aside, and choose the checkpoint that the next
          command reads; the val sequences are scored at the end.

              vseg train --config swiftnet:follow1 --workdir runs/follow_1 \\
                --config.data.source=/data/stills \\
                --config.evaluation.datasets.dev.source=/data/DAVIS
              vseg train --config swiftnet:follow2 --workdir runs/follow_2 \\
                --config.init_from=runs/follow_1/best --config.data.source=/data/DAVIS \\
                --config.extra_datasets.stills.source=/data/stills

  finetune  The shipped model, trained further on your own videos, a folder that `vseg data new`
          wrote. Minutes on two CPU cores. The documentation has an example with its scores.

              vseg train --config swiftnet:finetune --workdir runs/own --config.data.source=own
              vseg evaluate --config swiftnet:finetune --model swiftnet-lite0 \\
                --workdir runs/before --config.data.source=own

  adaptation  A test of first-frame adaptation: the shipped model follows one object at a time in
          three sets of look-alikes, with and without it: synthetic videos of the target domain
          whose objects differ from their distractors in texture alone (`shapes`), cut-outs of
          stills beside distractors of another hue (`cutouts`), and dogs-jump of DAVIS 2017
          (`dogs`). Nothing is trained. About 80 minutes on one busy CPU core; the page of the paper
          has the results.

              vseg study --config studies:adaptation --workdir runs/adaptation \
                --config.data.source=/data/stills \
                --config.evaluation.datasets.dogs.source=/data/DAVIS

          The names of the stills must tell apart those with objects to cut out from those of the
          backgrounds (`evaluation.datasets.cutouts.options`).

  shapes  Synthetic videos only; a ResNet-18 with a quarter of its width, from scratch. A small
          config for trials; its settings have not been tuned, nor has it been run to the end.

              vseg train --config swiftnet:shapes --workdir runs/shapes_vos

STM is `--config.model.network=stm`. Adaptation is switched on for `vseg evaluate` with
`--config.model.adaptation_steps=50`; static memory is `--config.model.memory_update=False` (the
paper's Table 1). The page of the paper lists all switches.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs._common import finish, link, own_data, variant_of
from vseg_jax.input_pipeline.settings import ClipConfig, DatasetConfig, PropagationConfig
from vseg_jax.models.swiftnet import SwiftnetConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.training.settings import TrainConfig


def get_config(variant: str = "stage1") -> ConfigDict:
    """Returns the config of a variant; raises ValueError where there is none of that name."""
    return finish(variant_of(VARIANTS, variant, "swiftnet"), "swiftnet")


def _public() -> ConfigDict:
    """Returns what both stages of the public recipe share."""
    config = ConfigDict()
    config.clip = section(ClipConfig, height=384, width=384)
    config.model = section(SwiftnetConfig)
    config.train = section(
        TrainConfig, steps=200_000, batch_size=4, learning_rate=1e-5, checkpoint_every=2000
    )
    config.extra_datasets = ConfigDict()
    config.workers = 8
    config.evaluation = section(EvaluationConfig, protocol="davis", datasets={
        "davis_val": DatasetConfig(name="davis", split="val", source="data/DAVIS"),
    })
    return config


def _stage1() -> ConfigDict:
    config = _public()
    config.data = section(
        DatasetConfig, name="coco", split="train", source="data/coco", options={"names": "all"}
    )
    config.propagation = section(PropagationConfig, stills=1.0)
    config.model.cut_gradient = False
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
    config.train.update(schedule="poly", power=0.9)
    link(config.extra_datasets.davis, [config.evaluation.datasets.davis_val], "source")
    return config


def _public_model(**keys: object) -> ConfigDict:
    config = _stage2()
    config.model.update(keys)
    config.evaluation.short_side = 480
    return config


def _stm() -> ConfigDict:
    return _public_model(network="stm")


def _swiftnet18() -> ConfigDict:
    return _public_model(depth=18)


def _ovis() -> ConfigDict:
    config = _stage2()
    config.model.objects = 1
    config.evaluation = section(EvaluationConfig, protocol="ovis", datasets={
        "vos25": DatasetConfig(name="ovis", split="vos25", source="data/OVIS"),
    })
    return config


# Kept aside: a dancer, fast and deforming, and a flamingo beside others.
HOLDOUT = ("dance-jump", "flamingo")


def _follow1() -> ConfigDict:
    config = ConfigDict()
    config.data = section(DatasetConfig, name="stills", split="train", source="data/stills")
    config.extra_datasets = ConfigDict()
    config.clip = section(ClipConfig, height=192, width=192)
    config.propagation = section(
        PropagationConfig, length=2, objects=1, stills=1.0, stills_zoom=(1.0, 1.7), color=0.2
    )
    # At initialization the keys are the encoder's map at stride 16, all 112 channels of it.
    config.model = section(
        SwiftnetConfig, backbone="efficientnet_lite0", key_channels=112, value_channels=112,
        mdim=64, dropout=0.0, objects=4, tied_key_gain=2.2, min_confidence=0.95,
        backbone_weights="package:efficientnet-lite0",
    )
    config.train = section(
        TrainConfig, steps=9000, batch_size=8, learning_rate=5e-4, schedule="cosine", warmup=100,
        clip_norm=1.0, ema=0.998, groups=_groups(0.05), delays=((LAST_BLOCKS, 1000),),
        log_every=50, checkpoint_every=500, evaluate_every=1500,
    )
    config.workers = 0
    config.evaluation = section(
        EvaluationConfig, protocol="davis", short_side=240, choose_by="dev/J&F", datasets={
            "dev": DatasetConfig(name="davis", split="holdout", source="data/DAVIS", options={
                "year": 2016, "holdout": HOLDOUT,
            }),
        })
    return config


def _follow2() -> ConfigDict:
    config = _follow1()
    config.data = section(
        DatasetConfig, name="davis", split="train", source="data/DAVIS", weight=0.5,
        options={"year": 2016, "holdout": HOLDOUT},
    )
    config.extra_datasets = ConfigDict({
        "stills": section(
            DatasetConfig, name="stills", split="train", source="data/stills", weight=0.35
        ),
        "shapes": section(
            DatasetConfig, name="moving_shapes", split="source_train", weight=0.15,
            options={"height": 192, "width": 320, "length": 20, "train": 100, "test": 4,
                     "flow": False, "audio": False, "splits": ("source_train",)},
        ),
    })
    # A short side of 240 to 480 is 1.25 to 2.5 times that of the input. Objects of stills fill more
    # of their images, which are therefore enlarged less.
    config.propagation.update(
        length=3, objects=2, stills=0.0, final_length=5, final_from=2000, zoom=(1.1, 2.6),
        skip_start=3, skip_max=15, skip_every=600,
    )
    config.train.update(
        steps=3000, learning_rate=3e-4, groups=_groups(0.02), delays=(), evaluate_every=600,
    )
    config.evaluation.datasets["val"] = section(DatasetConfig, name="davis", split="val")
    link(config.data, config.evaluation.datasets.values(), "source", "options")
    return config


def _finetune() -> ConfigDict:
    config = _follow1()
    config.data, datasets = own_data()
    # Clips of videos and, because few frames are annotated, of single frames that are changed and
    # have other objects pasted in.
    config.propagation.update(
        length=3, objects=2, stills=0.3, zoom=(1.0, 2.0), stills_zoom=(1.0, 2.0), skip_start=2,
        skip_max=2,
    )
    config.train.update(
        steps=200, batch_size=2, learning_rate=1e-4, warmup=20, ema=0.98, groups=_groups(0.02),
        delays=(), log_every=20, checkpoint_every=100, evaluate_every=0,
    )
    config.evaluation.choose_by, config.evaluation.datasets = "", datasets
    config.init_from = "swiftnet-lite0"
    return config


# Adam changes all weights of a kernel by the same amount. The keys sum thousands of inputs that are
# never negative, so they tolerate only small rates.
LAST_BLOCKS = "^encoder/lite/block(8|9|10)_"   # those of the map at stride 16


def _groups(encoder: float) -> tuple[tuple[str, float], ...]:
    """Returns the parameter groups, with this multiplier for the encoder's last blocks."""
    return ((LAST_BLOCKS, encoder), ("^encoder/", 0.0), ("/key/", 0.1),
            ("^(aggregation|memory_kv|query_kv|aspp)/", 0.3))


# Sets of stills, by how the names of their images begin: Clothing Co-Parsing, PennFudan, BSDS500.
CUT_OUT, BACKGROUNDS = ("ccp_", "penn_"), ("bsds_",)


def _adaptation() -> ConfigDict:
    config = _follow1()
    config.model.objects = 1
    config.evaluation = section(EvaluationConfig, protocol="ovis", short_side=192, datasets={
        "shapes": DatasetConfig(name="moving_shapes", split="target_test", options={
            "height": 192, "width": 192, "length": 36, "flow": False, "audio": False, "train": 1,
            "test": 25, "splits": ("target_test",), "actors": (4, 6),
            "differs": (0.0, 0.0, 0.0, 1.0, 0.0),
        }),
        "cutouts": DatasetConfig(name="cutouts", split="test", options={
            "objects": CUT_OUT, "backgrounds": BACKGROUNDS,
        }),
        "dogs": DatasetConfig(name="davis", split="val", source="data/DAVIS", options={
            "sequences": ("dogs-jump",),
        }),
    })
    link(config.data, [config.evaluation.datasets.cutouts], "source")
    return config


def _shapes() -> ConfigDict:
    config = ConfigDict()
    options = {
        "height": 96, "width": 96, "length": 16, "train": 400, "test": 20, "flow": False,
        "audio": False, "splits": ("source_train", "source_test", "target_test"),
    }
    config.data = section(
        DatasetConfig, name="moving_shapes", split="source_train", options=options
    )
    config.extra_datasets = ConfigDict()
    config.clip = section(ClipConfig, height=96, width=96)
    config.propagation = section(PropagationConfig, objects=3, skip_max=4, skip_every=800)
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
    link(config.data, config.evaluation.datasets.values(), "options")
    return config


VARIANTS = {
    "stage1": _stage1, "stage2": _stage2, "stm": _stm, "swiftnet18": _swiftnet18, "ovis": _ovis,
    "follow1": _follow1, "follow2": _follow2, "finetune": _finetune,
    "adaptation": _adaptation, "shapes": _shapes,
}
