"""What several config files share: how a variant is chosen, and keys that follow from others."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ml_collections import ConfigDict

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


def finish(config: ConfigDict, system: str) -> ConfigDict:
    """Names the system and makes the keys that repeat others follow them; returns `config`."""
    config.system = system
    config.init_from = ""
    for key, (section, source) in DERIVED.items():
        if key in config.model:
            config.model[key] = config[section].get_ref(source)
    extra = config.get("extra_datasets", {})
    link(config.data, (*extra.values(), *config.evaluation.datasets.values()), "prepared")
    return config
