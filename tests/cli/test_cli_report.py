"""`diptych report`: what it prints, what it writes, and what it says of folders that hold no run."""

import json
import shlex

import pytest


@pytest.fixture
def make_run(tmp_path):
    def make(name, lr, losses, r1=None, chance=0.01):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(
            json.dumps({"system": "clip", "recipe": "tiny", "optim": {"lr": lr, "eps": 1}})
        )
        steps = [{"event": "step", "step": at, "time_s": at, "loss": loss} for at, loss in enumerate(losses, 1)]
        (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in steps))
        if r1 is not None:
            score = {"value": r1, "chance": chance, "low": 0.0, "high": 1.0, "count": 100, "unit": "share",
                     "label": "right picture first", "group": "Retrieval"}  # fmt: skip
            (folder / "metrics.json").write_text(json.dumps({"results": {"text_to_image_r1": score}}))
        return folder

    return make


def test_compare_shows_runs_side_by_side(exit_code, make_run, tmp_path, capsys):
    first, second = make_run("a", 1e-3, [3.0, 2.0], r1=0.41), make_run("b", 3e-3, [3.0, 1.0], r1=0.62)
    page, numbers = tmp_path / "both.html", tmp_path / "both.json"
    assert exit_code("report", "compare", first, second, "--out", page, "--json", numbers) == 0
    html = page.read_text()
    assert "b finds the right picture first for 62 of 100 texts; 41 in a" in html
    assert ">optim.lr<" in html
    assert ">optim.eps<" not in html, "what is the same is no difference"
    assert json.loads(numbers.read_text())["a"]["text_to_image_r1"]["value"] == 0.41
    printed = capsys.readouterr().out
    assert "41.0 %" in printed
    assert printed.strip().splitlines()[-1].startswith("Next: ")


def test_compare_says_whose_report_is_missing(exit_code, make_run, tmp_path):
    page = tmp_path / "both.html"
    runs = make_run("a", 1e-3, [3.0]), make_run("b", 1e-3, [3.0], r1=0.5)
    assert exit_code("report", "compare", *runs, "--out", page) == 0
    assert "No results yet: a." in page.read_text()


def test_galleries_of_other_sizes_are_told(exit_code, make_run, tmp_path, capsys):
    runs = make_run("a", 1e-3, [3.0], r1=0.5), make_run("b", 1e-3, [3.0], r1=0.6, chance=0.002)
    assert exit_code("report", "compare", *runs, "--out", tmp_path / "both.html") == 0
    assert "differs" in capsys.readouterr().out


def test_one_run_cannot_be_compared(exit_code, make_run, capsys):
    assert exit_code("report", "compare", make_run("a", 1e-3, [3.0])) == 2
    assert "name two or more" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [("show",), ("compare", ".")])
def test_a_folder_without_a_run(exit_code, tmp_path, capsys, verb):
    assert exit_code("report", *verb, tmp_path) == 1
    assert "holds no run" in capsys.readouterr().err


def test_show_writes_the_curves_of_a_run_without_weights(exit_code, make_run, capsys):
    folder = make_run("a", 1e-3, [3.0, 2.0])
    assert exit_code("report", "show", folder) == 0
    html = (folder / "report.html").read_text()
    assert "The loss went from 3.00 to 2.00 in 2 steps" in html
    printed, said = capsys.readouterr()
    assert "The loss went from 3.00 to 2.00" in printed
    assert "asked nothing: the run ended before its first checkpoint" in said
    page = (folder / "report.html").resolve().as_uri()
    assert printed.strip().splitlines()[-1] == f"Next: python3 -m webbrowser {page}"


def test_the_next_step_after_show_can_be_pasted(exit_code, make_run, tmp_path, capsys, monkeypatch):
    make_run("a b", 1e-3, [3.0, 2.0])
    make_run("c", 1e-3, [3.0, 1.0])
    (tmp_path / "aa").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, told in (("c", "compare c 'a b'"), ("a b", "compare 'a b' c")):
        assert exit_code("report", "show", name) == 0
        last = capsys.readouterr().out.strip().splitlines()[-1]
        assert last == f"Next: diptych report {told}"
        assert exit_code(*shlex.split(last)[2:]) == 0
    assert (tmp_path / "comparison.html").is_file()
    monkeypatch.chdir(tmp_path / "c")
    capsys.readouterr()
    assert exit_code("report", "show", ".") == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == "Next: diptych report compare . '../a b'"
