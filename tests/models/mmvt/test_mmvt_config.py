import jax
import pytest
from tiny_mmvt import build, make_batch

from vseg_jax.config import parse, section, shallow
from vseg_jax.models.mmvt import Mmvt, MmvtConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 20}, "depth is 20; it must be one of 18"),
        ({"flow_depth": 7}, "flow_depth is 7"),
        ({"clip_target": 3}, "clip of 3 frames"),
        ({"layers": 0}, "layers is 0"),
        ({"dropout": 1.0}, r"in \[0, 1\)"),
        ({"align_limit": 1.0}, "a logit is infinite"),
        ({"filter_size": 2}, "an odd side"),
        ({"transformer": False, "staged": True}, "is a kind of transformer"),
        ({"sentence": "mean"}, "for text='words'"),
        ({"network_weights": "a.pth", "bert_weights": "b"}, "leave the others empty"),
    ],
)
def test_wrong_values_are_rejected(wrong, message):
    with pytest.raises(ValueError, match=message):
        MmvtConfig(**wrong)


def test_the_config_survives_its_file_form():
    config = MmvtConfig(lgff="dynamic_filter", aspp_rates=(2, 4), bug_compat_mask=True)
    stored = section(MmvtConfig, **shallow(config))
    assert parse(MmvtConfig, stored.to_dict()) == config


B = {"motion": False, "transformer": False, "lgff": "none", "align": "none"}
M = {**B, "motion": True}
T = {**M, "transformer": True}
L = {**T, "lgff": "official"}
A = {**L, "align": "official"}
SEGMENTATION = {"loss", "iou", "segmentation"}


@pytest.mark.parametrize(
    ("before", "after", "parts", "terms"),
    [
        (B, M, {"flow", "flow_aspp", "flow_place", "levels"}, set()),
        (M, T, {"merge", "mix"}, set()),
        (T, L, {"levels"}, set()),
        (L, A, {"align"}, {"vision_language", "flow_language", "vision_flow"}),
        (L, {**L, "align": "cosine_kl"}, set(), {"vision_language", "vision_flow"}),
        (T, {**T, "lgff": "dynamic_filter"}, {"levels"}, set()),
        (L, {**L, "coarse_mask": True}, {"coarse"}, {"coarse"}),
        (L, {**L, "staged": True}, {"mix"}, set()),
        (L, {**L, "sentence": "mean"}, set(), set()),
        (L, {**L, "sentence_norm": "own"}, {"words"}, set()),
        (A, {**A, "bug_compat_mask": True, "bug_compat_gate": True}, set(),
         {"vision_language", "flow_language", "vision_flow"}),
    ],
    ids=["+M", "+T", "+L", "+A", "cosine_kl", "dynamic_filter", "coarse_mask", "staged",
         "sentence", "sentence_norm", "compat"],
)
def test_a_switch_changes_its_own_parts_and_terms(before, after, parts, terms):
    """Climbs the steps of the ablation, and tries the summary's variants."""
    trees = [parameters(settings) for settings in (before, after)]
    names = {name for name in {*trees[0], *trees[1]} if trees[0].get(name) != trees[1].get(name)}
    changed = {name.split("/")[0].split("_")[0] if name.startswith("levels")
               else name.split("/")[0] for name in names}
    # Without the transformer, the sentence embedding is merged with the existing streams.
    assert changed - ({"merge"} if before is B else set()) == parts
    if terms:
        assert terms | SEGMENTATION == set(means(after))


def parameters(settings):
    shapes = jax.eval_shape(build(**settings).init, jax.random.key(0), make_batch())["params"]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}


def means(settings):
    model, batch = build(**settings), make_batch()
    if not settings["motion"]:
        del batch["flow"]
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    return jax.eval_shape(model.loss, shapes, batch, jax.random.key(0), jax.numpy.int32(0))[2]


def test_without_motion_nothing_of_the_flow_is_read():
    assert set(means({**A, "motion": False})) == SEGMENTATION | {"vision_language"}


def test_paper_size():
    """Parameters of the default config, in millions: two ResNets, BERT without pooler, the rest."""
    batch = {"tokens": jax.ShapeDtypeStruct((1, 20), "int32")}
    shapes = jax.eval_shape(Mmvt(MmvtConfig()).init, jax.random.key(0), batch)["params"]
    count = {k: sum(x.size for x in jax.tree.leaves(v)) / 1e6 for k, v in shapes.items()}
    print(count)
    assert count["vision"] == pytest.approx(42.5, abs=0.1)
    assert count["flow"] == pytest.approx(21.3, abs=0.1)
    assert count["text"] == pytest.approx(108.9, abs=0.1)
