"""From texts to vocabulary ids: CLIP's BPE, BERT's WordPiece, and vocabularies trained on one's own texts.

The pieces are found by the Rust library `tokenizers`. Its "added tokens", which would turn words such as
`<|endoftext|>` or `[SEP]` inside a text into control ids, are never used: start and end are put around the ids here.
"""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import ftfy
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from diptych.data.durable import write_whole
from diptych.data.sample import WordIds
from diptych.data.vocabulary import (
    BPE_END,
    BPE_START,
    BYTE_OF_SYMBOL,
    MASK,
    WORD_END,
    WORDPIECE_CONTROLS,
    Pieces,
    bert_cased_file,
    clip_layout,
    find_clip_pieces,
    read_pieces,
)
from diptych.errors import CheckpointError, DataError, UsageError, unknown

FORMAT = 1
SETTINGS_FILE = "diptych_tokenizer.json"
# All of it case-insensitive, as released: it matters for U+0345, a mark whose capital is a letter, and for "'ſ".
CLIP_SPLIT = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokenizer:
    """A vocabulary with the way to it. Can be pickled, so that the loader's workers have it."""

    name: str
    """"clip" where the vocabulary is CLIP's released one, else the kind."""
    kind: Literal["bpe", "wordpiece"]
    lower: bool
    """Texts are lower-cased first."""
    start_id: int
    end_id: int
    pad_id: int
    rust: RustTokenizer = field(repr=False)

    @property
    def vocab_size(self) -> int:
        """Number of ids, the control ids included."""
        return self.rust.get_vocab_size(with_added_tokens=False)

    @functools.cached_property
    def word_ids(self) -> WordIds | None:
        """What masking needs to know; None of a vocabulary without "[MASK]".

        Words in brackets are BERT's controls and spare rows; what texts are made of comes after the last of them.
        """
        mask = self.rust.token_to_id(MASK)
        if mask is None:
            return None
        controls = [number for piece, number in self.rust.get_vocab().items() if re.fullmatch(r"\[\w+\]", piece)]
        special = frozenset((self.start_id, self.end_id, self.pad_id))
        return WordIds(mask=mask, special=special, words=(max(controls) + 1, self.vocab_size))

    def encode(self, text: str, context: int) -> list[int]:
        """Start, the ids of `text`, end; a text too long is cut so that the end stays.

        Args:
            text: any string; control words in it are words like others.
            context: most ids to return, at least 2.
        """
        cleaned = clean_as_clip(text) if self.kind == "bpe" else text.encode(errors="replace").decode()
        ids = self.rust.encode(cleaned, add_special_tokens=False).ids
        return [self.start_id, *ids[: context - 2], self.end_id]

    def encode_batch(self, texts: Sequence[str], context: int) -> list[list[int]]:
        """`encode` of each text."""
        # One by one: the library's own batches start threads, and a process that forks after that is warned about.
        return [self.encode(text, context) for text in texts]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each id as the vocabulary has it, control words too, e.g. ["[CLS]", "red", "##dish", "[SEP]"]."""
        return [self.rust.id_to_token(number) or "" for number in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` spell, cleaned as it was for encoding, without control words."""
        controls = {self.start_id, self.end_id} | ({self.pad_id} if self.kind == "wordpiece" else set())
        pieces = [piece for number in ids if number not in controls and (piece := self.rust.id_to_token(number))]
        if self.kind == "wordpiece":
            return " ".join(pieces).replace(" ##", "")
        spelt = "".join(pieces).replace(WORD_END, " ")
        return b"".join(_bytes_of(symbol) for symbol in spelt).decode(errors="replace").strip()

    def save(self, folder: Path) -> None:
        """Writes the vocabulary in its kind's usual files (`vocab.json` and `merges.txt`, or `vocab.txt`)."""
        folder.mkdir(parents=True, exist_ok=True)
        model = json.loads(self.rust.to_str())["model"]
        if self.kind == "bpe":
            merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
            _write(folder / "merges.txt", "#version: 0.2\n" + merges)
            _write(folder / "vocab.json", json.dumps(model["vocab"], ensure_ascii=False))
        else:
            words = sorted(model["vocab"], key=model["vocab"].__getitem__)
            _write(folder / "vocab.txt", "".join(f"{word}\n" for word in words))
        settings = {"format": FORMAT, "name": self.name, "kind": self.kind, "lower": self.lower}
        _write(folder / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")


NAMED = ("clip", "bert-base-cased")
"""Tokenizers that are known by name."""


def named_tokenizer(name: str, vocabulary: Path | None = None) -> Tokenizer:
    """A tokenizer of NAMED.

    Args:
        name: which one.
        vocabulary: its file or folder; None: from this machine, else from the hub.
    Raises:
        DataError: there is no such vocabulary.
    """
    match name:
        case "clip":
            return clip_tokenizer(vocabulary)
        case "bert-base-cased":
            return load_tokenizer(bert_cased_file() if vocabulary is None else vocabulary)
        case _:
            raise DataError(unknown("tokenizer", name, NAMED))


def clip_tokenizer(vocabulary: Path | None = None) -> Tokenizer:
    """CLIP's byte-level BPE, lower-cased. CLIP, arXiv:2103.00020, section 2.4.

    Differs: released code reads control words in a text as control ids; here they are words.

    Args:
        vocabulary: file or folder as `read_pieces` takes it; None looks in an installed open_clip_torch, the hub's
            cache and the hub.
    Raises:
        DataError: no vocabulary there, or it is no BPE.
    """
    pieces = find_clip_pieces() if vocabulary is None else read_pieces(vocabulary)
    if pieces.merges is None:
        raise DataError(f"{vocabulary} is a list of words (WordPiece); CLIP's vocabulary has merges")
    return _bpe(pieces)


def wordpiece_tokenizer(vocab_file: Path, lower: bool) -> Tokenizer:
    """BERT's WordPiece. BERT, arXiv:1810.04805; ids as its released tokenizer gives them.

    Args:
        vocab_file: one piece a line, with [PAD] [UNK] [CLS] [SEP].
        lower: True for the "uncased" vocabularies: texts are lower-cased and lose their accents.
    Raises:
        DataError: not such a file.
    """
    return _wordpiece(read_pieces(vocab_file), lower=lower, source=str(vocab_file))


def load_tokenizer(source: Path) -> Tokenizer:
    """The tokenizer that `save` wrote, or the one of somebody else's vocabulary (see `read_pieces`).

    A list of words is taken as lower-case when no word in it has a capital letter.

    Raises:
        DataError: no vocabulary there.
        CheckpointError: a newer diptych wrote it.
    """
    if not (source / SETTINGS_FILE).is_file():
        return _of_pieces(read_pieces(source), source=str(source))
    settings = json.loads((source / SETTINGS_FILE).read_text(encoding="utf-8"))
    if settings["format"] > FORMAT:
        raise CheckpointError(
            f"{source / SETTINGS_FILE} has format {settings['format']}; this diptych reads up to {FORMAT}. "
            "A newer diptych wrote it: upgrade with pip install -U diptych"
        )
    pieces = read_pieces(source)
    if settings["kind"] == "bpe":
        return _bpe(pieces)
    return _wordpiece(pieces, lower=settings["lower"], source=str(source))


def train_tokenizer(texts: Iterable[str], kind: Literal["bpe", "wordpiece"], vocab_size: int) -> Tokenizer:
    """A vocabulary of at most `vocab_size` ids learnt from `texts`; the same texts give the same one, in any order.

    Args:
        texts: read once.
        kind: "bpe" is laid out and cleaned as CLIP's, and can spell any text; "wordpiece" as uncased BERT's.
        vocab_size: at least 515 for "bpe" (512 are the bytes), 100 for "wordpiece".
    Raises:
        UsageError: `vocab_size` is too small.
        DataError: there are no words in `texts`.
    """
    from diptych.data import tokenizer_training as training

    smallest = 515 if kind == "bpe" else 100
    if vocab_size < smallest:
        raise UsageError(f"inputs.vocab_size is {vocab_size}; a {kind} vocabulary has at least {smallest} entries")
    split = _bpe_words if kind == "bpe" else _wordpiece_words
    words = training.count_words(texts, split)
    if not words:
        raise DataError("there is not a word to train a tokenizer on: the texts of the training split are empty")
    if kind == "bpe":
        return _bpe(clip_layout(training.bpe_merges(words, vocab_size - 514)))
    pieces = training.wordpiece_pieces(words, vocab_size)
    return _wordpiece(Pieces(ids=pieces), lower=True, source="training")


def clean_as_clip(text: str) -> str:
    """Mojibake and compatibility forms mended, HTML unescaped twice, white space collapsed, lower case."""
    # ftfy changes nothing in plain ASCII and costs as much as all the rest: 17 of 30 us a caption.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _of_pieces(pieces: Pieces, source: str) -> Tokenizer:
    if pieces.merges is not None:
        return _bpe(pieces)
    lower = all(piece == piece.lower() for piece in pieces.ids if not piece.startswith("["))
    return _wordpiece(pieces, lower=lower, source=source)


def _bpe(pieces: Pieces) -> Tokenizer:
    ids = dict(pieces.ids)
    start, end = (next((word for word in words if word in ids), words[0]) for words in _BPE_CONTROLS)
    missing = [piece for piece in (start, end, *_byte_pieces()) if piece not in ids]
    if missing:
        raise DataError(f"the BPE vocabulary lacks {missing[:5]}: it is not laid out as CLIP's and could not spell all")
    rust = RustTokenizer(_bpe_model(ids, pieces.merges or ()))
    rust.pre_tokenizer = _bpe_split()
    # CLIP pads with 0, which is also "!": harmless, because the mask and the pooling at the end leave it out.
    return Tokenizer(
        name="clip" if pieces.are_clips else "bpe",
        kind="bpe",
        lower=True,
        start_id=ids[start],
        end_id=ids[end],
        pad_id=0,
        rust=rust,
    )


_BPE_CONTROLS = ((BPE_START, "<start_of_text>"), (BPE_END, "<end_of_text>"))


def _bpe_model(ids: dict[str, int], merges: Sequence[tuple[str, str]]) -> models.BPE:
    known = {*ids}
    for left, right in merges:
        if not {left, right, left + right} <= known:
            raise DataError(f"the merge {left!r} {right!r} makes a piece that is not in the vocabulary")
    return models.BPE(vocab=ids, merges=list(merges), end_of_word_suffix=WORD_END)


def _wordpiece(pieces: Pieces, *, lower: bool, source: str) -> Tokenizer:
    ids = dict(pieces.ids)
    missing = [word for word in WORDPIECE_CONTROLS[:4] if word not in ids]
    if missing:
        raise DataError(f"{source} is no vocabulary of BERT's kind: it lacks {', '.join(missing)}")
    rust = RustTokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]", max_input_chars_per_word=100))
    rust.normalizer = _bert_normalizer(lower)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(
        name="wordpiece",
        kind="wordpiece",
        lower=lower,
        start_id=ids["[CLS]"],
        end_id=ids["[SEP]"],
        pad_id=ids["[PAD]"],
        rust=rust,
    )


@functools.cache
def _bpe_split() -> pre_tokenizers.PreTokenizer:
    """Words, single digits and runs of signs, their bytes as printable characters."""
    split = pre_tokenizers.Split(Regex(CLIP_SPLIT), behavior="removed", invert=True)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@functools.cache
def _bert_normalizer(lower: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lower)


def _bpe_words(text: str) -> list[str]:
    return [word for word, _ in _bpe_split().pre_tokenize_str(clean_as_clip(text))]


def _wordpiece_words(text: str) -> list[str]:
    normal = _bert_normalizer(lower=True).normalize_str(text.encode(errors="replace").decode())
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normal)]


def _byte_pieces() -> list[str]:
    return [*BYTE_OF_SYMBOL, *(symbol + WORD_END for symbol in BYTE_OF_SYMBOL)]


def _bytes_of(symbol: str) -> bytes:
    return b" " if symbol == " " else bytes([BYTE_OF_SYMBOL[symbol]])


def _write(file: Path, text: str) -> None:
    write_whole(file, text.encode())
