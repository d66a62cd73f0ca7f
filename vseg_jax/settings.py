"""The settings of a run: all sections of a config file; and those of a study."""

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

__all__ = ["EndpointConfig", "EvaluationConfig", "RowConfig", "Settings", "StudyConfig"]


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How a model is evaluated, and on which datasets."""

    # A dataset that is None is left out.
    datasets: dict[str, DatasetConfig | None] = dataclasses.field(default_factory=dict)
    # Referring segmentation: "legacy" and "coco" score single frames (vseg_jax.metrics.a2d),
    # "expressions" whole videos (vseg_jax.evaluation.expressions). Mask propagation: "davis",
    # "youtube_vos", "ovis" (vseg_jax.evaluation.propagation). Video instance segmentation:
    # "youtube_vis" (vseg_jax.evaluation.instances).
    protocol: Literal[
        "legacy", "coco", "expressions", "youtube_vis", "davis", "youtube_vos", "ovis"
    ] = "legacy"
    # "<dataset>/<score>", such as "dev/J&F": during the training only this dataset is evaluated
    # (every train.evaluate_every steps; at its end, all are), and the checkpoint with the highest
    # score is kept in the workdir's folder `best`, which can be used like a workdir.
    choose_by: str = ""
    short_side: int = 0  # mask propagation: the frame's shorter side in the model, pixels; 0: as is
    skip_absent: bool = False  # mask propagation: frames without an object do not count for it, in
    # place of an IoU of 1 where the prediction is empty too; the paper on OVIS does not say
    gt_roundtrip: bool = False  # "legacy", "coco": resize the ground truth to the input's size and
    # back, as CSTM does
    batch_size: int = 16  # "legacy", "coco": samples per batch, over all devices
    save: bool = False  # --mode evaluate saves predictions; vseg_jax.metrics can score them again
    overlay_clips: int = 0  # clips of each dataset in the workdir's overlay.mp4 after training; 0
    # writes no overview.png either

    def __post_init__(self) -> None:
        present = {name: data for name, data in self.datasets.items() if data is not None}
        object.__setattr__(self, "datasets", present)
        score = self.choose_by.partition("/")[2]
        if self.choose_by and (self.chooses not in present or not score):
            raise ValueError(f"evaluation.choose_by is '{self.choose_by}'; it must be a dataset of "
                             f"the evaluation ({', '.join(present) or 'there is none'}), a slash "
                             "and one of its scores, or ''")

    @property
    def chooses(self) -> str:
        """The dataset on which the best checkpoint is chosen, or ""."""
        return self.choose_by.partition("/")[0]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run, one field per section of a config file."""

    system: str  # key of vseg_jax.models.MODELS
    model: dict[str, Any]  # keys of the config of that model
    data: DatasetConfig  # for training
    train: TrainConfig
    # More training datasets, mixed with `data` by their weights.
    extra_datasets: dict[str, DatasetConfig] = dataclasses.field(default_factory=dict)
    clip: ClipConfig = dataclasses.field(default_factory=ClipConfig)
    propagation: PropagationConfig = dataclasses.field(default_factory=PropagationConfig)
    instances: InstanceConfig = dataclasses.field(default_factory=InstanceConfig)
    text: TextConfig = dataclasses.field(default_factory=TextConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    init_from: str = ""  # trained model whose variables this run is initialized from: a workdir, an
    #                      export or the name of a shipped model
    # Patterns of parameters that are initialized afresh though `init_from` has them, such as those
    # of a head for other categories; whole modules.
    init_fresh: tuple[str, ...] = ()
    workers: int = 0  # processes that load training samples; 0 loads them in threads


@dataclasses.dataclass(frozen=True)
class RowConfig:
    """A row of a study's table.

    Attributes:
      config: name of the runs' config, see `vseg_jax.config.load`.
      changes: {key below the config: value}, as `--config.key=value` sets them.
      init_from: another row of the study; the run of each seed is initialized from the variables
        of that row's run with the same seed. Empty for none.
      trains: whether the runs train. If not, they evaluate the model that they are initialized
        from: that of the row `init_from`, or the one that the key `init_from` of the config names.
    """

    config: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    init_from: str = ""
    trains: bool = True


@dataclasses.dataclass(frozen=True)
class EndpointConfig:
    """What a study decides, fixed in its file before it is run.

    Attributes:
      dataset: the test set, whose mean IoU is compared.
      row: the row under test.
      rivals: the rows that it is compared with.
    """

    dataset: str
    row: str
    rivals: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.rivals or self.row in self.rivals:
            raise ValueError(f"the endpoint compares '{self.row}' with the rivals "
                             f"{list(self.rivals)}; name at least one, and not the row itself")


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A comparison of configs: rows of settings, each run with several seeds.

    Attributes:
      rows: {name: row}; the names are names of folders too.
      columns: {heading: path in the scores}, such as "source/mean_iou".
      seeds: values of `train.seed`; the same for every row, so that rows can be compared in pairs.
      baseline: the row that the others are tested against, each column by itself; "" for no test.
      endpoint: the only test of the study, in place of those against the baseline; or None.
      lines: {legend: {tick: row}}; the figure then has lines over the ticks in place of bars.
      paired: {row: another row}; the report then has the difference of the two in the IoU of each
        sample, with an interval, on each dataset of the columns.
    """

    rows: Mapping[str, RowConfig]
    columns: Mapping[str, str]
    seeds: tuple[int, ...] = (0, 1, 2)
    baseline: str = ""
    endpoint: EndpointConfig | None = None
    lines: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    paired: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows or not self.columns or not self.seeds:
            raise ValueError("a study needs at least one row, one column and one seed")
        for name in self.rows:
            if not re.fullmatch(r"[\w.+-]+", name):
                raise ValueError(f"row '{name}' cannot name a folder; use letters, digits and _.+-")
        named = [row for line in self.lines.values() for row in line.values()]
        named += [row for pair in self.paired.items() for row in pair]
        if self.baseline:
            named.append(self.baseline)
        if self.endpoint is not None:
            named += [self.endpoint.row, *self.endpoint.rivals]
            if len(self.seeds) < 2:
                raise ValueError("an endpoint needs at least two seeds")
        for row in named:
            if row not in self.rows:
                raise ValueError(f"'{row}' (baseline, line, pair or endpoint) is not one of the "
                                 f"rows ({', '.join(self.rows)})")
        starts = [name for name, config in self.rows.items()
                  if config.trains and not config.init_from]
        for name, config in self.rows.items():
            if config.init_from and config.init_from not in starts:
                raise ValueError(f"row '{name}' is initialized from '{config.init_from}'; it must "
                                 "be a row that is trained and has no init_from itself "
                                 f"({', '.join(starts)})")
