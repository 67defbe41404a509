"""One function over many files: in processes, resumed behind a torn line, past a file that kills its process."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from spact_lib import filework
from spact_lib.errors import DiskError, UserError
from spact_lib.files import disk_errors
from spact_lib.filework import Record, work_through

MANY = 40  # more than wait in any queue at a time on two cores


def letters(path: str) -> Record:
    if path.startswith("bad"):
        raise UserError(f"{path} is bad; replace it")
    return {"letters": len(path)}


def deadly(path: str) -> Record:
    if path == "f07":
        os._exit(1)  # as a decoder that crashes
    return letters(path)


def full(path: str) -> Record:
    if path == "f01":
        with disk_errors(Path("copy")):
            raise OSError(errno.ENOSPC, "full")
    return letters(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    for n in range(MANY):
        (tmp_path / "media" / f"f{n:02}").write_text("x" * n)
    return tmp_path / "media"


def one_by_one(function: Callable[[str], Record], paths: Sequence[str]) -> Iterator[tuple[str, Record]]:
    """In place of ``filework._each``: in this process, where a test can look on."""
    return ((path, function(path)) for path in paths)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filework, "_each", one_by_one)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_every_file_once_in_order_and_missing_ones_left_out(root: Path, tmp_path: Path) -> None:
    paths = names(root)
    table = work_through(letters, root, [*paths, "none", paths[0]], tmp_path / "log.jsonl", "letters")
    assert table.index.tolist() == paths and (table["letters"] == 3).all() and (table["error"] == "").all()
    assert table.loc["f05", "size"] == 5 and table.attrs["new"] == len(paths)


@pytest.mark.parametrize("files", [["f07"], ["f06", "f07", "f08"], [f"f{n:02}" for n in range(MANY)]])
def test_a_file_that_kills_its_process_is_named_and_the_others_are_done(
    root: Path, tmp_path: Path, files: list[str]
) -> None:
    table = work_through(deadly, root, files, tmp_path / "log.jsonl", "deadly")
    assert table.index[table["error"] != ""].tolist() == ["f07"]
    assert "f07 killed the process" in table.loc["f07", "error"]
    assert table["error"].tolist().count("") == len(files) - 1


def test_it_continues_behind_a_torn_line_and_looks_again_at_replaced_files(
    root: Path, tmp_path: Path, here: None
) -> None:
    paths, log = names(root)[:6], tmp_path / "log.jsonl"
    work_through(letters, root, paths[:4], log, "letters")
    with open(log, "a") as file:
        file.write('{"path": "f04", "si')
    asked: list[str] = []

    def remember(path: str) -> Record:
        asked.append(path)
        return letters(path)

    (root / "f01").write_text("another length")
    os.utime(root / "f02", ns=(1, 1))
    table = work_through(remember, root, paths, log, "letters")
    assert asked == ["f01", "f02", "f04", "f05"] and table.attrs["new"] == 4
    assert [json.loads(line)["path"] for line in log.read_text().splitlines()] == [*paths[:4], *asked]
    assert work_through(remember, root, paths, log, "letters").attrs["new"] == 0


def test_what_no_longer_holds_is_worked_on_again(root: Path, tmp_path: Path, here: None) -> None:
    paths, log = names(root)[:4], tmp_path / "log.jsonl"
    work_through(letters, root, paths, log, "letters")
    asked: list[str] = []

    def remember(path: str) -> Record:
        asked.append(path)
        return letters(path)

    def holds(path: str, record: Record) -> bool:
        assert record["letters"] == 3
        return path != "f02"

    table = work_through(remember, root, paths, log, "letters", holds)
    assert asked == ["f02"] and table.index.tolist() == paths and (table["letters"] == 3).all()


def test_without_a_terminal_a_line_is_logged_now_and_then(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    work_through(letters, root, names(root)[:3], tmp_path / "quick.jsonl", "letters")
    assert not caplog.messages
    monkeypatch.setattr(filework, "SAY_EVERY", 0)
    work_through(letters, root, names(root)[:3], tmp_path / "slow.jsonl", "letters")
    assert caplog.messages[-1] == "letters: 3 of 3 files"


def test_failures_are_told_and_tried_again(root: Path, tmp_path: Path) -> None:
    (root / "bad").touch()
    for _ in range(2):
        table = work_through(letters, root, ["bad", "f00"], tmp_path / "log.jsonl", "letters")
        assert table["error"].tolist() == ["bad is bad; replace it", ""]
    assert table.attrs["new"] == 1


@pytest.mark.parametrize("files", [3, MANY])
def test_a_full_disk_is_no_fault_of_the_file_and_ends_the_run(root: Path, tmp_path: Path, files: int) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(DiskError, match="cannot write copy: No space left on device"):
        work_through(full, root, names(root)[:files], log, "full")
    assert "f01" not in {json.loads(line)["path"] for line in log.read_text().splitlines()}
    table = work_through(letters, root, names(root)[:files], log, "letters")
    assert (table["letters"] == 3).all() and table.attrs["new"] >= 1


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_run_ends_at_once_and_leaves_no_process_behind(
    root: Path, tmp_path: Path, by: signal.Signals
) -> None:
    from test_ahead import child_ends_with  # here: torch would be imported by every process that is started above

    script, began = tmp_path / "killed.py", time.monotonic()
    (tmp_path / "endless.py").write_text(
        "import os, time\ndef endless(path):\n    print(os.getpid(), flush=True)\n    time.sleep(60)\n"
    )
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from endless import endless\n"
        "from spact_lib.filework import work_through\n"
        "paths = sorted(os.listdir(sys.argv[1]))\n"
        "try:\n"
        "    work_through(endless, Path(sys.argv[1]), paths[:1], Path('log.jsonl'), 'endless')\n"
        "except KeyboardInterrupt:\n"
        "    os._exit(130)\n"  # as the command line does
    )
    assert child_ends_with(script, str(root), by=by) and time.monotonic() - began < 30


def test_a_script_of_ones_own_is_not_run_again_by_each_process(root: Path, tmp_path: Path) -> None:
    """It has no ``if __name__ == "__main__"``: who tries things out writes none."""
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\n"
        "from test_filework import letters\n"
        "from spact_lib.filework import work_through\n"
        f"table = work_through(letters, Path({str(root)!r}), ['f01', 'f02'], Path('log.jsonl'), 'letters')\n"
        "print(table['error'].tolist())\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(filework.__file__).parents[1])])
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert ended.stdout == "['', '']\n", ended.stderr


def test_a_folder_that_cannot_be_written_to_is_named(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written to, and log.jsonl belongs there"):
        work_through(letters, root, names(root), tmp_path / "log.jsonl", "letters")


def test_nothing_to_do_is_an_empty_table(tmp_path: Path) -> None:
    table = work_through(letters, tmp_path, ["none"], tmp_path / "log.jsonl", "letters")
    assert table.empty and table["error"].tolist() == [] and filework.cores() >= 1
