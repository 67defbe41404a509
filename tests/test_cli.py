"""The command line: its verbs on tiny notebooks and stand-in data, and its errors."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import data_prep
from spact_lib import ahead, cli, crossval, doctor, notebooks, readme, reproduce, verbs
from spact_lib.config import profile
from spact_lib.errors import UserError
from spact_lib.files import write_text
from spact_lib.manifest import read_manifest
from spact_lib.paths import committed_notebooks

NEEDS = {"needs": ["ucf101"], "full": {"needs": ["phvu"]}}
TABLE = "method,top-1,top-1 (paper)\nSPAct,91.20,62.03\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> SimpleNamespace:
    """A notebook that writes a table and a figure, an empty store, data "drawn" as one small manifest."""
    code = (
        "import os, pathlib\n"
        "for kind, name, text in [('tables', 'table1.csv', TABLE), ('figures', 'strip.png', 'png')]:\n"
        "    folder = pathlib.Path(os.environ['SPACT_RUNS'], kind, PROFILE)\n"
        "    folder.mkdir(parents=True, exist_ok=True)\n"
        "    (folder / name).write_text(text)\n"
        "print('trained', PROFILE)"
    )
    cells = [new_code_cell(f"PROFILE = 'mini'\nTABLE = {TABLE!r}"), new_code_cell(code)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel, "spact": NEEDS})
    path = tmp_path / "04_tiny.ipynb"
    nbformat.write(notebook, path)

    def draw(out: Path, draw: int, scale: str) -> None:
        rows = "a.avi,train,run\nb.avi,test,run\n"
        write_text(out / "ucf101" / "manifest.csv", f"path,split,action:single\n{rows}")

    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(data_prep, "mini", SimpleNamespace(draw=draw, is_drawn=lambda *_: True), raising=False)
    monkeypatch.setattr(verbs, "NOTEBOOKS", tmp_path)
    page = write_text(tmp_path / "README.md", "\n".join(readme.markers("map")) + "\n")
    monkeypatch.setattr(readme, "PAGES", {page: {"map": lambda: "filled"}, tmp_path / "none.md": {}})
    for module in (ahead, doctor, notebooks, reproduce, verbs):
        monkeypatch.setattr(module, "committed_notebooks", lambda: [path])
    return SimpleNamespace(notebook=path, runs=tmp_path / "runs")


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    return stop.value.code


def test_reproduce_runs_everything_and_sums_up(site, capsys):
    assert status("reproduce", "--profile", "smoke") == 0
    out = capsys.readouterr().out
    summary = (site.runs / "summary-smoke.md").read_text()
    for part in (
        "## table1",
        "| method | top-1 | top-1 (paper) |",
        "| SPAct  | 91.20 | 62.03         |",
        str(site.runs / "figures" / "smoke" / "strip.png"),
        "- 04_tiny.ipynb: 0.",
        "- total: 0.",
        "that it runs, and no more",
    ):
        assert part in summary and part in out
    assert "notebook 1 of 1: 04_tiny.ipynb" in out and "trained smoke" in out
    assert (site.runs / "notebooks" / "smoke" / "04_tiny.ipynb").exists()


def test_until_stops_after_a_notebook_and_is_no_finished_run(site, capsys, monkeypatch):
    later = site.notebook.with_name("05_later.ipynb")
    later.write_bytes(site.notebook.read_bytes())
    for module in (notebooks, reproduce):
        monkeypatch.setattr(module, "committed_notebooks", lambda: [site.notebook, later])
    assert status("reproduce", "--profile", "smoke", "--until", "04") == 0
    assert [path.name for path in (site.runs / "notebooks" / "smoke").glob("[!.]*")] == ["04_tiny.ipynb"]
    assert not (site.runs / "finished-smoke.txt").exists()
    assert status("reproduce", "--profile", "smoke", "--until", "06") == 2
    assert "no notebook '06'" in capsys.readouterr().err


def test_what_the_tables_read_is_part_of_what_has_changed(site, tmp_path, monkeypatch):
    here = tmp_path / "repository"
    monkeypatch.setattr(reproduce, "REPOSITORY", here)
    monkeypatch.setattr(reproduce, "RECORDS", here / "notebooks" / "records")
    read = [
        here / name
        for name in ("spact_lib/x.py", "spact_lib/reported.csv", "notebooks/records/claims.jsonl", "data_prep/x.py",
                     "notebooks/records/data.json")
    ]  # fmt: skip
    for path in read:
        write_text(path, "before")
    seen = [reproduce.everything(profile("smoke"))]
    for path in read:
        write_text(path, "after")
        seen.append(reproduce.everything(profile("smoke")))
    assert len(set(seen)) == len(read) + 1


def test_full_runs_the_list_and_then_the_notebooks_again(site, capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "FULL", (("04", {"TABLE": "method\nlong\n"}),))
    claims = []
    monkeypatch.setattr(
        reproduce, "run_claims", lambda profile, draws, jobs, tell: claims.append((profile.name, draws))
    )
    assert status("reproduce", "--profile", "smoke", "--full") == 0
    assert "further run 1 of 1: 04_tiny.ipynb {'TABLE': 'method\\nlong\\n'}" in capsys.readouterr().out
    copies = sorted(path.name for path in (site.runs / "notebooks" / "run").glob("[!.]*"))
    assert len(copies) == 1 and copies[0].startswith("04_tiny-PROFILE=smoke-TABLE=method_long_")
    assert claims == [("smoke", ())]
    # The last pass is the default one, so what is promoted is no further run.
    assert (site.runs / "tables" / "smoke" / "table1.csv").read_text() == TABLE
    assert set(kept_minutes(site)) == {"data", "04_tiny.ipynb", "full"}


def kept_minutes(site: SimpleNamespace) -> dict[str, float]:
    path = site.runs / "records" / "smoke" / "minutes.json"
    return json.loads(path.read_text())["minutes"] if path.exists() else {}


def test_minutes_are_kept_of_first_undisturbed_runs_alone(site, capsys):
    assert status("reproduce", "--profile", "smoke") == 0
    (site.runs / "store").mkdir()
    kept = kept_minutes(site)
    assert set(kept) == {"data", "04_tiny.ipynb"}
    assert status("reproduce", "--profile", "smoke") == 0 and kept_minutes(site) == kept  # a second run tells nothing
    assert "nothing has changed since the last run" in capsys.readouterr().out
    copy = site.runs / "notebooks" / "smoke" / "04_tiny.ipynb"
    minutes = site.runs / "records" / "smoke" / "minutes.json"
    for disturbed in (True, False):
        minutes.write_text('{"hardware": "", "minutes": {"data": 1.0}}')
        copy.unlink()
        if disturbed:
            notebooks.unfinished(copy).write_text("{}")
        assert status("reproduce", "--profile", "smoke") == 0
        assert set(kept_minutes(site)) == ({"data"} if disturbed else {"data", "04_tiny.ipynb"})
        # Whoever measures nothing does not say on what the others were measured.
        assert (json.loads(minutes.read_text())["hardware"] == "") == disturbed
    minutes.unlink()  # a store whose beginning nobody measured
    copy.unlink()
    assert status("reproduce", "--profile", "smoke") == 0 and kept_minutes(site) == {}


def test_who_waits_for_anothers_run_keeps_no_minutes_of_it(site, monkeypatch):
    @contextmanager
    def waited(lock: Path) -> Iterator[None]:
        write_text(site.runs / "notebooks" / "smoke" / "04_tiny.ipynb", "what the other one has executed")
        yield

    monkeypatch.setattr(notebooks, "FileLock", waited)
    minutes, first = reproduce._run_in_order("smoke", [site.notebook])
    assert list(minutes) == ["04_tiny.ipynb"] and first == []


def test_damaged_minutes_are_named(site):
    minutes = write_text(site.runs / "records" / "smoke" / "minutes.json", "<<<<<<< HEAD")
    with pytest.raises(UserError, match=f"^{minutes} is damaged; restore or remove this file"):
        reproduce.keep_minutes("smoke", {"data": 1.0}, "1 process")


def test_the_list_of_full_names_notebooks_and_parameters_that_exist():
    for name, parameters in notebooks.FULL:
        (path,) = [path for path in committed_notebooks() if path.name.startswith(name)]
        notebooks.check_parameters(path, parameters)


def test_promote_commits_a_mini_run_and_no_smoke_run(site, capsys):
    assert status("promote") == 2
    assert "no notebook of profile mini has been executed yet" in capsys.readouterr().err
    assert status("reproduce", "--profile", "smoke") == 0 and status("promote") == 2
    assert "no notebook of profile mini has been executed yet" in capsys.readouterr().err
    assert status("reproduce", "--profile", "mini") == 0
    write_text(site.runs / "records" / "mini" / "04.jsonl", '{"key": "new", "made": "2027"}\n')
    write_text(site.runs / "records" / "mini" / "data.json", '{"mini": "2"}')
    records = site.notebook.parent / "records"
    write_text(records / "04.jsonl", '{"key": "old", "made": "2026"}\n')
    write_text(records / "data.json", '{"gestures": "0", "mini": "1"}')
    assert status("promote") == 0
    assert (records / "04.jsonl").read_text() == '{"key": "new", "made": "2027"}\n'
    assert json.loads((records / "data.json").read_text()) == {"gestures": "0", "mini": "2"}
    assert [cell.execution_count for cell in nbformat.read(site.notebook, 4).cells] == [1, 2]
    assert nbformat.read(site.notebook, 4).metadata["spact"] == NEEDS
    assert (site.notebook.parent / "README.md").read_text().splitlines()[1] == "filled"


def test_paper_profile_says_which_data_is_missing(site, capsys):
    assert status("reproduce", "--profile", "paper") == 2
    assert "needs datasets that are not prepared" in (err := capsys.readouterr().err) and "ucf101" in err
    assert status("doctor", "--profile", "paper") == 1
    page = "04_tiny.ipynb: needs ucf101\n  for all columns: needs phvu\nto do: spact prepare ucf101 --root DIR; to get"
    assert page in capsys.readouterr().out
    folder = site.runs / "data" / "official" / "ucf101"
    write_text(folder / "manifest.csv", "path,split,action:single\na.avi,train,run\na.avi,test,run\n")
    (folder / "a.avi").touch()
    assert status("doctor", "--profile", "paper") == 0  # what is missing is asked for by --full alone
    page = capsys.readouterr().out
    assert "for --full: spact prepare phvu --root DIR" in page and "next: spact reproduce --profile paper" in page
    assert status("doctor", "--profile", "mini") == 0
    assert "next: spact reproduce --profile mini" in capsys.readouterr().out


def test_claims_say_which_data_they_lack(site, capsys, monkeypatch):
    """None of the settings can be opened: refused; one of them can: the others are told, and it is made."""
    made = []
    monkeypatch.setattr(reproduce.replicates, "make", lambda *asked: made.append(asked) or [])
    monkeypatch.setattr(reproduce, "notebook", lambda start: site.notebook)
    assert status("claims", "--profile", "paper", "--jobs", "1") == 2
    official = site.runs / "data" / "official"
    lacks = (
        f"datasets that are not prepared in {official}: hmdb51, phvu, ucf101, vispr; run `spact prepare hmdb51 --root"
    )
    assert lacks in capsys.readouterr().err and not made and not (site.runs / "notebooks").exists()
    for name in ("ucf101", "vispr"):
        write_text(official / name / "manifest.csv", "path,split,action:single\na.avi,train,run\na.avi,test,run\n")
    assert status("claims", "--profile", "paper", "--jobs", "1") == 0
    told = f"are not prepared in {official}: hmdb51, phvu; run `spact prepare hmdb51 --root DIR`, `spact prepare phvu"
    assert told in capsys.readouterr().out and len(made) == 1


def test_prepare_counts_what_it_made(site, capsys):
    assert status("prepare", "mini", "--draw", "3") == 0
    out = capsys.readouterr().out
    assert "draw 3" in out and "ucf101: 1 train, 1 test; tasks: action (single, 1)" in out
    folder = site.runs / "data" / "mini" / "mini-draw3" / "ucf101"
    assert (folder / "manifest.csv").exists() and (folder / "report.json").exists()
    given = ("--root", "/x", "--split", "2", "--bad-files", "stop")
    assert (
        status("prepare", "mini", *given) == 2 and "leave out --root, --split, --bad-files" in capsys.readouterr().err
    )
    for given in (("--draw", "0"), ("--scale", "mini")):
        assert status("prepare", "ucf101", "--root", "/x", *given) == 2
        assert f"ucf101 is read, not drawn: leave out {given[0]}\n" in capsys.readouterr().err
    assert status("prepare", "ucf101") == 2 and "--root DIR" in capsys.readouterr().err


def test_a_bad_argument_is_answered_before_torch_is_loaded():
    code = "import sys; from spact_lib import cli; cli.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_report_and_cache_of_ones_own_csv(tiny_csv, tmp_path, capsys):
    out = tmp_path / "copy"
    assert status("report", str(tiny_csv)) == 0
    assert "media: 11 of 11 files" in capsys.readouterr().out
    assert status("cache", str(tiny_csv), "--short-side", "16", "--fps", "5", "--out", str(out)) == 0
    text = capsys.readouterr().out
    assert "  11 files, 11 of them written now, in " in text and "read back" in text and "times as fast" in text
    assert status("report", str(out)) == 0
    assert "tiny: 6 train, 2 val, 3 test, 1 unused" in capsys.readouterr().out
    given = ("--steady", "--output", str(tmp_path / "x.html"), "--profile", "mini")
    assert status("report", str(tiny_csv), *given) == 2
    assert "tiny.csv is a dataset, no video file: leave out --output, --steady, --profile\n" in capsys.readouterr().err
    assert status("report", "ucf") == 2
    assert "unknown dataset 'ucf'; choose one of: a CSV file, a folder with manifest.csv" in capsys.readouterr().err
    for verb in (["report"], ["cache", "--short-side", "16", "--out", str(out)]):
        assert status(*verb, "hmdb51") == 2
        said = capsys.readouterr().err
        assert "dataset 'hmdb51' is not prepared" in said and "run `spact prepare hmdb51 --root DIR`" in said
    assert status("report", str(tiny_csv.parent / "clips")) == 2
    assert "clips is a folder without manifest.csv; give a CSV table" in capsys.readouterr().err


def test_run_names_the_copy_by_its_parameters(site):
    assert status("run", "04", "-p", "PROFILE", "smoke") == 0
    assert (site.runs / "notebooks" / "run" / "04_tiny-PROFILE=smoke.ipynb").exists()


def test_run_names_the_tables_and_figures_that_it_wrote(site, capsys):
    table, figure = site.runs / "tables" / "smoke" / "table1.csv", site.runs / "figures" / "smoke" / "strip.png"
    other = write_text(site.runs / "tables" / "smoke" / "other.csv", "of another run")
    for _ in range(2):  # written again, though nothing has changed
        assert status("run", "04", "-p", "PROFILE", "smoke") == 0
        out = capsys.readouterr().out
        assert f"run: table {table}\nrun: figure {figure}\n" in out and str(other) not in out


def test_run_takes_notebooks_and_clips_of_any_name(site, tmp_path, monkeypatch, capfd):
    notebook = nbformat.read(site.notebook, 4)
    notebook.cells[0].source = "CLIP = ''"
    notebook.cells[1].source = "print(ascii(CLIP)); print(open(CLIP).read())"
    nbformat.write(notebook, tmp_path / (name := '-it\'s "my"\n🙂 $(id).ipynb'))
    (clip := tmp_path / "-a 'b' \"c\"\n\\n{d} 🙂.mp4").write_text("was read")
    monkeypatch.chdir(tmp_path)
    assert status("run", "-p", "CLIP", str(clip), "--", name) == 0
    out = capfd.readouterr().out
    assert ascii(str(clip)) in out and "was read" in out
    assert len(list((site.runs / "notebooks" / "run").glob("[!.]*.ipynb"))) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["reproduce", "--profile", "papr"], "unknown profile 'papr'; choose one of: mini, paper, smoke"),
        (["run", "04", "-p", "PROFIL", "smoke"], "has no parameter 'PROFIL'; choose one of: PROFILE"),
        (["run", "99"], "no notebook '99'; give a path, or the start of one of: 04_tiny"),
    ],
)
def test_errors_are_one_sentence_and_no_traceback(site, capsys, arguments, sentence):
    assert status(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("spact: error: ") and sentence in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["mini", "custom"])
def test_what_is_in_the_way_of_a_prepared_dataset_is_named(name, tiny_csv, tmp_path, capsys):
    given = ["--root", str(tiny_csv)] if name == "custom" else []
    taken = tmp_path / "tiny" / "manifest.csv"
    taken.mkdir(parents=True)
    out = tmp_path if name == "custom" else write_text(tmp_path / "file", "")
    assert status("prepare", name, *given, "--out", str(out)) == 2
    said = "Is a directory" if name == "custom" else "File exists"
    assert f"cannot use {taken if name == 'custom' else out}: {said}" in capsys.readouterr().err


def test_two_folders_with_the_same_rows_are_screened_apart(tiny_csv, tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise UserError("enough")

    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(crossval, "folds", stop)
    for name in ("one", "other"):
        shutil.copytree(tiny_csv.parent, tmp_path / name)
        (tmp_path / name / "clips" / "00.avi").unlink()
        given = ("--leave-out", "person", "--action", "action", "--privacy", "attributes", "--bad-files", "skip")
        assert status("evaluate", str(tmp_path / name / "tiny.csv"), *given, "--profile", "smoke") == 2
    kept = [read_manifest(path.parent) for path in (tmp_path / "runs" / "screened").glob("*/*/manifest.csv")]
    assert {manifest.root for manifest in kept} == {tmp_path / "one", tmp_path / "other"}


@pytest.mark.parametrize("verb", [("train",), ("submit", "--cluster", "local", "--jobs", "1")])
def test_a_misspelt_row_is_refused_before_data_are_drawn(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    assert status(*verb, "spct", "--profile", "smoke") == 2
    assert "unknown method 'spct'" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_reader_who_goes_away_is_no_fault(tmp_path):
    """``spact ... | head -1``."""
    command = [sys.executable, "-c", "from spact_lib import cli; cli.main(['doctor'])"]
    environment = os.environ | {"SPACT_RUNS": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1 and said == ""
