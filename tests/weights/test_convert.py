import numpy as np
import pytest

from vseg_jax.weights.convert import Rule, convert, kernel, part, read, unwrapped, with_part

LIKE = {
    "params": {"a": {"kernel": np.zeros((2, 3), np.float32)}},
    "batch_stats": {"a": {"mean": np.zeros(3, np.float32)}},
}
RULES = [
    Rule(r"(\w)\.weight", r"params/\1/kernel", kernel),
    Rule(r"(\w)\.mean", r"batch_stats/\1/mean"),
    Rule(r"head\..*", None),
]
FOREIGN = {
    "a.weight": np.arange(6.0).reshape(3, 2),
    "a.mean": np.ones(3),
    "head.weight": np.ones(7),
}


def test_every_array_lands_in_its_layout_and_dtype():
    tree = convert(FOREIGN, RULES, LIKE)
    np.testing.assert_array_equal(tree["params"]["a"]["kernel"], [[0, 2, 4], [1, 3, 5]])
    assert tree["params"]["a"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(tree["batch_stats"]["a"]["mean"], np.ones(3))


def test_all_that_is_wrong_is_named_at_once():
    state_dict = {
        "a.weight": np.ones((2, 2)),  # shape
        "b.weight": np.ones((3, 2)),  # a rule, but nothing of ours
        "strange": np.ones(1),  # no rule; and a.mean is missing
    }
    with pytest.raises(ValueError) as error:
        convert(state_dict, RULES, LIKE)
    for message in (
        "shape: a.weight gives [2, 2], params/a/kernel is [2, 3]",
        "unexpected: b.weight (the network has no params/b/kernel)",
        "unexpected: strange",
        "missing: no key fills batch_stats/a/mean",
    ):
        assert message in str(error.value)


def test_of_many_problems_the_first_are_named_with_their_number():
    state_dict = {f"key{k}": np.ones(k + 1) for k in range(9)} | FOREIGN
    with pytest.raises(ValueError) as error:
        convert(state_dict, RULES, LIKE)
    first, *lines = str(error.value).splitlines()
    assert first == "the weights do not fit the network, which has 2 arrays: 9 keys unexpected"
    assert lines == [*(f"  unexpected: key{k} [{k + 1}]" for k in range(5)),
                     "  unexpected: and 4 more"]


def test_filling_twice_is_an_error():
    rules = [Rule(r"[ab]\.weight", "params/a/kernel", kernel), *RULES]
    with pytest.raises(ValueError, match=r"duplicate: b\.weight"):
        convert({**FOREIGN, "b.weight": np.ones((3, 2))}, rules, LIKE)


def test_parts_the_network_was_built_without_are_dropped():
    state_dict = {**FOREIGN, "b.weight": np.ones((3, 2))}
    tree = convert(state_dict, RULES, LIKE, without=["params/b"])
    assert set(tree["params"]) == {"a"}


def test_convolution_layouts():
    weight = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # out, in, h, w
    assert kernel(weight)[3, 4, 2, 1] == weight[1, 2, 3, 4]
    point = np.arange(6).reshape(2, 3, 1, 1, 1)
    assert kernel(point).shape == (3, 2) and kernel(point)[2, 1] == point[1, 2, 0, 0, 0]


def test_wrappers_are_taken_off():
    inner = {"layer1.conv": np.ones(1), "layer2.conv": np.zeros(2)}
    assert unwrapped({f"module.pre.{k}": v for k, v in inner.items()}) == inner
    assert unwrapped(inner) == inner and unwrapped({}) == {}


def test_part_and_with_part():
    variables = {"params": {"net": LIKE["params"], "head": 1}, "batch_stats": {"net": {}}}
    assert part(variables, "net/a") == {"params": LIKE["params"]["a"]}
    replaced = with_part(variables, "net/a", {"params": 5})
    assert replaced == {"params": {"net": {"a": 5}, "head": 1}, "batch_stats": {"net": {}}}
    assert variables["params"]["net"] is LIKE["params"]
    with pytest.raises(ValueError, match="no submodule 'other'"):
        part(variables, "other")


def test_read_npz_and_safetensors(tmp_path):
    from safetensors.numpy import save_file

    arrays = {"RGB/a": np.arange(3, dtype=np.float32)}
    np.savez(tmp_path / "a.npz", **arrays)
    save_file(arrays, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        np.testing.assert_array_equal(read(tmp_path / name)["RGB/a"], [0, 1, 2])


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no weights at"):
        read(tmp_path / "none.npz")
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ends in '\.pkl'"):
        read(tmp_path / "a.pkl")
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="cannot read weights"):
        read(tmp_path / "a.npz")
