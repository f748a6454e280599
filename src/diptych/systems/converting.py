"""Trained weights from one layout to another: ours, open_clip's, Hugging Face's, UNITER's, bottom-up attention's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from diptych.checkpoint.files import write_whole
from diptych.checkpoint.store import CheckpointStore, best_or_last
from diptych.data.tokenizers import SETTINGS_FILE, Tokenizer
from diptych.errors import RunExistsError, UsageError, unknown
from diptych.systems.rooms import recipe, recipes, room
from diptych.systems.runs import read_run
from diptych.systems.trained import Trained, read_published, read_trained, source_path
from diptych.train.run import Run, plain_run

Layout = Literal["open_clip", "huggingface", "uniter", "diptych"]
LAYOUTS = ("open_clip", "huggingface", "uniter", "diptych")
BOTTOM_UP = "bottom-up attention"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a source of weights without building its model."""

    layout: str
    """"openai", "open_clip", "huggingface", "torchvision", "lxmert", "detectron2", "uniter", "bert" or "diptych"."""
    system: str
    """The room, or BOTTOM_UP."""
    config: Any
    """The room's; of bottom-up attention `BottomUpSettings`."""
    num_tensors: int
    num_parameters: int
    heads: tuple[str, ...]
    """Of objectives and tasks, as far as the source has them."""
    ignored: dict[str, str]
    """Tensors and settings of the source that have no place in the model, and why they may be left out."""
    notes: tuple[str, ...] = ()
    """What else somebody who converts it should know."""


def describe(source: str | Path, config: Any = None) -> Description:
    """Says what a source of weights holds, reading all of its tensors; see `load` for what both may be.

    Raises:
        WeightsError: it is of no known layout, damaged, or does not fit what it says of itself.
    """
    from diptych.detector.weights import identify, is_bottom_up

    path = source_path(source)
    state: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    if (path / "run.json").is_file():
        if config is not None:
            raise UsageError(f"{source} is a run, whose run.json says what model it is; leave the config out")
        run = read_run(path)
        layout, system, config, ignored = "diptych", run.system, run.model, {}
        state = best_or_last(path).model()
    elif is_bottom_up(path):
        from diptych.systems.bottom_up import read_release, settings_of

        release = read_release(path, config)
        layout, system, ignored, notes = str(identify(path)), BOTTOM_UP, dict(release.ignored), release.notes
        state, config = release.state, settings_of(release)
    else:
        system, found = read_published(path, config)
        layout, config, ignored = found.layout, found.config, dict(found.ignored)
        state = found.state
    # The statistics of batch norm are saved as weights are, and are none.
    learnt = [tensor for name, tensor in state.items() if "running_" not in name and "num_batches" not in name]
    return Description(
        layout=layout,
        system=system,
        config=config,
        num_tensors=len(state),
        num_parameters=sum(tensor.numel() for tensor in learnt),
        heads=tuple(dict.fromkeys(name.split(".")[1] for name in state if name.startswith("heads."))),
        ignored=ignored,
        notes=notes,
    )


def convert(
    source: str | Path,
    out: Path,
    layout: Layout,
    config: Any = None,
    *,
    classes: tuple[str, ...] = (),
    attributes: tuple[str, ...] = (),
) -> list[str]:
    """Writes trained weights, with config, preprocessing and vocabulary, as a folder of another layout.

    Args:
        source: as `load` takes it.
        out: a folder that is not there yet, or empty.
        layout: "open_clip" (`local-dir:OUT`), "huggingface" (`CLIPModel.from_pretrained(OUT)`), "uniter" (the released
            names), or "diptych", a run folder that `load`, `evaluate` and `--init` take.
        config: as `load` takes it.
        classes: names for bottom-up attention, whose published weights have none; they travel with what is written.
        attributes: likewise.
    Returns:
        What the user should know of the result, a sentence each.
    Raises:
        UsageError: no such layout.
        RunExistsError: `out` holds something.
        WeightsError: the source cannot be read, or the layout cannot hold such a model.
    """
    from diptych.detector.weights import is_bottom_up

    if layout not in LAYOUTS:
        raise UsageError(unknown("layout", layout, LAYOUTS))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunExistsError(f"{out} holds something already; choose another folder")
    path = source_path(source)
    if not (path / "run.json").is_file() and is_bottom_up(path):
        from diptych.systems.bottom_up import convert_release, read_release

        return convert_release(read_release(path, config, classes=classes, attributes=attributes), out, layout)
    if classes or attributes:
        raise UsageError(f"{source} is not bottom-up attention, whose classes alone are named by files; leave them out")
    trained = read_trained(source, config)
    if layout == "diptych":
        _write_run(trained, out)
        return []
    room(trained.system).weights.write(out, trained.config, trained.state, layout)
    assert trained.tokenizer is not None, "what is written for others reads texts"
    return _write_vocabulary(trained.tokenizer, out, layout, trained.config.context)


def _write_run(trained: Trained, out: Path) -> None:
    run = Run(
        system=trained.system,
        recipe="converted",
        model=trained.config,
        objective=recipe(trained.system, recipes(trained.system)[0]).objective,
        inputs=trained.inputs,
    )
    out.mkdir(parents=True, exist_ok=True)
    if trained.tokenizer is not None:
        trained.tokenizer.save(out / "tokenizer")
    CheckpointStore(out).save(0, model=trained.state, optimizer={}, state={"source": trained.source})
    write_whole(out / "run.json", json.dumps(plain_run(run), indent=2) + "\n")


def _write_vocabulary(tokenizer: Tokenizer, out: Path, layout: Layout, context: int) -> list[str]:
    """The vocabulary where the other library looks for it; else in OUT/tokenizer, with a word about it."""
    if layout == "huggingface" and tokenizer.kind == "bpe":
        tokenizer.save(out)
        (out / SETTINGS_FILE).unlink()
        settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context}
        write_whole(out / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
        return []
    if layout == "open_clip" and tokenizer.name == "clip":
        return []
    if layout == "uniter":
        tokenizer.save(out / "tokenizer")
        return []
    tokenizer.save(out / "tokenizer")
    return [
        f"Its vocabulary of {tokenizer.vocab_size} entries is its own and lies in {out / 'tokenizer'}: {layout} would "
        "cut texts by another one. diptych.load takes it from there."
    ]
