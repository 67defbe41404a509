"""The committed notebooks: hygiene, smoke run, nbval.

xdist must keep this file in one worker (``--dist loadfile``): its tests share what the smoke run trained.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from spact_lib import attacks, notebooks, protocols
from spact_lib.paths import REPOSITORY, committed_notebooks
from spact_lib.video import write_video

NOTEBOOKS = committed_notebooks()
# These train or need what was trained; run by nbval at smoke scale.
RUN = [path for path in NOTEBOOKS if path.name < "04" or path.name.startswith("13")]
REPORT = [path for path in NOTEBOOKS if path not in RUN]  # these show records; run by nbval from the committed ones
# Not yet executed on mini: committed without outputs, run in smoke only. Taken from the list by whoever promotes them.
WITHOUT_A_RUN: tuple[str, ...] = ()
CHECKED = "# NBVAL_CHECK_OUTPUT"
CELL_LINES = 40

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
each_run = pytest.mark.parametrize("path", RUN, ids=lambda path: path.name)
each_report = pytest.mark.parametrize("path", REPORT, ids=lambda path: path.name)


@pytest.fixture
def executed(path: Path) -> None:
    """Skips, visibly, what looks at outputs of a notebook that has none yet."""
    if path.name in WITHOUT_A_RUN:
        pytest.skip(f"{path.name} has not been executed on mini yet: make reproduce, then spact promote")


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebooks.read_notebook(path).cells if cell.cell_type == "code"]


def checked_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if CHECKED in cell.source.splitlines()]


def test_only_notebooks_without_a_run_have_no_outputs():
    bare = [path.name for path in NOTEBOOKS if not any(cell.outputs for cell in code_cells(path))]
    assert bare == list(WITHOUT_A_RUN)


@each
@pytest.mark.usefixtures("executed")
def test_notebook_is_the_clean_output_of_one_run(path):
    notebook = notebooks.read_notebook(path)
    nbformat.validate(notebook)
    assert notebooks.blemishes(notebook) == []


@each
def test_notebook_opens_with_a_title_and_literal_parameters(path):
    first = notebooks.read_notebook(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert notebooks.declared_parameters(path)["PROFILE"] == "mini"


@each
def test_cells_are_short_and_use_the_installed_library(path):
    for cell in code_cells(path):
        lines = cell.source.splitlines()
        assert len(lines) <= CELL_LINES, f"{len(lines)} lines: {lines[0]}; move the work into spact_lib"
        assert not re.search(r"sys\.path|pip install|tqdm\.(auto|notebook)", cell.source), lines[0]


@each
def test_figures_of_other_runs_get_other_names(path):
    """Else a run with another draw or seed overwrites the figures that are to be committed."""
    for cell in code_cells(path):
        for call in re.findall(r"figures\.save\(.*\)|watch\(.*\)", cell.source):
            assert "{other}" in call, call


@each
def test_every_figure_is_saved_as_a_file(path):
    for cell in code_cells(path):
        drawn, saved = (
            len(re.findall(call, cell.source)) for call in (r"(?m)^\s*\(?fig,", r"\b(?:figures\.save|show)\(")
        )
        assert saved >= drawn, cell.source


def pictures_and_figures(notebook: nbformat.NotebookNode) -> list[tuple[str, int, int]]:
    """Of each cell that draws figures unconditionally: its first line, its pictures, its figures."""
    found = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        pictures = sum(any(mime.startswith("image/") for mime in o.get("data", {})) for o in cell.outputs)
        figures = sum(ast.unparse(line).startswith(("fig,", "(fig,")) for line in ast.parse(cell.source).body)
        if figures:
            found.append((cell.source.splitlines()[0], pictures, figures))
    return found


@each
@pytest.mark.usefixtures("executed")
def test_every_figure_is_shown(path):
    assert [drawn for drawn in pictures_and_figures(notebooks.read_notebook(path)) if drawn[1] < drawn[2]] == []


@each
def test_nbval_markers_are_seen_and_have_something_to_compare(path):
    """nbval ignores a marker that is not a line of its own, and passes a marked cell that was stripped."""
    for cell in code_cells(path):
        marked = [line for line in cell.source.splitlines() if "NBVAL" in line]
        assert set(marked) <= {CHECKED}, marked
        bare = path.name in WITHOUT_A_RUN or not marked
        assert bare or any("text/plain" in o.get("data", {}) or "text" in o for o in cell.outputs), cell.source


def spact(*arguments: str, store: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "spact_lib", *arguments]
    environment = os.environ | {"SPACT_RUNS": str(store)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)


def nbval(path: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", str(path)]
    # An xdist worker's own variables would make the inner pytest take itself for one.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "SPACT_"))}
    environment = inherited | {"TQDM_DISABLE": "1"} | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=path.parent)


def artifacts(store: Path) -> dict[str, int]:
    """What has been computed, with the time of each file's last change."""
    written_anew = ("data", "notebooks", "tables", "figures", "records")
    files = [p for p in store.rglob("*") if p.is_file() and p.relative_to(store).parts[0] not in written_anew]
    return {str(p.relative_to(store)): p.stat().st_mtime_ns for p in files if p.suffix not in (".lock", ".md")}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A store after ``spact reproduce --profile smoke``, and what that command answered."""
    store = tmp_path_factory.mktemp("smoke")
    return store, spact("reproduce", "--profile", "smoke", store=store)


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks yet")
def test_smoke_run_of_every_notebook(smoke):
    store, answer = smoke
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-3000:]
    summary = (store / "summary-smoke.md").read_text()
    assert [path.name for path in NOTEBOOKS if f"- {path.name}: " not in summary] == []
    assert "## table1" in summary and "- total: " in summary
    copies = [notebooks.read_notebook(store / "notebooks" / "smoke" / path.name) for path in NOTEBOOKS]
    drawn = [cell for notebook in copies for cell in pictures_and_figures(notebook)]
    assert len(drawn) > 5 and [cell for cell in drawn if cell[1] < cell[2]] == []


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks yet")
def test_a_second_run_computes_nothing_anew(smoke):
    store, _ = smoke
    before = artifacts(store)
    answer = spact("run", "11", "-p", "PROFILE", "smoke", store=store)  # asks for every method
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert before and artifacts(store) == before


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks yet")
def test_smoke_run_of_the_attackers(smoke):
    """Notebook 14 trains nothing by default; here the grid's attackers of two methods."""
    store, _ = smoke
    asked = {"PROFILE": "smoke", "TRAIN": "True", "METHODS": '["raw", "spact"]'}
    answer = spact("run", "14", *(word for item in asked.items() for word in ("-p", *item)), store=store)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-3000:]
    (path,) = (store / "tables" / "smoke").glob("attacks-*.csv")  # a run of its own
    assert "Supervised [41]" in pd.read_csv(path.with_name("attacks.csv"))
    assert (store / "records" / "smoke" / f"{path.stem}.jsonl").exists()
    table = pd.read_csv(path, dtype=str)
    assert list(table) == ["attacker", "effort", "chance", "Raw data", "SPAct"]
    assert len(table) == len({name for _, name in attacks.asked(["raw", "spact"])})
    for method, column in (("raw", "Raw data"), ("spact", "SPAct")):
        numbers = table[column].str.fullmatch(r"[0-9.]+")
        assert numbers.sum() == len(attacks.asked([method])) and set(table[column][~numbers]) <= {"not run", "–"}, table


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks yet")
def test_a_misspelt_parameter_of_a_real_notebook_is_refused(tmp_path):
    answer = spact("run", NOTEBOOKS[-1].name, "-p", "PROFIEL", "smoke", store=tmp_path)
    assert answer.returncode == 2 and "no parameter 'PROFIEL'; choose one of: PROFILE" in answer.stderr


def test_the_report_on_a_clip_is_one_page_without_code(smoke, tmp_path):
    store, _ = smoke
    clip = write_video(tmp_path / "-<b>a & 'b'\n🙂.mp4", np.full((9, 40, 30, 3), 90, np.uint8), 25)
    page = tmp_path / "page.html"
    answer = spact("report", str(clip), "--profile", "smoke", "--output", str(page), store=store)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-3000:]
    text = page.read_text()
    shown = ("-&lt;b&gt;a &amp; ", "🙂.mp4")
    for part in (*shown, "know only drawn pictures", "released, classifier of released data", "SSIM"):
        assert part in text, part
    for part in ("<script", "<b>a &", "open_case(", str(tmp_path), "Traceback"):
        assert part not in text, part
    assert text.count("<img ") == 1 and 'src="data:image/png;base64,' in text  # the strip
    assert 'alt="moments of the same clip' in text and "lternative text" not in answer.stdout + answer.stderr


@each_run
def test_nbval_of_run_notebooks_at_smoke_scale(path, smoke):
    store, _ = smoke
    answer = nbval(path, SPACT_PROFILE="smoke", SPACT_RUNS=str(store))
    assert answer.returncode == 0, answer.stdout[-3000:]


@each_report
@pytest.mark.usefixtures("executed")
def test_nbval_of_report_notebooks_from_committed_records(path, tmp_path):
    """Training is forbidden and the store is empty: the numbers come from notebooks/records."""
    answer = nbval(path, SPACT_READ_ONLY="1", SPACT_RUNS=str(tmp_path))
    assert answer.returncode == 0, answer.stdout[-3000:]


@each_report
@pytest.mark.usefixtures("executed")
def test_nbval_sees_one_altered_number_in_a_report(path, tmp_path):
    notebook = notebooks.read_notebook(path)
    outputs = [output for cell in checked_cells(notebook) for output in cell.outputs]
    holder = next(o if "text" in o else o["data"] for o in outputs if "text" in o or "text/plain" in o.get("data", {}))
    key = "text" if "text" in holder else "text/plain"
    altered, count = re.subn(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), holder[key], count=1)
    assert count == 1, f"the checked output of {path.name} holds no number"
    holder[key] = altered
    copy = tmp_path / path.name
    nbformat.write(notebook, copy)
    answer = nbval(copy, SPACT_READ_ONLY="1", SPACT_RUNS=str(tmp_path / "runs"))
    assert answer.returncode == 1 and "1 failed" in answer.stdout, answer.stdout[-3000:]


@pytest.mark.parametrize(("table", "start"), [("table1", "04"), ("table2", "05")])
def test_a_notebook_shows_the_columns_that_the_plan_counts_and_asks_for_their_data(table, start):
    path = notebooks.notebook(start)
    further = protocols.TABLE_PROTOCOLS[table][1:]
    assert tuple(notebooks.declared_parameters(path)["FURTHER"]) == further
    asked = {role.dataset for name in further for role in protocols.protocol(name).roles}
    assert asked <= {*notebooks.needs(path, full=True)}
