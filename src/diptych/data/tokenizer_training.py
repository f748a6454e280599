"""Learning the pieces of a vocabulary from texts, the same on every run.

The library's own trainers number the symbols they meet in the order of a hash map, and break ties between equally
frequent pairs by those numbers, so that two runs may differ. Here every symbol ("e", "e</w>", "##e") becomes one
private character, numbered in sorted order, before the trainer sees it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, trainers

from diptych.data.vocabulary import WORD_END, WORDPIECE_CONTROLS, Merge

MOST_CHARACTERS = 1000
"""WordPiece: rarer characters than these become [UNK], as in the library's trainer."""
_PRIVATE = 0xF0000  # the first of 131,072 code points that no text uses

Symbols = tuple[str, ...]


def count_words(texts: Iterable[str], split: Callable[[str], list[str]]) -> Counter[str]:
    """How often each word occurs; `split` cleans and splits a text."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return counts


def bpe_merges(words: Mapping[str, int], num: int) -> list[Merge]:
    """At most `num` merges over the symbols of `words`, the most frequent pair first."""
    spelt = {(*word[:-1], word[-1] + WORD_END): count for word, count in words.items()}
    return [("".join(left), "".join(right)) for left, right in _learn(spelt, num)]


def wordpiece_pieces(words: Mapping[str, int], vocab_size: int) -> dict[str, int]:
    """Ids of at most `vocab_size` pieces: control words, characters at and after a word's start, longer pieces."""
    letters = _frequent_characters(words, limit=min(MOST_CHARACTERS, vocab_size // 4))
    ids: dict[str, int] = {}
    for piece in (*WORDPIECE_CONTROLS, *letters, *("##" + letter for letter in letters)):
        ids.setdefault(piece, len(ids))
    known = set(letters)
    spelt = {
        (word[0], *("##" + letter for letter in word[1:])): n for word, n in words.items() if known.issuperset(word)
    }
    for left, right in _learn(spelt, vocab_size - len(ids)):
        ids.setdefault(left[0] + "".join(symbol[2:] for symbol in left[1:] + right), len(ids))
    return ids


def _frequent_characters(words: Mapping[str, int], limit: int) -> list[str]:
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            counts[letter] += count
    return sorted(sorted(counts, key=lambda letter: (-counts[letter], letter))[:limit])


def _learn(words: Mapping[Symbols, int], num: int) -> list[tuple[Symbols, Symbols]]:
    """The first `num` merges of byte-pair encoding: pairs of runs of symbols, the most frequent first."""
    symbols = sorted({symbol for word in words for symbol in word})
    private = {symbol: chr(_PRIVATE + place) for place, symbol in enumerate(symbols)}
    rust = RustTokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(symbols) + num,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=list(private.values()),
    )
    with _without_threads():
        rust.train_from_iterator(_repeated(words, private), trainer)
    merges = json.loads(rust.to_str())["model"]["merges"]
    return [(tuple(_back(left, symbols)), tuple(_back(right, symbols))) for left, right in merges]


def _repeated(words: Mapping[Symbols, int], private: Mapping[str, str], at_once: int = 1000) -> Iterator[str]:
    """Every word as often as it was counted, `at_once` to a string."""
    for word, count in words.items():
        spelt = "".join(private[symbol] for symbol in word) + " "
        for done in range(0, count, at_once):
            yield spelt * min(at_once, count - done)


def _back(spelt: str, symbols: list[str]) -> Iterator[str]:
    return (symbols[ord(letter) - _PRIVATE] for letter in spelt)


@contextmanager
def _without_threads() -> Iterator[None]:
    """Keeps the library from starting threads, after which it warns at every fork of the process."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
