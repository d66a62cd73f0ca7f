import json
import pickle
import warnings

import numpy as np
import pytest

from vseg_jax.input_pipeline.settings import TextConfig
from vseg_jax.input_pipeline.text import (
    HuggingFaceTokenizer,
    WordTokenizer,
    load_tokenizer,
    make_tokenizer,
    swap_sides,
)

TEXTS = ["The red box on the left", "a dog's tail"]


@pytest.mark.parametrize("text, mirrored", [
    ("the box on the left", "the box on the right"),
    ("Right of the leftmost cat, rightwards", "Left of the rightmost cat, leftwards"),
    ("a bright leftover from the cleft", "a bright leftover from the cleft"),
])
def test_sides_are_swapped(text, mirrored):
    assert swap_sides(text) == mirrored
    assert swap_sides(mirrored) == text


def test_words_are_lower_cased_padded_and_unknown():
    tokenizer = WordTokenizer.from_texts(TEXTS, length=6)
    # a, box, dog's, left, on, red, right (for mirrored clips), tail, the: from 2
    tokens, valid = tokenizer.encode("A RED box, right? zebra")
    np.testing.assert_array_equal(tokens, [2, 7, 3, 8, 1, 0])
    np.testing.assert_array_equal(valid, [True] * 5 + [False])
    assert tokens.dtype == np.int32 and tokenizer.size == 11


def test_more_words_leave_the_ids_of_the_known_ones():
    tokenizer = WordTokenizer.from_texts(TEXTS, length=6)
    longer, new = tokenizer.extended(["a blue box", "the Ant"])
    assert new == ["ant", "blue"] and longer.size == tokenizer.size + 2
    for text in TEXTS:
        np.testing.assert_array_equal(longer.encode(text)[0], tokenizer.encode(text)[0])
    assert longer.encode("ant blue")[0][:2].tolist() == [tokenizer.size, tokenizer.size + 1]
    assert tokenizer.unknown("a Blue box, zebra") == ["blue", "zebra"]


def test_long_texts_warn_about_the_rest():
    tokenizer = WordTokenizer.from_texts(TEXTS, length=3)
    with pytest.warns(UserWarning, match="cut off: 'on the left'"):
        tokens, valid = tokenizer.encode("the red box on the left")
    assert valid.all() and len(tokens) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer.encode("the red box")


@pytest.mark.parametrize("text", ["", "   ", "?!"])
def test_texts_without_a_word_are_errors(text):
    with pytest.raises(ValueError, match="has no word"):
        WordTokenizer.from_texts(TEXTS, length=3).encode(text)


def test_vocabulary_is_saved_and_loaded(tmp_path):
    tokenizer = make_tokenizer(TextConfig(length=5), TEXTS)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path, 5)
    assert again.size == tokenizer.size
    np.testing.assert_array_equal(again.encode("red dog's")[0], tokenizer.encode("red dog's")[0])
    assert [p.name for p in tmp_path.iterdir()] == ["vocabulary.json"]


@pytest.mark.parametrize("content", ["{", '{"red": 3}'])
def test_broken_vocabulary_names_the_file(tmp_path, content):
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(ValueError, match=r"vocabulary\.json is not a vocabulary"):
        load_tokenizer(tmp_path, 5)


def test_missing_tokenizer_folder(tmp_path):
    with pytest.raises(ValueError, match="no tokenizer folder"):
        load_tokenizer(tmp_path / "nowhere", 5)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "box", "##es", "run"]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder


def test_word_pieces_with_special_tokens(bert_folder, tmp_path):
    tokenizer = HuggingFaceTokenizer(bert_folder, length=7)
    tokens, valid = tokenizer.encode("The red boxes")
    np.testing.assert_array_equal(tokens, [2, 5, 6, 7, 8, 3, 0])  # [CLS] the red box ##es [SEP]
    np.testing.assert_array_equal(valid, [True] * 6 + [False])
    assert tokenizer.size == 10
    tokenizer.save(tmp_path)
    for other in (load_tokenizer(tmp_path, 7), pickle.loads(pickle.dumps(tokenizer))):
        np.testing.assert_array_equal(other.encode("the red boxes")[0], tokens)


def test_word_pieces_that_are_cut_off_or_missing(bert_folder):
    tokenizer = HuggingFaceTokenizer(bert_folder, length=4)
    with pytest.warns(UserWarning, match="cut off: 'boxes run'"):
        tokens, _ = tokenizer.encode("the red boxes run")
    np.testing.assert_array_equal(tokens, [2, 5, 6, 3])
    with pytest.raises(ValueError, match="has no word"):
        tokenizer.encode(" ")


def test_whole_words_as_they_are_written(bert_folder, tmp_path):
    tokenizer = make_tokenizer(TextConfig(str(bert_folder), 7, whole_words=True), ())
    tokens, valid = tokenizer.encode("The red  boxes run")
    # [CLS] The red "" boxes run [SEP]: a capital, nothing between two spaces, and no pieces
    np.testing.assert_array_equal(tokens, [2, 1, 6, 1, 1, 9, 3])
    assert valid.all()
    tokenizer.save(tmp_path)
    np.testing.assert_array_equal(load_tokenizer(tmp_path, 7).encode("the red boxes")[0],
                                  [2, 5, 6, 1, 3, 0, 0])
    with pytest.warns(UserWarning, match="cut off: 'boxes run'"):
        tokens, _ = HuggingFaceTokenizer(bert_folder, 4, whole_words=True).encode("a red boxes run")
    np.testing.assert_array_equal(tokens, [2, 1, 6, 3])
    with pytest.raises(ValueError, match="has no word"):
        tokenizer.encode("  ")
    with pytest.raises(ValueError, match="False with the tokenizer 'words'"):
        TextConfig(whole_words=True)
