"""Vocabularies on disk: CLIP's merges, Hugging Face's files, BERT's word lists, and where CLIP's may be found."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.data.hub_file import hub_file
from diptych.errors import DataError

CLIP_FILE = "bpe_simple_vocab_16e6.txt.gz"
CLIP_NUM_MERGES = 48_894
CLIP_MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
"""Of the merges, one a line: what tells CLIP's vocabulary from others of its layout."""
BERT_HUB_NAME = "google-bert/bert-base-cased"
CLIP_HUB_NAME = "openai/clip-vit-base-patch32"
WORD_END = "</w>"
BPE_START, BPE_END = "<|startoftext|>", "<|endoftext|>"
MASK = "[MASK]"
WORDPIECE_CONTROLS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", MASK)

_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)
BYTE_OF_SYMBOL = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}
"""The printable character that stands for each byte in a BPE vocabulary, in the order of CLIP's ids."""

Merge = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What a tokenizer knows: the ids of its pieces, and for BPE the merges in their order."""

    ids: Mapping[str, int]
    merges: tuple[Merge, ...] | None = None
    """None for WordPiece, which looks for the longest piece instead."""

    @property
    def are_clips(self) -> bool:
        """Whether this is CLIP's released vocabulary."""
        lines = "\n".join(f"{left} {right}" for left, right in self.merges or ())
        return hashlib.sha256(lines.encode()).hexdigest() == CLIP_MERGES_SHA256


def clip_layout(merges: Sequence[Merge]) -> Pieces:
    """The ids that CLIP gives to the pieces of its BPE: bytes, bytes that end a word, merges, start, end.

    CLIP's released tokenizer; the 48,894 merges of its file give 49,408 ids.
    """
    bytes_inside = list(BYTE_OF_SYMBOL)
    bytes_last = [symbol + WORD_END for symbol in bytes_inside]
    pieces = [*bytes_inside, *bytes_last, *(left + right for left, right in merges), BPE_START, BPE_END]
    return Pieces(ids={piece: number for number, piece in enumerate(pieces)}, merges=tuple(merges))


def read_pieces(source: Path) -> Pieces:
    """The vocabulary in a file or folder.

    Args:
        source: CLIP's `bpe_simple_vocab_16e6.txt.gz` (only its first 48,894 merges count), a `merges.txt`, a
            `tokenizer.json`, a BERT `vocab.txt`, or a folder with one of these.
    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        return _read_folder(source) if source.is_dir() else _read_file(source)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{source} cannot be read as a vocabulary: {error}. Expected {CLIP_FILE}, vocab.json with merges.txt, "
            "tokenizer.json or a BERT vocab.txt"
        ) from error


def find_clip_pieces() -> Pieces:
    """CLIP's vocabulary from an installed open_clip_torch, else from the hub's cache, else from the hub.

    Raises:
        DataError: none of them has it; the message says how to get it.
    """
    for package in ("open_clip", "clip"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            if (file := Path(folder) / CLIP_FILE).is_file():
                return read_pieces(file)
    return read_pieces(_clip_merges_from_hub())


def bert_cased_file() -> Path:
    """The words of BERT's cased models, from the hub's cache, else from the hub.

    Raises:
        DataError: neither has them; the message says how to get them.
    """
    return _from_hub(
        BERT_HUB_NAME,
        "vocab.txt",
        why="BERT's cased vocabulary is not on this machine",
        do="put the vocab.txt of bert-base-cased beside the weights, or name it with --set inputs.tokenizer=PATH",
    )


def _clip_merges_from_hub() -> Path:
    return _from_hub(
        CLIP_HUB_NAME,
        "merges.txt",
        why=f"CLIP's vocabulary is not on this machine: no {CLIP_FILE} given, no package open_clip_torch installed",
        do=f"Do one of: pip install open_clip_torch; put the file {CLIP_FILE} (or the vocab.json and merges.txt of a "
        "checkpoint) on disk and name it with --set inputs.tokenizer=PATH",
    )


def _from_hub(repository: str, file: str, *, why: str, do: str) -> Path:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return hub_file(repository, file)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise DataError(
            f"{why}, and {repository} is neither in the hub's cache nor to be had from the hub "
            f"({type(error).__name__}). {do[0].upper()}{do[1:]}"
        ) from error


def _read_folder(folder: Path) -> Pieces:
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        return Pieces(ids=ids, merges=_parsed_merges((folder / "merges.txt").read_text(encoding="utf-8")))
    for name in ("tokenizer.json", CLIP_FILE, "merges.txt", "vocab.txt"):
        if (folder / name).is_file():
            return _read_file(folder / name)
    raise ValueError("the folder holds no vocabulary")


def _read_file(file: Path) -> Pieces:
    if file.suffix == ".json":
        return _from_rust_json(json.loads(file.read_text(encoding="utf-8"))["model"])
    data = file.read_bytes()
    text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    second = text.split("\n", 2)[1:2]
    if second and len(second[0].split()) == 2:
        return clip_layout(_parsed_merges(text)[:CLIP_NUM_MERGES])
    words = text.removesuffix("\n").split("\n")
    return Pieces(ids={word.rstrip("\r"): number for number, word in enumerate(words)})


def _from_rust_json(model: Mapping[str, object]) -> Pieces:
    ids = model["vocab"]
    if not isinstance(ids, dict) or model.get("type") not in ("BPE", "WordPiece"):
        raise ValueError(f"its model is {model.get('type')}, neither BPE nor WordPiece")
    if model["type"] == "WordPiece":
        return Pieces(ids=ids)
    merges = model["merges"]
    assert isinstance(merges, list)
    return Pieces(
        ids=ids, merges=tuple(_pair(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges)
    )


def _parsed_merges(text: str) -> tuple[Merge, ...]:
    """One merge a line; line 0 is a header where it speaks of a version."""
    lines = text.removesuffix("\n").split("\n")
    if "#version" in lines[0]:
        lines = lines[1:]
    return tuple(_pair(line.rstrip("\r").split(" ")) for line in lines if line)


def _pair(parts: Sequence[str]) -> Merge:
    if len(parts) != 2:
        raise ValueError(f"{' '.join(parts)!r} is no merge of two pieces")
    return parts[0], parts[1]
