"""``spact claims`` at smoke size: the real command, two processes, killed and continued, its records promoted alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from spact_lib.config import profile
from spact_lib.paths import REPOSITORY
from spact_lib.replicates import wanted


def test_one_draw_is_made_by_two_processes_and_continues_after_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spact_lib", "claims", "--profile", "smoke", "--draw", "104", "--jobs", "2"]
    how = {"env": os.environ | {"SPACT_RUNS": str(tmp_path)}, "cwd": REPOSITORY, "text": True}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how) as first:
        while len(list((tmp_path / "store" / "target").glob("*/record.json"))) < 5:
            assert first.poll() is None
            time.sleep(1)
        first.send_signal(signal.SIGKILL)
    time.sleep(5)  # its children end, too
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/*/record.json")}
    answer = subprocess.run(command, capture_output=True, **how)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-2000:]
    assert all(path.stat().st_mtime_ns == changed for path, changed in finished.items())
    need = len(wanted(profile("mini"), [104, 4]))
    assert f"draw 104, seed 4: {need} of {need} scores" in answer.stdout
    assert "K1 action is kept: too few replicates (1 of 5 replicates), no verdict." in answer.stdout
    assert "K9 a spatio-temporal f_B costs action: not run (0 of 3 replicates)" in answer.stdout
    kept = (tmp_path / "records" / "smoke" / "claims_draw104.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in kept} >= {"anonymizer", "target", "init_f_A"}
