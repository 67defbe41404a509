import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from spact_lib import ahead
from spact_lib.config import Method, Schedule, profile
from spact_lib.errors import UserError
from spact_lib.protocols import protocol
from spact_lib.store import BusyError, Store
from spact_lib.study import Study

QUICK = Schedule(steps=2, batch=4, lr=1e-3)
TINY = profile("smoke", **dict.fromkeys(("init_f_A", "target_action", "target_privacy"), QUICK))
ROWS = ("raw", "identity", "downsample_4x")


@pytest.fixture
def study(tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    own = f"{tiny_csv}:action/attributes"
    monkeypatch.setattr(ahead, "rows", lambda: [(own, row) for row in ROWS])
    monkeypatch.setattr(ahead, "PAUSE", 0.01)
    study = Study(TINY, protocol(own), Store(tmp_path / "store", read_only=False))
    monkeypatch.setattr(ahead, "open_study", lambda *_, **__: study)
    return study


def finished(study: Study) -> set[tuple[str, str]]:
    specs = {(row, role): study.target_spec(study.method(row), role) for row in ROWS for role in ("action", "privacy")}
    return {name for name, spec in specs.items() if (study.store.folder(spec) / "record.json").exists()}


def test_what_another_process_is_making_is_left_for_later_and_all_else_is_made(study: Study) -> None:
    busy = study.target_spec(study.method("raw"), "action")
    folder = study.store.folder(busy)
    folder.parent.mkdir(parents=True)
    everything = {(row, role) for row in ROWS for role in ("action", "privacy")}
    with FileLock(f"{folder}.lock", is_singleton=False):
        worker = threading.Thread(target=ahead.work, args=("smoke",))
        worker.start()
        while finished(study) != everything - {("raw", "action")}:
            assert worker.is_alive()
            time.sleep(0.05)
        with pytest.raises(BusyError):
            study.store.run(busy)
    worker.join(timeout=60)
    assert not worker.is_alive() and finished(study) == everything


def test_a_row_that_fails_does_not_keep_the_others_from_being_made(
    study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    scores = Study.scores

    def failing(self: Study, method: Method, target: str, seed: int) -> list[dict]:
        if (method, target) == (study.method("identity"), "action"):
            raise UserError("the loss became nan")
        return scores(self, method, target, seed)

    monkeypatch.setattr(Study, "scores", failing)
    assert ahead.work("smoke") == {"the loss became nan": ["target action of identity, seed 0"]}
    assert finished(study) == {(row, role) for row in ROWS for role in ("action", "privacy")} - {("identity", "action")}
    assert "target action of identity failed, and will in its notebook: the loss became nan" in caplog.text


def test_without_notebooks_what_many_targets_lack_is_told_once(
    study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def failing(*_: object) -> list[dict]:
        raise UserError("2 of the files are missing")

    monkeypatch.setattr(Study, "scores", failing)
    both = ["target action of raw, seed 0", "target privacy of raw, seed 0"]
    assert ahead.work("smoke", [("protocol", "raw")]) == {"2 of the files are missing": both}
    told = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
    assert told == [
        "ahead: target action of raw failed: 2 of the files are missing",
        "ahead: target privacy of raw failed as before",
    ]


def test_processes_threads_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACT_DEVICE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ahead, "cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert ahead.spread(None) == (2, 4, []) and ahead.spread(1) == (1, 8, [])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert ahead.spread(None) == (3, 2, ["cuda:0", "cuda:1", "cuda:2"])
    assert ahead.spread(4)[2] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    monkeypatch.setenv("SPACT_DEVICE", "cuda:1")
    assert ahead.spread(None) == (1, 8, ["cuda:1"])
    monkeypatch.setenv("SPACT_DEVICE", "cpu")
    assert ahead.spread(None)[0] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert ahead.spread(None)[:2] == (2, 3)
    with pytest.raises(UserError, match="--jobs 0: give a number from 1 up"):
        ahead.spread(0)
    for threads in ("4,2", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        with pytest.raises(UserError, match=f"OMP_NUM_THREADS='{threads}' is no number from 1 up"):
            ahead.spread(None)


def test_the_child_may_start_processes_of_its_own_and_ends_with_the_block(tmp_path: Path) -> None:
    """As the workers of a data loader, which the paper profile uses."""
    script = tmp_path / "nested.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from pathlib import Path\n"
        "from spact_lib import ahead\n"
        "def nested(profile):\n"
        "    child = multiprocessing.get_context('spawn').Process(target=print, args=('nested',))\n"
        "    child.start()\n"
        "    child.join()\n"
        "    Path('done').write_text('')\n"
        "    time.sleep(600)\n"
        "ahead.rows = lambda: [('protocol', 'row')]\n"
        "ahead.work = nested\n"
        "if __name__ == '__main__':\n"
        "    with ahead.processes('smoke', 1, 1, []):\n"
        "        while not Path('done').exists():\n"
        "            time.sleep(0.1)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "") and "nested" in ended.stdout


def test_it_trains_what_the_committed_notebooks_show() -> None:
    order = {item: k for k, item in enumerate(ahead.rows())}
    known, novel = (lambda row: ("ucf101_vispr1", row)), (lambda row: ("novel", row))
    # Table 1, then Tables 6, 5, ..., 2.
    expected = [known("supervised"), known("raw"), known("larger_f_B"), known("moco"), novel("spact"), novel("raw")]
    assert sorted(expected, key=order.__getitem__) == expected


def test_a_killed_reproduction_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import multiprocessing, os, time\n"
        "from spact_lib import ahead\n"
        "ahead.rows = lambda: [('protocol', 'row')]\n"
        "ahead.work = lambda profile: time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    with ahead.processes('smoke', 1, 1, []):\n"
        "        child = multiprocessing.active_children()[0]\n"
        "        print(child.pid, flush=True)\n"
        "        time.sleep(600)\n"
    )
    assert child_ends_with(script), "the process that worked ahead outlived its parent by a minute"


def child_ends_with(script: Path, *arguments: str, by: signal.Signals = signal.SIGKILL) -> bool:
    """Whether the process whose number ``script`` prints ends within a minute after that one has."""
    command = [sys.executable, str(script), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True, cwd=script.parent) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(by)
    for _ in range(600):
        if not alive(child):
            return True
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    return False


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and nobody has asked how
