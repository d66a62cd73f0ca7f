import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.metrics.youtube_vis import metric_of_files
from vseg_jax.models.rcf import Rcf, RcfConfig
from vseg_jax.run_lengths import encode_rle
from vseg_jax.tools import rcf_figures

TINY = RcfConfig(
    categories=2, depth=18, width=4, channels=8, heads=1, hidden=8, encoder_layers=1,
    decoder_layers=1, queries=3, mask_channels=4, dropout=0.0, fire=0.05,
)


def box(left):
    mask = np.zeros((8, 16), bool)
    mask[:, left : left + 4] = True
    return encode_rle(mask)


def test_the_best_overlap_of_every_true_object(tmp_path):
    truth = {
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "videos": [{"id": 1, "height": 8, "width": 16, "file_names": ["a", "b"]},
                   {"id": 2, "height": 8, "width": 16, "file_names": ["a"]}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [box(0), box(0)]},
            {"id": 2, "video_id": 1, "category_id": 2, "segmentations": [box(8), None]},
            {"id": 3, "video_id": 2, "category_id": 1, "segmentations": [box(0)]},
        ],
    }
    found = [
        {"video_id": 1, "category_id": 1, "score": 0.3, "segmentations": [box(0), None]},
        {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [box(2), box(12)]},
        {"video_id": 2, "category_id": 2, "score": 0.9, "segmentations": [box(0)]},
    ]
    for name, content in (("truth", truth), ("found", found)):
        (tmp_path / name).write_text(json.dumps(content))
    metric = metric_of_files(tmp_path / "truth", tmp_path / "found")
    assert rcf_figures.best_overlaps(metric).tolist() == [0.5, 0, 0]


def test_the_value_of_audio_from_files(tmp_path, capsys):
    random, paths = np.random.default_rng(0), {}
    videos = [{"id": n, "height": 8, "width": 16, "file_names": ["a"]} for n in range(12)]
    rows = [{"id": n, "video_id": n, "category_id": 1, "score": 1.0, "segmentations": [box(0)]}
            for n in range(12)]
    paths["truth"] = {"videos": videos, "annotations": rows,
                      "categories": [{"id": 1, "name": "a"}]}
    for name, worse in (("with", 0), ("without", 1)):
        paths[name] = []
        for row in rows:
            mask = np.zeros((8, 16), bool)
            mask[: 8 - worse - random.integers(0, 2), :4] = True
            paths[name].append({**row, "segmentations": [encode_rle(mask)]})
    arguments = ["audio"]
    for name, content in paths.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        arguments += [f"--{name}", str(path)]
    rcf_figures.main(arguments)
    values = json.loads(capsys.readouterr().out)
    assert set(values) == {"0.5", "0.75"} and values["0.5"] < 0.01
    arguments[2] = arguments[4]   # results in place of the truth
    with pytest.raises(SystemExit, match=r"^2$"):
        rcf_figures.main(arguments)
    assert re.search(r"error: .*with\.json: not in the format of YouTube-VIS",
                     capsys.readouterr().err)


def test_latency(capsys):
    rcf_figures.main(["latency", "--stream", "6", "--model", "89.4", "--frames", "36"])
    assert capsys.readouterr().out == "6.403 s\n"


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        rcf_figures.main(["slots", str(tmp_path / "none"), "--dataset", "x", "--split", "y",
                          "--output", str(tmp_path / "out")])
    assert "error: there is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_slots_and_constants_of_a_model():
    model, random = Rcf(TINY), np.random.default_rng(0)
    frames = random.integers(0, 255, (3, 2, 32, 32, 3), np.uint8)
    frames[2, 1] = frames[2, 0]                      # a clip without motion
    samples = [{"frames": f} for f in frames]
    variables = jax.tree.map(
        lambda x: jnp.asarray(random.standard_normal(x.shape) * 0.1 + (x.ndim == 1), jnp.float32),
        jax.eval_shape(model.init, jax.random.key(0), {}))
    table = rcf_figures.slots(model, variables, samples, 500)
    assert table.shape == (2, 3) and set(np.round(table.sum(1), 6)) <= {0.0, 1.0}
    found = rcf_figures.lipschitz_constants(model, variables, samples, 500)
    assert set(found) == {"1", "2", "inf"}
    for row in found.values():
        assert len(row["local"]) == 2 and all(v > 0 for v in row["local"])
        assert np.isfinite(row["bound_log10"]) and len(row["order"]) <= 2
