"""Public weights as a checkpoint: `vseg import`, and what reads the folder that it writes."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from archives import davis_2017
from commandline import command, contents, refused
from PIL import Image
from pytorch_files import views, write_legacy, write_zip

import vseg_jax
from vseg_jax.export.export import export
from vseg_jax.media.video import VideoWriter
from vseg_jax.models.swiftnet.network import StmNetwork, SwiftNetwork
from vseg_jax.weights import swiftnet

pytest.importorskip("av")

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "swiftnet.py"
SMALL = ["--config.model.width=4", "--config.model.objects=2"]


def public(name):
    """A state dict of the public network with a sixteenth of its channels, random but equal in all
    tests, as DataParallel saves it."""
    random = np.random.default_rng(0)
    shapes = json.loads(str(np.load(ROOT / "tests" / "goldens" / f"{name}.npz")["shapes"]))

    def fewer(key, shape):
        unshuffled = ".conv2_" in key   # reads blocks of 16 x 16 pixels of a mask
        return [n // 16 if n >= 32 and not (unshuffled and axis == 1) else n
                for axis, n in enumerate(shape)]

    return {f"module.{key}": np.asarray(0.1 * random.random(fewer(key, shape)), np.float32)
            for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(folder that the import wrote, file of the weights)."""
    folder = tmp_path_factory.mktemp("import")
    weights = write_legacy(folder / "swiftnet_resnet18_old.pth", views(public("swiftnet")))
    code, out, err = command("--mode=import", "--config", f"{CONFIG}:swiftnet18", "--weights",
                             weights, "--output", folder / "swiftnet", *SMALL)
    assert code == 0 and f"wrote {folder / 'swiftnet'}" in out, err
    return folder / "swiftnet", weights


def test_the_folder_holds_the_weights_of_the_file(imported):
    folder, _ = imported
    segmenter = vseg_jax.load(folder)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), segmenter.variables)
    state_dict = {k.removeprefix("module."): v for k, v in public("swiftnet").items()}
    wanted = swiftnet.from_public(state_dict, shapes)
    jax.tree.map(np.testing.assert_array_equal, segmenter.variables, wanted)
    assert isinstance(segmenter.model.network, SwiftNetwork)
    about = json.loads((folder / "about.json").read_text())
    assert about["config"]["evaluation"]["short_side"] == 480 and about["versions"]["jax"]


def test_a_zip_file_of_stm(tmp_path):
    weights = write_zip(tmp_path / "STM_weights.pth", views(public("stm")))
    code, _, err = command("--mode=import", "--config", f"{CONFIG}:stm", "--weights", weights,
                           "--output", tmp_path / "stm", *SMALL)
    assert code == 0, err
    segmenter = vseg_jax.load(tmp_path / "stm")
    assert isinstance(segmenter.model.network, StmNetwork)
    np.testing.assert_array_equal(segmenter.variables["params"]["decoder"]["predict"]["bias"],
                                  public("stm")["module.Decoder.pred2.bias"])


def test_predict_and_export_take_the_folder(imported, tmp_path):
    folder, _ = imported
    mask = np.zeros((24, 40), np.uint8)
    mask[6:16, 2:14] = 3
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with VideoWriter(tmp_path / "clip.mp4", 10.0) as writer:
        for t in range(3):
            writer.add(np.roll(np.where(mask[..., None], 200, 30), t, 1).astype(np.uint8).repeat(
                3, -1))
    code, _, err = command("--mode=predict", "--workdir", folder, "--video", tmp_path / "clip.mp4",
                           "--mask", tmp_path / "mask.png", "--short_side=24", "--output",
                           tmp_path / "masks")
    assert code == 0, err
    indices = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "masks").glob("masks/*.png"))]
    assert len(indices) == 3 and set(np.unique(indices)) <= {0, 3}
    export(folder, tmp_path / "exported", platforms=("cpu",), size=(24, 40))
    jax.tree.map(np.testing.assert_array_equal, vseg_jax.load(tmp_path / "exported").variables,
                 vseg_jax.load(folder).variables)


def test_evaluate_takes_the_folder(imported, tmp_path):
    folder, _ = imported
    davis_2017(tmp_path / "DAVIS", {"val": ["dogs"], "train": ["cats"]}, frames=4)
    evaluation = ["--mode=evaluate", "--config", f"{CONFIG}:swiftnet18", "--workdir", folder,
                  f"--config.extra_datasets.davis.source={tmp_path / 'DAVIS'}",
                  f"--config.data.prepared={tmp_path / 'data'}",
                  "--config.evaluation.short_side=16", *SMALL]
    code, out, err = command(*evaluation)
    assert code == 0 and "J&F" in out, err
    scores = json.loads((folder / "evaluations" / "davis_val.json").read_text())
    assert 0 <= scores["J&F"] <= 1
    error = refused(*evaluation, "--config.model.depth=50")
    assert "leaves differ" in error and "it was written with --config.model.depth=18" in error
    error = refused(*evaluation, "--config.model.network=stm")
    assert "it was written with --config.model.network=swiftnet" in error


def test_mmvt_with_its_tokenizer(tmp_path):
    """The keys of the reduced network of the goldens, with buffers that some files have."""
    pytest.importorskip("transformers")
    shapes = json.loads(str(np.load(ROOT / "tests" / "goldens" / "mmvt.npz")["shapes"]))
    state_dict = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    embeddings = "Languagemodel.Languagemodel.embeddings"
    state_dict[f"{embeddings}.token_type_ids"] = np.zeros((1, 32), np.int64)
    state_dict["LanguagemodelGuidedSegmentation.conv_2.bias"] += 3
    weights = write_zip(tmp_path / "_checkpoint.pth", {"it": 1, "network": views(state_dict)})
    bert = tmp_path / "bert"
    bert.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "##gy"]
    (bert / "vocab.txt").write_text("\n".join(words))
    (bert / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    sizes = {"depth": 50, "width": 4, "channels": 16, "head_width": 4, "hidden": 8,
             "align_channels": 8, "bert.vocab_size": 50, "bert.hidden_size": 48,
             "bert.num_hidden_layers": 2, "bert.num_attention_heads": 4,
             "bert.intermediate_size": 64, "bert.max_position_embeddings": 32}
    code, _, err = command(
        "--mode=import", "--config", f"{CONFIG.parent / 'mmvt.py'}:public", "--weights", weights,
        "--output", tmp_path / "mmvt", f"--config.text.tokenizer={bert}",
        *(f"--config.model.{key}={value}" for key, value in sizes.items()))
    assert code == 0, err
    engine = vseg_jax.load(tmp_path / "mmvt").engine
    assert np.all(engine.variables["params"]["head"]["predict"]["bias"] == 3)
    tokens, _ = engine.tokenizer.encode("dog doggy")   # words are not split
    np.testing.assert_array_equal(tokens[:5], [2, 5, 1, 3, 0])
    assert (engine.clip.resize, engine.clip.interpolation) == ("pad_centered", "bicubic")
    assert engine.model.config.bug_compat_mask and engine.model.config.bug_compat_gate


@pytest.mark.parametrize(("arguments", "error"), [
    (["--config", f"{CONFIG}:stm"], "of another shape. They look like SwiftNet with a ResNet-18 "
     "(vseg import --config swiftnet:swiftnet18)\n  missing: no key fills "),
    (["--config", f"{CONFIG}:swiftnet18", "--config.model.mdim=8"],
     "has 125 arrays: 27 of another shape. They look like SwiftNet with a ResNet-18 (vseg import "
     "--config swiftnet:swiftnet18)\n  shape: "),
    (["--config", f"{CONFIG.parent / 'rcf.py'}:youtube_vis"],
     "there are no public weights of a whole rcf; those of its parts are read when it is trained "
     "(--config.model.backbone_weights, "),
    (["--config", f"{CONFIG.parent / 'mmvt.py'}:shapes"],
     "name its folder in --config.text.tokenizer"),
    (["--config", f"{CONFIG}:swiftnet18", "--weights", "absent.pth"], "no weights at absent.pth"),
])
def test_what_cannot_be_imported(imported, tmp_path, arguments, error):
    _, weights = imported
    said = refused("--mode=import", "--weights", weights, "--output", tmp_path / "out", *SMALL[:1],
                   *arguments)
    assert error in said and not contents(tmp_path) and not (tmp_path / "out").exists()


def test_a_folder_is_not_overwritten(imported):
    folder, weights = imported
    before = contents(folder)
    assert "already exists" in refused("--mode=import", "--config", f"{CONFIG}:swiftnet18",
                                       "--weights", weights, "--output", folder, *SMALL)
    assert contents(folder) == before
