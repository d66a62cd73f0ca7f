"""Tokenizers: from an expression to int32 ids and a validity mask of fixed length."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vseg_jax import atomic
from vseg_jax.input_pipeline.settings import TextConfig
from vseg_jax.packages import locate

VOCABULARY = "vocabulary.json"
WHOLE_WORDS = "whole_words"  # an empty file next to those of a tokenizer
PAD, UNKNOWN = 0, 1

_SIDES = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)(?=(?:most|wards?)?\b)", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:'\w+)?")


def swap_sides(text: str) -> str:
    """Returns the expression for a mirrored clip: "left" and "right" (-most, -ward) are swapped."""

    def other(match: re.Match) -> str:
        word = _SIDES[match[1].lower()]
        return word.capitalize() if match[1][0].isupper() else word

    return _SIDE.sub(other, text)


class WordTokenizer:
    """Tokenizes into whole lower-cased words; id 0 is padding, 1 any unknown word.

    Args:
      words: the vocabulary, in order of the ids from 2.
      length: see below.

    Attributes:
      length: number of tokens that `encode` returns.
      size: size of the vocabulary, including padding and unknown.
    """

    def __init__(self, words: Iterable[str], length: int):
        self.length = length
        self._ids = {word: i for i, word in enumerate(words, start=2)}
        self.size = len(self._ids) + 2

    @classmethod
    def from_texts(cls, texts: Iterable[str], length: int) -> WordTokenizer:
        """Returns a tokenizer with all words of the texts and of their mirrored versions."""
        words = {w for text in texts for w in _words(text) + _words(swap_sides(text))}
        return cls(sorted(words), length)

    def extended(self, texts: Iterable[str]) -> tuple[WordTokenizer, list[str]]:
        """Returns a tokenizer with the words of more texts, too, and these words.

        The words that are known already keep their ids.
        """
        new = [w for w in WordTokenizer.from_texts(texts, self.length)._ids if w not in self._ids]
        return WordTokenizer([*self._ids, *new], self.length), new

    def unknown(self, text: str) -> list[str]:
        """Returns the words of a text that are not in the vocabulary."""
        return [word for word in _words(text) if word not in self._ids]

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids int32 [L] and validity bool [L]; warns about words that do not fit.

        Raises:
          ValueError: the text has no word.
        """
        words = _words(text)
        _check_not_empty(text, words)
        if len(words) > self.length:
            _warn_lost(text, self.length, " ".join(words[self.length:]))
        ids = [self._ids.get(word, UNKNOWN) for word in words[:self.length]]
        return _padded(ids, self.length, PAD)

    def save(self, folder: str | Path) -> None:
        """Writes `vocabulary.json` into the folder."""
        text = json.dumps(list(self._ids), ensure_ascii=False)
        atomic.write_text(Path(folder) / VOCABULARY, text)


class HuggingFaceTokenizer:
    """A tokenizer of `transformers` from a local folder, with its special tokens ([CLS], [SEP]).

    The folder determines case, word pieces and special tokens. With `whole_words` a text is split
    at its spaces, every word is one token, as written, and words that the vocabulary lacks are
    unknown. This is the effect of MMVT's public code, which passes a list of words to the
    tokenizer. Needs the extra `text`.

    Raises:
      ValueError: `transformers` is not installed, the folder has no tokenizer, or `length` is too
        small.
    """

    def __init__(self, folder: str | Path, length: int, whole_words: bool = False):
        folder = os.fspath(locate(folder))
        if not os.path.isdir(folder):
            raise ValueError(
                f"there is no tokenizer folder {folder}; give 'words' or a folder with "
                "tokenizer.json or vocab.txt, as public checkpoints have"
            )
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ValueError(
                "a Hugging Face tokenizer needs transformers: pip install 'vseg_jax[text]'"
            ) from error
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True,
                                                            trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"no tokenizer could be read from {folder}: {error}") from error
        self.length = length
        self.whole_words = whole_words
        self.size = len(self._tokenizer)
        self._special = self._tokenizer.num_special_tokens_to_add()
        if length <= self._special:
            raise ValueError(f"length {length} leaves no room for words next to the special tokens")
        if whole_words and None in (self._tokenizer.cls_token_id, self._tokenizer.sep_token_id):
            raise ValueError(f"the tokenizer in {folder} has no [CLS] and [SEP]; whole_words "
                             "works only with tokenizers of BERT")

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids and validity (True for special tokens); see `WordTokenizer.encode`."""
        if self.whole_words:
            return self._encode_words(text)
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        _check_not_empty(text, ids)
        room = self.length - self._special
        if len(ids) > room:
            _warn_lost(text, self.length, self._tokenizer.decode(ids[room:]))
        ids = self._tokenizer.encode(text, truncation=True, max_length=self.length)
        return _padded(ids, self.length, self._tokenizer.pad_token_id or 0)

    def unknown(self, text: str) -> list[str]:
        """Returns the words of a text that have an unknown token."""
        return [word for word in text.split() if self._tokenizer.unk_token_id in
                self._tokenizer.encode(word, add_special_tokens=False)]

    def _encode_words(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        _check_not_empty(text, text.split())
        words, room = text.split(" "), self.length - self._special
        if len(words) > room:
            _warn_lost(text, self.length, " ".join(words[room:]))
        ids = self._tokenizer.convert_tokens_to_ids(words[:room])
        ids = [self._tokenizer.cls_token_id, *ids, self._tokenizer.sep_token_id]
        return _padded(ids, self.length, self._tokenizer.pad_token_id or 0)

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer's files into the folder, and whether words stay whole."""
        self._tokenizer.save_pretrained(os.fspath(folder))
        if self.whole_words:
            (Path(folder) / WHOLE_WORDS).touch()


Tokenizer = WordTokenizer | HuggingFaceTokenizer


def make_tokenizer(config: TextConfig, texts: Iterable[str]) -> Tokenizer:
    """Returns the tokenizer of the config; a word vocabulary is built from `texts`."""
    if config.tokenizer == "words":
        return WordTokenizer.from_texts(texts, config.length)
    return HuggingFaceTokenizer(config.tokenizer, config.length, config.whole_words)


def load_tokenizer(folder: str | Path, length: int) -> Tokenizer:
    """Returns the tokenizer that `save` wrote.

    Raises:
      ValueError: the folder has no tokenizer.
    """
    path = Path(folder) / VOCABULARY
    if not path.is_file():
        return HuggingFaceTokenizer(folder, length, (path.parent / WHOLE_WORDS).is_file())
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a vocabulary: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path} is not a vocabulary: it must be a JSON list of words")
    return WordTokenizer(words, length)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _check_not_empty(text: str, tokens: list) -> None:
    if not tokens:
        raise ValueError(f"the expression {text!r} has no word; describe the object")


def _warn_lost(text: str, length: int, lost: str) -> None:
    warnings.warn(
        f"the expression {text!r} is longer than {length} tokens; cut off: {lost!r} "
        "(increase the text length to keep it)",
        stacklevel=3,
    )


def _padded(ids: list[int], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.full(length, pad, np.int32)
    tokens[:len(ids)] = ids
    return tokens, np.arange(length) < len(ids)
