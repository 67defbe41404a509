"""The notebook runner, on tiny notebooks written here: parameters, failures, what may be committed, nbval."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from spact_lib import notebooks
from spact_lib.errors import UserError

PARAMETERS = "STEPS = 3  # a count\nRATE = 1e-3\nNAME = 'x'\nSEEDS = [0, 1]\nFAST = False"


@pytest.fixture
def write(tmp_path: Path):
    """Write a notebook of the given code cells, the first tagged ``parameters``; return its path."""

    def write(*sources: str, tags: tuple[str, ...] = ("parameters",), name: str = "00_tiny.ipynb") -> Path:
        notebook = new_notebook(
            cells=[new_markdown_cell("# Tiny"), *(new_code_cell(source) for source in sources)],
            metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        )
        notebook.cells[1].metadata["tags"] = list(tags)
        path = tmp_path / name
        nbformat.write(notebook, path)
        return path

    return write


def texts(path: Path) -> list[str]:
    return [o.get("text", "") for c in notebooks.read_notebook(path).cells for o in c.get("outputs", [])]


def test_run_injects_parameters_and_works_in_the_notebooks_folder(write, tmp_path, monkeypatch):
    monkeypatch.setenv("SPACT_PROFILE", "paper")
    monkeypatch.setenv("SPACT_RUNS", "store")
    monkeypatch.chdir("/")
    code = "import os\nfound = [os.environ.get(f'SPACT_{k}') for k in ('RUNS', 'PROFILE', 'RUN_DIGEST')]\n"
    code += "print(STEPS, RATE, os.getcwd(), found)"
    path, output = write(PARAMETERS, code), tmp_path / "out" / "00_tiny.ipynb"
    given = {"STEPS": 7, "RATE": 1}
    run = notebooks.run_notebook(path, output, given)
    assert 0 < run.seconds < 60 and run.first
    assert texts(output) == [f"7 1 {tmp_path} ['/store', None, '{notebooks.run_digest(given)}']\n"]
    assert os.environ["SPACT_PROFILE"] == "paper", "the caller's environment comes back"
    assert [p.name for p in output.parent.glob("[!.]*")] == ["00_tiny.ipynb"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"STEP": 7}, "00_tiny.ipynb has no parameter 'STEP'; choose one of: STEPS, RATE, NAME, SEEDS, FAST"),
        ({"RATE": "1e-4"}, "parameter RATE = '1e-4' is of type str, but its default 0.001 is of type float"),
        ({"STEPS": 7.0}, "STEPS = 7.0 is of type float"),
        ({"STEPS": True}, "STEPS = True is of type bool"),
        ({"FAST": 1}, "FAST = 1 is of type int"),
        ({"SEEDS": ["0"]}, "SEEDS = \\['0'\\]"),
    ],
)
def test_wrong_parameters_are_refused(write, given, sentence):
    with pytest.raises(UserError, match=sentence):
        notebooks.check_parameters(write(PARAMETERS), given)


def test_values_from_a_shell_are_read_like_the_defaults(write):
    path = write(PARAMETERS)
    given = {"STEPS": "7", "RATE": "1e-4", "NAME": "007", "SEEDS": "[2]", "FAST": "True"}
    read = notebooks.parse_parameters(path, given)
    assert read == {"STEPS": 7, "RATE": 1e-4, "NAME": "007", "SEEDS": [2], "FAST": True}
    with pytest.raises(UserError, match="FAST = yes is not a Python literal like its default False"):
        notebooks.parse_parameters(path, {"FAST": "yes"})
    with pytest.raises(UserError, match="no parameter 'STEP'"):
        notebooks.parse_parameters(path, {"STEP": "7"})


def test_a_path_from_a_shell_is_meant_from_its_folder(write, tmp_path, monkeypatch):
    path = write('PROTOCOL = "known"\nCLIPS = ""\nCLIP = ""\nNAME = "known"\n')
    monkeypatch.chdir(tmp_path)
    read = notebooks.parse_parameters(
        path, {"PROTOCOL": "a b/my.csv:g/p", "CLIPS": "", "CLIP": "a.mp4", "NAME": "a.mp4"}
    )
    assert read == {"PROTOCOL": f"{tmp_path}/a b/my.csv:g/p", "CLIPS": "", "CLIP": f"{tmp_path}/a.mp4", "NAME": "a.mp4"}
    assert notebooks.parse_parameters(path, {"PROTOCOL": "ucf101_vispr1", "CLIP": ""}) == {
        "PROTOCOL": "ucf101_vispr1",
        "CLIP": "",
    }


def test_parameters_cell_must_be_one_cell_of_literals(write):
    with pytest.raises(UserError, match="has 0 cells tagged 'parameters'"):
        notebooks.declared_parameters(write(PARAMETERS, tags=()))
    with pytest.raises(UserError, match="`TWICE = STEPS \\* 2` .* is not NAME = literal"):
        notebooks.declared_parameters(write("STEPS = 3\nTWICE = STEPS * 2"))
    assert notebooks.declared_parameters(write("A: int | None = None\nB = -1")) == {"A": None, "B": -1}


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("raise ValueError('first\\nlast')", "cell \\[2\\] failed with ValueError: last"),
        ("import sys; sys.exit()", "cell \\[2\\] (stopped the run|failed with SystemExit)"),
        ("import os; os._exit(1)", "the Python process died"),
    ],
)
def test_a_failing_cell_leaves_no_output_but_a_failed_copy(write, tmp_path, code, sentence):
    output = tmp_path / "out" / "00_tiny.ipynb"
    with pytest.raises(UserError, match=f"00_tiny.ipynb: {sentence}.*00_tiny.failed.ipynb"):
        notebooks.run_notebook(write(PARAMETERS, code, "print('after')"), output, {})
    assert [p.name for p in output.parent.glob("[!.]*")] == ["00_tiny.failed.ipynb"]


@pytest.fixture
def promoted(write, tmp_path) -> Path:
    """A tiny notebook with a checked table and an unchecked cell, run and promoted."""
    path = write(PARAMETERS, "# NBVAL_CHECK_OUTPUT\nprint('top-1', 91.25)", "import time\nprint(time.time())")
    executed = tmp_path / "out" / path.name
    notebooks.run_notebook(path, executed, {"STEPS": 3})
    notebooks.promote(executed, path)
    return path


def nbval(path: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent)


def test_promoted_notebooks_are_clean_and_pass_nbval(promoted):
    notebook = notebooks.read_notebook(promoted)
    assert notebooks.blemishes(notebook) == []
    assert sorted(notebook.metadata) == ["kernelspec", "language_info"]
    assert [dict(cell.metadata) for cell in notebook.cells] == [{}, {"tags": ["parameters"]}, {}, {}]
    result = nbval(promoted)
    assert result.returncode == 0 and "3 passed" in result.stdout, result.stdout


def test_nbval_sees_one_altered_number(promoted):
    promoted.write_text(promoted.read_text().replace("top-1 91.25\\n", "top-1 91.35\\n"))
    result = nbval(promoted)
    assert result.returncode == 1 and "1 failed, 2 passed" in result.stdout, result.stdout


def test_promote_refuses_what_does_not_belong_in_git(write, tmp_path):
    executed = tmp_path / "out" / "00_tiny.ipynb"

    def refusal(*sources: str, parameters: dict[str, object] | None = None) -> str:
        path = write(*sources)
        notebooks.run_notebook(path, executed, parameters or {})
        with pytest.raises(UserError) as caught:
            notebooks.promote(executed, path)
        return str(caught.value)

    assert "path of one machine: '/home/someone" in refusal(PARAMETERS, "print('/home' + '/someone')")
    assert "more than 500000" in refusal(PARAMETERS, "print('x' * 600_000)")
    assert "no run of 00_tiny.ipynb as it is" in refusal(PARAMETERS, parameters={"STEPS": 4})
    path = write(PARAMETERS, "print('edited since')")
    with pytest.raises(UserError, match="no run of 00_tiny.ipynb as it is"):
        notebooks.promote(executed, path)


def test_blemishes_names_each_fault(promoted):
    notebook = notebooks.read_notebook(promoted)
    notebook.metadata.kernelspec.name = "my-env"
    notebook.metadata["widgets"] = {}
    notebook.cells[2].execution_count = 9
    notebook.cells[2].outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "HBox()"}
    notebook.cells[3].outputs = [nbformat.v4.new_output("display_data", widget)]
    found = "\n".join(notebooks.blemishes(notebook))
    for part in ("kernel", "widget state", "[1, 9, 3]", "ended with an error", "readers cannot see"):
        assert part in found


def test_an_interrupt_from_another_process_ends_the_run_and_its_kernel(write, tmp_path):
    path = write(PARAMETERS, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    output = tmp_path / "out" / path.name
    command = [sys.executable, "-m", "spact_lib", "run", str(path), "--output", str(output)]
    environment = os.environ | {"SPACT_RUNS": str(tmp_path / "runs")}
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": Path(__file__).parents[1], "env": environment}
    # What a shell puts into the background, such as a test run, ignores SIGINT, and so do its children.
    how["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, text=True, **how) as process:
        kernel = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)  # to this process alone, unlike Ctrl-C in a terminal
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 and said == "spact: stopped; the same command continues from here\n"
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    assert not output.exists()


def run_and_note(path: Path, output: Path) -> None:
    notebooks.run_notebook(path, output, {})


def test_two_processes_run_a_notebook_one_after_the_other(write, tmp_path):
    """Into the same copy; at once they would take the unfinished copy from each other."""
    code = f"import pathlib, time\nnote = pathlib.Path({str(tmp_path / 'note')!r})\n"
    code += "note.open('a').write('begin ')\ntime.sleep(0.5)\nnote.open('a').write('end ')"
    path, output = write(PARAMETERS, code), tmp_path / "out" / "00_tiny.ipynb"
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=run_and_note, args=(path, output)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "note").read_text() == "begin end begin end "
    assert [p.name for p in output.parent.glob("[!.]*")] == ["00_tiny.ipynb"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"a": 1}', b"# text"])
def test_what_is_no_notebook_is_said(content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "n.ipynb").write_bytes(content)
    with pytest.raises(UserError, match="n.ipynb is not a notebook"):
        notebooks.read_notebook(path)
    with pytest.raises(UserError, match="no notebook at"):
        notebooks.read_notebook(tmp_path)


def test_copies_of_long_parameters_have_names_that_fit_and_differ() -> None:
    long = [notebooks.named_copy(Path("04.ipynb"), {"METHODS": ["é" * 300, last]}) for last in ("a", "b")]
    assert long[0] != long[1] and all(len(name.encode()) < 220 and name.endswith(".ipynb") for name in long)
    assert notebooks.named_copy(Path("04.ipynb"), {"SEED": 1}) == "04-SEED=1.ipynb"
    lost = {notebooks.named_copy(Path("04.ipynb"), {"PROTOCOL": f"/数据/{name}.csv:a/b"}) for name in "甲乙"}
    assert len(lost) == 2 and all(name.isascii() for name in lost)
    assert len(notebooks.named_copy(Path("é" * 120 + ".ipynb"), {"SEED": 1}).encode()) < 220
