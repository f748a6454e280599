"""Recipes from outside: a run of a user's own file, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych import systems
from diptych.data.table import Table
from diptych.errors import UsageError
from diptych.overrides import apply_overrides
from diptych.train.fit import fit

MINE = '''
from dataclasses import dataclass, replace
from torch import nn
from diptych import systems
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Loss, Term

open({mark!r}, "a").write("imported ")

@dataclass(frozen=True, kw_only=True)
class Halved(Contrastive):
    """The contrastive loss at another weight, with a head that nobody reads."""

    share: float = 0.5

    @property
    def name(self):
        return {name!r}

    def heads(self, config):
        return {{self.name: nn.Linear(config.embed_dim, 2)}}

    def counts(self, batch, targets):
        return {{self.name: len(batch)}}

    def loss(self, encode, batch, targets):
        (term,) = super().loss(encode, batch, targets).terms.values()
        unread = 0.0 * sum(one.sum() for one in encode.heads[self.name].parameters())
        return Loss({{self.name: Term(total=term.total + unread, count=term.count, weight=self.share)}})

def run():
    return replace(systems.recipe("clip", "tiny"), objective=Halved())

def number():
    return 3

def broken():
    raise RuntimeError("no such luck")
'''


@pytest.fixture
def mine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A recipe file of a name of its own, so that no test sees another's module."""
    file = tmp_path / f"mine_{request.node.name.replace('[', '_').replace(']', '')}.py"
    file.write_text(MINE.format(mark=str(tmp_path / "mark"), name="halved"))
    path = list(sys.path)
    yield file
    sys.path[:] = path
    sys.modules.pop(file.stem, None)


def test_an_outside_recipe_trains_loads_and_is_never_run_by_its_json(
    texts: list[str], mine: Path, table: Table, tmp_path: Path
) -> None:
    run = systems.outside_recipe(f"{mine}:run")
    assert run.recipe == f"{mine.name}:run"
    small = [
        "inputs.vocab_size=540",
        "training.steps=2",
        "training.batch=4",
        "inputs.workers=0",
        "training.eval_rows=4",
    ]
    job = systems.build(apply_overrides(run, [*small, "objective.share=0.25"]), texts=texts)
    assert "heads.halved.weight" in job.model.state_dict()
    fit(job, table, tmp_path / "run", device="cpu")
    mark = (tmp_path / "mark").read_text()

    read = systems.read_run(tmp_path / "run")
    assert read.objective == systems.OutsideObjective(name="halved", settings={"known_pairs": False, "share": 0.25})
    assert systems.load(tmp_path / "run", "cpu").encode_text(["a red square"]).shape == (1, 32)
    with pytest.raises(UsageError, match=rf"'halved' of this run is not part of diptych.*PATH/{mine.name}:run"):
        systems.build(read, texts=texts)
    assert (tmp_path / "mark").read_text() == mark == "imported "


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("rum", "has no function 'rum'; did you mean 'run'"),
        ("number", "returned int; expected a diptych.train.run.Run"),
        ("broken", "failed: RuntimeError: no such luck"),
    ],
)
def test_what_is_wrong_with_a_function(mine: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        systems.outside_recipe(f"{mine}:{function}")


def test_what_is_wrong_with_a_file(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*missing\.py"):
        systems.outside_recipe(f"{tmp_path}/missing.py:run")
    with pytest.raises(UsageError, match=rf"write {mine}:run"):
        systems.outside_recipe(str(mine))
    (tmp_path / "unfinished_recipe.py").write_text("def run(:\n")
    with pytest.raises(UsageError, match="failed when it was imported: SyntaxError"):
        systems.outside_recipe(f"{tmp_path}/unfinished_recipe.py:run")
    (tmp_path / "json.py").write_text("def run(): ...\n")
    with pytest.raises(UsageError, match="has the name of another module"):
        systems.outside_recipe(f"{tmp_path}/json.py:run")
    (tmp_path / "a-b.py").write_text("")
    with pytest.raises(UsageError, match="letters, digits and underscores"):
        systems.outside_recipe(f"{tmp_path}/a-b.py:run")


def test_an_objective_must_not_take_a_name_of_ours(mine: Path, tmp_path: Path) -> None:
    mine.write_text(MINE.format(mark=str(tmp_path / "mark"), name="contrastive"))
    with pytest.raises(UsageError, match="named 'contrastive', as one of diptych's"):
        systems.outside_recipe(f"{mine}:run")


def test_an_objective_must_meet_the_contract(mine: Path) -> None:
    body = "from dataclasses import replace\nfrom diptych import systems\n"
    mine.write_text(body + "def run(): return replace(systems.recipe('clip', 'tiny'), objective=3)\n")
    with pytest.raises(UsageError, match="int, lacks name, couples_rows, chance_loss, columns, head"):
        systems.outside_recipe(f"{mine}:run")
