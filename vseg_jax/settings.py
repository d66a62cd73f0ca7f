"""What a config file says, whole: the sections of all rooms joined; and what a study says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

from vseg_jax.input_pipeline.settings import (
    ClipConfig,
    DatasetConfig,
    InstanceConfig,
    PropagationConfig,
    TextConfig,
)
from vseg_jax.training.settings import TrainConfig


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What a model is scored on."""

    # None leaves a dataset out that the config file has.
    datasets: dict[str, DatasetConfig | None] = dataclasses.field(default_factory=dict)
    # "legacy" and "coco" score sentences frame by frame, see metrics/a2d.py; "expressions" over
    # whole videos, see inference/expressions.py; "youtube_vis" objects that the model finds by
    # itself, see inference/instances.py; the others masks that are carried through a video, see
    # inference/propagate.py.
    protocol: Literal[
        "legacy", "coco", "expressions", "youtube_vis", "davis", "youtube_vos", "ovis"
    ] = "legacy"
    short_side: int = 0  # of masks: the frame's shorter side inside the model, pixels; 0 = its own
    gt_roundtrip: bool = False  # truth goes through the input's size and back, as CSTM does
    batch_size: int = 16
    save: bool = False  # keep the answers: commands in vseg_jax.metrics score them again
    overlay_clips: int = 0  # clips of each dataset shown in the workdir's overlay.mp4 after training

    def __post_init__(self):
        kept = {name: data for name, data in self.datasets.items() if data is not None}
        object.__setattr__(self, "datasets", kept)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A config file. `model` holds the keys of the config of the model `system`."""

    system: str  # a key of vseg_jax.models.MODELS
    model: dict[str, Any]
    data: DatasetConfig
    train: TrainConfig
    extra_datasets: dict[str, DatasetConfig] = dataclasses.field(default_factory=dict)  # mixed with `data`
    clip: ClipConfig = dataclasses.field(default_factory=ClipConfig)
    propagation: PropagationConfig = dataclasses.field(default_factory=PropagationConfig)
    instances: InstanceConfig = dataclasses.field(default_factory=InstanceConfig)
    text: TextConfig = dataclasses.field(default_factory=TextConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    init_from: str = ""  # workdir or export of a run whose variables this one begins with
    workers: int = 0  # processes that load training samples; 0 loads in threads


@dataclasses.dataclass(frozen=True)
class RowConfig:
    """One line of the table.

    Attributes:
      config: file and variant of the runs' config.
      changes: {key below the config: value}, as `--config.key=value` sets them.
    """

    config: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What is compared.

    Attributes:
      rows: {name: row}; names are folders too.
      columns: {heading: path in the scores}, such as "source/mean_iou".
      seeds: of `train.seed`; the same for every row, so that rows can be compared in pairs.
      baseline: the row that the others are tested against; "" for no test.
      lines: {legend: {tick: row}}, for a figure of lines over the ticks in place of bars.
    """

    rows: Mapping[str, RowConfig]
    columns: Mapping[str, str]
    seeds: tuple[int, ...] = (0, 1, 2)
    baseline: str = ""
    lines: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.rows or not self.columns or not self.seeds:
            raise ValueError("a study needs a row, a column and a seed at least")
        for name in self.rows:
            if not re.fullmatch(r"[\w.+-]+", name):
                raise ValueError(f"row '{name}' names a folder: letters, digits and _.+- only")
        named = [row for line in self.lines.values() for row in line.values()]
        for row in [self.baseline, *named] if self.baseline else named:
            if row not in self.rows:
                raise ValueError(f"baseline or line '{row}' is none of the rows "
                                 f"({', '.join(self.rows)})")
