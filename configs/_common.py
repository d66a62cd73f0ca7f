"""What several config files share: how a variant is chosen, and keys that follow from others."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.input_pipeline.settings import DatasetConfig

T = TypeVar("T")

# Keys of models that repeat a key elsewhere in the config: {key of the model: (section, key)}.
DERIVED = {
    "clip_length": ("clip", "length"),
    "clip_stride": ("clip", "stride"),
    "clip_target": ("clip", "target"),
    "max_words": ("text", "length"),
    "total_steps": ("train", "steps"),
}


def variant_of(variants: Mapping[str, Callable[[], T]], name: str, file: str) -> T:
    """Returns what the function of a variant returns.

    Args:
      variants: {name: function}.
      name: the variant that is asked for.
      file: name of the config file, for the error.

    Raises:
      ValueError: there is no variant of that name.
    """
    if name not in variants:
        raise ValueError(f"{file} has no variant '{name}'; there are {', '.join(variants)}")
    return variants[name]()


def link(data: ConfigDict, datasets: Iterable[ConfigDict], *keys: str) -> None:
    """Makes keys of `datasets` follow those of `data`, also when they are overridden."""
    for dataset in datasets:
        for key in keys:
            shared = isinstance(data[key], ConfigDict)
            dataset[key] = data[key] if shared else data.get_ref(key)


def own_data(expressions: bool = False) -> tuple[ConfigDict, ConfigDict]:
    """Returns the training data and the evaluated datasets of a folder that `vseg data new` wrote.

    The dataset is prepared inside the folder, so that a new one is never mistaken for an old one.

    Args:
      expressions: whether the task needs them.
    """
    data = section(DatasetConfig, name="davis", split="train", source="own", options={"year": 0})
    data.prepared = data.get_ref("source") + "/prepared"
    if expressions:
        data.options.queries = data.get_ref("source") + "/expressions.json"
    datasets = ConfigDict({"val": section(DatasetConfig, name="davis", split="val")})
    link(data, datasets.values(), "source", "options")
    return data, datasets


def finish(config: ConfigDict, system: str) -> ConfigDict:
    """Names the system and makes the keys that repeat others follow them; returns `config`."""
    config.system = system
    config.init_from = config.get("init_from", "")
    config.init_fresh = config.get("init_fresh", ())
    for key, (name, source) in DERIVED.items():
        if key in config.model:
            config.model[key] = config[name].get_ref(source)
    extra = config.get("extra_datasets", {})
    link(config.data, (*extra.values(), *config.evaluation.datasets.values()), "prepared")
    return config
