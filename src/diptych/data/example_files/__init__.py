"""Public files of questions, statements and phrases as tables of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diptych.data.example_files import entailment, nlvr2, referring, vcr, vqa
from diptych.data.example_files.form import Form
from diptych.data.examples import COLUMNS, Task, write_example
from diptych.data.layout import REJECTS_FILE
from diptych.data.rejects import Reject, RejectLog
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, UsageError
from diptych.progress import SILENT, Progress

FORMS: Mapping[Task, Form] = {
    "vqa": vqa.FORM,
    "ve": entailment.FORM,
    "nlvr2": nlvr2.FORM,
    "vcr": vcr.FORM,
    "re": referring.FORM,
}


def examples_of_files(
    source: Path, out: Path, task: Task, *, picture_keys: Sequence[str] = (), progress: Progress = SILENT
) -> int:
    """Writes the files that a data set is published in as a table of examples.

    Splits are told by the files' names, or by the rows. What nobody tells (answers of a test split) is null. A bad row
    costs itself, and is listed in OUT/rejects.jsonl.

    Args:
        source: one file, or a folder of them; what belongs to it (annotations) lies beside.
        out: the folder of the new table.
        task: whose files they are.
        picture_keys: what pictures are called in the store of regions, with the form's fields in braces; several where
            the regions of one picture lie under several names; none: as the form says.
        progress: where the work is drawn.
    Returns:
        How many rows were left out, which OUT/rejects.jsonl lists.
    Raises:
        DataError: there are no such files, none of their rows can be used, or one of them is damaged.
        UsageError: `picture_keys` asks for something else, or no files are published for the task.
        RunExistsError: `out` is there already.
    """
    if task not in FORMS:
        raise UsageError(f"{source} is no table; expected one for {task!r}, whose texts have their words swapped")
    form = FORMS[task]
    templates = tuple(picture_keys) or (form.picture_key,)
    _check(form, templates)
    with (
        TableWriter(out, columns=COLUMNS[task], source=str(source)) as writer,
        RejectLog(writer.folder / REJECTS_FILE) as rejects,
        progress.bar("reading", total=None, unit="rows") as bar,
    ):
        first: Reject | None = None
        for split, one in form.read(source, templates):
            if not isinstance(one, Reject) and one.key in writer.written_keys():
                one = Reject(one.key, str(source), "its key came before; keys are unique in a table")
            if isinstance(one, Reject):
                first = first or one
                rejects.add(one)
            else:
                write_example(writer, task, split, one)
                bar.advance(1)
        if first is not None and not writer.rows:
            raise DataError(
                f"no row of {source} can be read as {form.name}'s; the first, {first.source}: {first.reason}"
            )
        return len(rejects)


def _check(form: Form, templates: Sequence[str]) -> None:
    if len(templates) > form.most_keys:
        raise UsageError(
            f"--picture-key came {len(templates)} times; for {form.name} it is given at most {form.most_keys}"
        )
    for template in templates:
        try:
            template.format(**form.fields)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise UsageError(
                f"--picture-key {template!r} cannot be filled in ({error}); there are {', '.join(form.fields)}, "
                f"e.g. {form.picture_key}"
            ) from error
