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
from spact_lib.config import Schedule, profile
from spact_lib.experiments import BusyError, Store
from spact_lib.protocols import protocol
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
    monkeypatch.setattr(ahead, "open_study", lambda profile: study)
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


def test_it_trains_what_the_committed_notebooks_show() -> None:
    first = ahead.rows()
    assert {("ucf101_vispr1", "raw"), ("ucf101_vispr1", "supervised"), ("novel", "spact")} <= set(first)
    assert first.index(("novel", "spact")) < first.index(("ucf101_vispr1", "raw")), "the longest first"


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
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
    for _ in range(600):
        if not alive(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the process that worked ahead outlived its parent by a minute")


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and nobody has asked how
