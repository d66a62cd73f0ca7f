"""Every config file and variant builds its model, and its batches fit it."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax import experiment
from vseg_jax.input_pipeline.builders.moving_shapes.scene import ATTRIBUTES

CONFIGS = Path(__file__).parents[1] / "configs"


def variants():
    for path in sorted(CONFIGS.glob("[a-z]*.py")):
        module = importlib.import_module(f"vseg_jax.configs.{path.stem}")
        if not hasattr(module, "get_config"):   # studies: tests/test_study.py
            continue
        for variant in getattr(module, "VARIANTS", ("",)):
            yield f"{path}:{variant}" if variant else str(path)


@pytest.mark.parametrize("name", list(variants()), ids=lambda n: n.rpartition("/")[2])
def test_loss_of_the_config_in_full_size(name):
    """Shapes only: the network, the loss and the queue are traced, nothing is computed."""
    settings = experiment.read(name, {})
    model = experiment.build_model(settings)
    batch = experiment.batch_shapes(settings, model)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(model.init, key, batch)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    loss, updates, means = jax.eval_shape(model.loss, variables, batch, key, step)
    assert loss.shape == ()
    assert jax.tree.map(np.shape, updates) == jax.tree.map(
        np.shape, {name: variables[name] for name in updates})
    assert set(updates) <= set(variables) - {"params"}
    assert model.progress.keys() <= means.keys()   # what the progress bar shows


def test_a_variant_that_is_not_there():
    with pytest.raises(ValueError, match="qvim has no variant 'ad2'; there are a2d, rvos, davis"):
        experiment.read(f"{CONFIGS / 'qvim.py'}:ad2", {})


def test_a_dataset_of_the_evaluation_can_be_left_out():
    name = f"{CONFIGS / 'qvim.py'}:a2d"
    scored = experiment.read(name, {"evaluation.datasets.a2r": "None"}).evaluation.datasets
    assert list(scored) == ["a2d_test", "jhmdb", "rvos_dev"]
    with pytest.raises(ValueError, match=r"datasets\.a2j'; did you mean"):
        experiment.read(name, {"evaluation.datasets.a2j": "None"})


def test_the_dataset_that_chooses_a_checkpoint_is_evaluated():
    name = f"{CONFIGS / 'swiftnet.py'}:follow2"
    assert experiment.read(name, {}).evaluation.chooses == "dev"
    with pytest.raises(ValueError, match=r"choose_by is 'test/J&F'; .* \(dev, val\)"):
        experiment.read(name, {"evaluation.choose_by": "test/J&F"})
    for short in ("dev", "dev/"):
        with pytest.raises(ValueError, match=f"choose_by is '{short}'; .* and one of its scores"):
            experiment.read(name, {"evaluation.choose_by": short})


def test_the_follower_trains_on_nothing_that_it_is_scored_on():
    first, second = (experiment.read(f"{CONFIGS / 'swiftnet.py'}:{variant}",
                                     {"data.options.holdout": "('boat',)"} if variant == "follow2"
                                     else {}) for variant in ("follow1", "follow2"))
    assert [d.split for d in (second.data, *second.evaluation.datasets.values())] == [
        "train", "holdout", "val"]
    for dataset in (second.data, *second.evaluation.datasets.values()):
        assert dataset.options == {"year": 2016, "holdout": ("boat",)}
    assert first.evaluation.datasets["dev"].split == "holdout" and first.data.name == "stills"


def test_the_test_of_adaptation_is_of_look_alikes():
    settings = experiment.read(f"{CONFIGS / 'swiftnet.py'}:adaptation", {"data.source": "/stills"})
    scored = settings.evaluation.datasets
    assert scored["cutouts"].source == settings.data.source == "/stills"
    assert scored["shapes"].split == "target_test"
    differs = scored["shapes"].options["differs"]
    assert [name for name, weight in zip(ATTRIBUTES, differs, strict=True) if weight] == ["texture"]
    shipped = experiment.read(f"{CONFIGS / 'swiftnet.py'}:follow1", {}).model
    assert {key for key, value in settings.model.items() if shipped[key] != value} == {"objects"}
    assert settings.model["objects"] == 1 and settings.model["adaptation_steps"] == 0


def test_the_segmenter_of_real_objects_trains_on_nothing_that_it_is_scored_on():
    changes = {"data.source": "/stills", "extra_datasets.davis.source": "/davis",
               "extra_datasets.davis.options.queries": "/q.json"}
    settings = experiment.read(f"{CONFIGS / 'qvim.py'}:real", changes)
    davis = settings.extra_datasets["davis"]
    assert (settings.data.split, davis.split, settings.evaluation.chooses) == (
        "train", "train", "dev")
    for data in settings.evaluation.datasets.values():
        trained = {"davis": davis, "refer_stills": settings.data}[data.name]
        assert data.split in {"davis": ("holdout", "val"), "refer_stills": ("test",)}[data.name]
        assert (data.source, data.options) == (trained.source, trained.options)
    assert davis.options["queries"] == "/q.json" and len(davis.options["holdout"]) == 4
    frozen = [pattern for pattern, rate in settings.train.groups if not rate]
    assert frozen == ["^visual/", "^text/bert/"]
    assert "motion" not in settings.data.options["attributes"] and settings.clip.length == 1


def test_one_source_serves_all_splits_of_a_dataset():
    def read(variant, **changes):
        return experiment.read(f"{CONFIGS / 'qvim.py'}:{variant}", changes)

    a2d = read("a2d", **{"data.source": "/a2d", "evaluation.datasets.a2r.source": "/rvos"})
    assert {k: d.source for k, d in a2d.evaluation.datasets.items()} == {
        "a2d_test": "/a2d", "jhmdb": "data/JHMDB", "a2r": "/rvos", "rvos_dev": "/rvos"}
    rvos = read("rvos", **{"data.source": "/rvos", "data.options.dev": "7"})
    dev = rvos.evaluation.datasets["rvos_dev"]
    assert (dev.source, dev.options) == ("/rvos", {"dev": 7})
    assert rvos.evaluation.datasets["a2d_test"].source == "data/A2D"


def test_the_recipes_of_rcf():
    def read(variant):
        return experiment.read(f"{CONFIGS / 'rcf.py'}:{variant}", {})

    for stage in ("joint", "youtube_vis"):   # Section IV-A
        resnet, swin = read(stage), read(f"{stage}_swin")
        for settings, rate, decay in ((resnet, 6e-4, 1e-4), (swin, 3e-4, 1e-2)):
            train = settings.train
            assert (train.learning_rate, train.weight_decay, train.batch_size, train.steps) == (
                rate, decay, 16, 60_000)
            assert settings.clip.shrink < 1 and settings.clip.crop < 1, "multi-scale training"
            assert settings.model["eos_coef"] == 1 and settings.instances.gap == (1, 1)
        assert dict(resnet.train.groups)["^backbone/"] == 0.1 and not swin.train.groups
        assert swin.model["backbone"] == "swin" and list(swin.extra_datasets) == list(
            resnet.extra_datasets)
    shapes = read("shapes")
    assert (shapes.instances.references, shapes.instances.gap) == (1, (1, 1)), "as in the paper"
    scored = shapes.evaluation.datasets
    assert scored["source"].options["length"] == 12 and scored["long"].options["length"] == 36
    real = read("real")
    assert real.model["categories"] == len(real.instances.categories)
    holdout = experiment.read(f"{CONFIGS / 'qvim.py'}:real", {}).evaluation.datasets["dev"]
    scored = real.evaluation.datasets
    assert scored["dev"].options["holdout"] == holdout.options["holdout"]
    differ = {key for key, value in scored["stills"].options.items()
              if value != real.data.options[key]}
    assert differ == {"length", "train"}, "else its held-out stills may be trained on"


@pytest.mark.parametrize(("name", "queries"), [
    ("swiftnet", {}), ("qvim", {"queries": "/own/expressions.json"}), ("rcf", {})])
def test_configs_for_your_own_videos(name, queries):
    changes = {"data.source": "/own"} | ({"model.categories": "2"} if name == "rcf" else {})
    settings = experiment.read(f"{CONFIGS / name}.py:finetune", changes)
    [scored] = settings.evaluation.datasets.values()
    assert (settings.data.split, scored.split) == ("train", "val") and not settings.extra_datasets
    for data in (settings.data, scored):
        assert (data.name, data.source, data.prepared) == ("davis", "/own", "/own/prepared")
        assert data.options == {"year": 0, **queries}
    assert settings.evaluation.choose_by == ""   # what is held out chooses nothing
    assert settings.init_from == f"{name}-lite0"
    moved = experiment.read(f"{CONFIGS / name}.py:finetune", {**changes, "data.prepared": "/data"})
    assert {d.prepared for d in (moved.data, *moved.evaluation.datasets.values())} == {"/data"}
