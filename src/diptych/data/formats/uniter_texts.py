"""UNITER's databases of captions: texts as WordPieces, and the names that its region files know their pictures by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diptych.data.formats.record import Record, split_of_file
from diptych.data.region_files.uniter_lmdb import UniterTexts
from diptych.data.rejects import Reject
from diptych.data.tokenizers import Tokenizer, named_tokenizer
from diptych.errors import DataError

VOCABULARY, VOCABULARY_FILE = "bert-base-cased", "vocab.txt"
CONTROLS = ("CLS", "SEP", "MASK", "UNK")
"""Words whose ids meta.json says; in the vocabulary they stand in brackets."""
FIRST_WORD, RELEASED_WORDS = "!", 28_996
"""The word at the first id of meta.json's v_range, and what BERT's cased vocabulary has of words."""
OF_TASKS = ("target", "input_ids_as", "qa_target", "bbox", "ref_id")
"""Fields of examples that are questions, and no captions."""
CAPTIONS = "pretrain_*.db, itm_*.db, conceptual_caption_*.db and sbu_caption_*.db"


def sniff(source: Path) -> bool:
    """Whether `source` is such a folder, of whatever task."""
    return (source / "data.mdb").is_file() and any(source.glob("id2len*.json"))


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The captions in the order of id2len.json; the key is the picture's name in UNITER's region files.

    There are no pictures in it. A text is what its pieces spell; one whose pieces would not come back when it is read
    again, such as [UNK], is rejected. The split is told by the folder's name.

    Raises:
        DataError: it is no such folder, or one of another task; or BERT's cased vocabulary is not to be had, or not
            the one that the ids are of.
    """
    if not sniff(source):
        raise DataError(f"{source} is no database of texts; expected a folder with data.mdb and id2len.json")
    texts = UniterTexts(source)
    _check_captions(texts)
    tokenizer, split = _tokenizer(texts), split_of_file(source.stem)
    for id_ in texts.ids:
        name = f"{source.name} {id_}"
        key = texts.pictures.get(id_)
        if not isinstance(key, str):
            yield Reject(id_, name, "txt2img.json names no picture of it")
            continue
        try:
            text = _text(texts.example(id_), tokenizer)
        except (DataError, KeyError, TypeError, ValueError, OverflowError) as error:
            yield Reject(key, name, _why(error, id_, texts))
            continue
        yield Record(key=key, source=name, image=None, texts=(text,), split=split)


def _check_captions(texts: UniterTexts) -> None:
    for id_ in texts.ids:
        try:
            fields: Mapping[str, Any] = texts.example(id_)
        except DataError:
            continue
        task = [field for field in OF_TASKS if field in fields]
        if task or not texts.pictures or not isinstance(texts.pictures.get(id_, ""), str):
            found = f"its examples have {', '.join(task)}" if task else "its examples are not of one picture each"
            raise DataError(
                f"{texts.path} holds the questions of a task ({found}), which a table of pictures and texts would "
                f"lose; databases of captions are imported: {CAPTIONS}"
            )
        return
    raise DataError(f"{texts.path} has no whole example{''.join(f'; {note}' for note in texts.notes)}")


def _tokenizer(texts: UniterTexts) -> Tokenizer:
    """BERT's cased one, of the words that lie in the folder or beside it, else of this machine or the hub."""
    made_with = str(texts.meta.get("bert") or texts.meta.get("tokenizer") or VOCABULARY)
    if not made_with.endswith("-cased"):
        raise DataError(f"{texts.path} was made with the tokenizer {made_with!r}; expected {VOCABULARY}, as released")
    beside = [folder / VOCABULARY_FILE for folder in (texts.path, texts.path.parent)]
    file = next((file for file in beside if file.is_file()), None)
    try:
        tokenizer = named_tokenizer(VOCABULARY, file)
    except DataError as error:
        if file is not None:
            raise
        raise DataError(
            f"{texts.path} holds ids of words, whose list is neither here nor to be had from the hub; put the "
            f"{VOCABULARY_FILE} of {VOCABULARY} into it or beside it"
        ) from error
    differing = _differing(texts.meta, tokenizer)
    if differing:
        vocabulary = f"this machine's {VOCABULARY}" if file is None else file
        raise DataError(
            f"{texts.path / 'meta.json'} has {differing[0]}, and {vocabulary} has {differing[1]}: the ids are of "
            f"another vocabulary; put the {VOCABULARY_FILE} that they were made with, {VOCABULARY}'s, into the folder "
            "or beside it"
        )
    return tokenizer


def _differing(meta: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[str, str] | None:
    """What the database says of the words it was made with, and what the vocabulary has instead; None: it agrees."""
    first, end = _range(meta)
    words = {f"[{name}]": meta.get(name) for name in CONTROLS} | {FIRST_WORD: first}
    for word, made_with in words.items():
        found = tokenizer.rust.token_to_id(word)
        if made_with not in (None, found):
            return f"the id {made_with} for {word}", "no such word" if found is None else f"{found} for it"
    size = tokenizer.rust.get_vocab_size()
    if end is not None and (size < end or (end == RELEASED_WORDS and size != end)):
        return f"{end:,} words", f"{size:,}"
    if all(word == word.lower() for word in tokenizer.rust.get_vocab() if not word.startswith("[")):
        return "the words of a cased tokenizer", "none with an upper-case letter"
    return None


def _range(meta: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The ids that the database's makers drew words from: that of FIRST_WORD, and how many words there are."""
    match meta.get("v_range"):
        case [int(first), int(end)]:
            return first, end
        case _:
            return None, None


def _text(example: Mapping[str, Any], tokenizer: Tokenizer) -> str:
    ids = [int(one) for one in example["input_ids"]]
    if not ids:
        raise DataError("it has no words")
    size = tokenizer.rust.get_vocab_size()
    beyond = next((id_ for id_ in ids if not 0 <= id_ < size), None)
    if beyond is not None:
        raise DataError(f"its id {beyond:,} is none of the {size:,} words of the vocabulary")
    text = tokenizer.decode(ids)
    if tokenizer.encode(text, len(ids) + 3)[1:-1] != ids:
        raise DataError("its pieces spell no text that would be read as the same, as [UNK] does not")
    return text


def _why(error: Exception, id_: str, texts: UniterTexts) -> str:
    if texts.notes and id_ not in texts:
        return texts.notes[0]
    return str(error) if isinstance(error, DataError) else f"its record is damaged: {error}"
