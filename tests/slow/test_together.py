"""Four people start the same smoke-size reproduction on one store at once, after two whose processes died with a lock
in their hands: real commands, kernels and spawned processes, all of which note what they put in place."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_prep import mini
from spact_lib.config import profile
from spact_lib.notebooks import read_notebook, unfinished
from spact_lib.paths import REPOSITORY

# Imported by every Python process at its start.
NOTES = """
import os, sys
def note(event, given):
    if event == "os.rename":
        with open(os.environ["PUT_IN_PLACE"], "a") as file:
            file.write(f"{given[1]}\\n")
sys.addaudithook(note)
"""


def test_four_reproductions_on_one_store_make_everything_once(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOTES)
    runs, notes = tmp_path / "runs", tmp_path / "notes"
    settings = profile("smoke")
    data = runs / "data" / "mini" / f"smoke-draw{settings.draw}"
    environment = os.environ | {"SPACT_RUNS": str(runs), "SPACT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "PUT_IN_PLACE": str(notes)}
    reproduce = ["reproduce", "--profile", "smoke", "--jobs", "1", "--until", "00"]
    copy = ["cache", str(data / "vispr"), "--short-side", "16", "--out", str(runs / "cache")]
    table = ["run", "04", "-p", "PROFILE", "smoke"]

    def start(command: list[str]) -> subprocess.Popen:
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": environment}
        return subprocess.Popen([sys.executable, "-m", "spact_lib", *command], cwd=REPOSITORY, **how)

    def die(there: Callable[[], object]) -> None:
        with start(reproduce) as process:
            while not there():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)

    def work(_: int) -> list[str]:
        failed = []
        for command in (reproduce, copy, table):
            process = start(command)
            _, said = process.communicate(timeout=1800)
            failed += [said] * bool(process.returncode)
        return failed

    die(lambda: list(data.rglob("*.avi")))
    die(lambda: list(runs.glob("store/init_f_A/*/spec.json")))
    with ThreadPoolExecutor(4) as pool:
        assert [said for each in pool.map(work, range(4)) for said in each] == []

    times = Counter(map(Path, notes.read_text().splitlines()))
    kept = {path.parent.name: path for path in (runs / "store").glob("*/*/record.json")}
    drawn = [path for path in (data / "official").rglob("*") if path.suffix in (".avi", ".jpg", ".mp4")]
    copies = list((runs / "cache" / "files").rglob("*.mp4"))
    made = [*kept.values(), *copies, *data.glob("*/boxes/*.npy"), data / "drawn.json"]
    assert len(kept) > 20 and len(drawn) > 200 and len(copies) == 96
    assert {path: times[path] for path in made if times[path] != 1} == {}
    again = [path for path in drawn if times[path] != 1]  # of the two chunks that the dead one's processes were drawing
    assert len(again) <= 2 * mini._CHUNK and {times[path] for path in again} <= {2}
    for path in (runs / "records" / "smoke").glob("*.jsonl"):
        keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
        assert keys and len(set(keys)) == len(keys) and set(keys) <= kept.keys(), path
    executed = sorted((runs / "notebooks").glob("*/[!.]*"))
    assert [path.name for path in executed] == ["04_table1-PROFILE=smoke.ipynb", "00_quickstart.ipynb"]
    for path in executed:
        cells = [cell for cell in read_notebook(path).cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        assert not unfinished(path).exists()
