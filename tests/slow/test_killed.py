"""SIGKILL at twenty random moments of a smoke-size reproduction of Table 1's learned rows: the next command continues,
trains nothing twice that was finished, and ends with the bytes of an undisturbed run."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS, SEED = 20, 7
# What `spact reproduce` does for a table, without its kernels: data, rows, table, records, an exported model.
WORK = """
import os, sys
from pathlib import Path
from spact_lib import table_text, tables, training
training.CHECKPOINT_SECONDS = 0.5
from spact_lib.apps.pretrained import export
from spact_lib.decode_cache import build_cache
from spact_lib.notebook_setup import draw_data
from spact_lib.paths import data_folder, runs_root
from spact_lib.study import open_study
draw_data("smoke", 1)
study = open_study("smoke", draw=1)
build_cache(data_folder(study.profile) / "vispr", runs_root() / "cache", short_side=16)
table = tables.table("table1", study)
table_text.save_table(table, "smoke", "table1")
tables.keep_used("table1", study)
if not (runs_root() / "exported").exists():
    export(study, "spact", runs_root() / "exported")
"""
# Times, and logs of what a run has done; the readme of an export names when its f_A was made.
CHANGING = {"record.json", "README.md", "report.json", "cache.json", "cache.jsonl"}


def start(runs: Path) -> subprocess.Popen:
    environment = os.environ | {"SPACT_RUNS": str(runs), "SPACT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(REPOSITORY)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", WORK], stdout=pipe, stderr=pipe, text=True, env=environment)


def finish(runs: Path) -> float:
    began = time.monotonic()
    process = start(runs)
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    return time.monotonic() - began


def records(runs: Path) -> dict[str, str]:
    """What is finished, by key; the text tells when it was made."""
    return {path.parent.name: path.read_text() for path in (runs / "store").glob("*/*/record.json")}


def contents(runs: Path) -> dict[str, str]:
    """Every file that a reader may open, by its hash; of records and tables what is neither time nor place."""
    found = {}
    for path in sorted(runs.rglob("*")):
        name = str(path.relative_to(runs))
        hidden = any(part.startswith(".") for part in path.relative_to(runs).parts)
        if path.is_file() and not hidden and path.suffix != ".lock" and path.name not in CHANGING:
            if path.parts[-3:-1] == ("records", "smoke"):
                lines = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else []
                found[name] = json.dumps([(line["key"], line["metrics"]) for line in lines] or path.read_text())
            elif "tables" not in path.parts:  # with minutes
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for key, text in records(runs).items():
        found[key] = json.dumps(json.loads(text)["metrics"])
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    runs = tmp_path_factory.mktemp("undisturbed")
    return runs, finish(runs)


def test_killed_at_twenty_random_moments(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    whole, seconds = undisturbed
    rng, expected, kills, stores = random.Random(SEED), contents(whole), 0, 0
    while kills < KILLS:
        runs = tmp_path / f"store{stores}"
        stores += 1
        finished: dict[str, str] = {}
        while kills < KILLS:
            process = start(runs)
            # Imports take seconds of each start; a kill during them alone would prove nothing.
            moment = rng.uniform(0.1, 0.5) * seconds
            try:
                _, said = process.communicate(timeout=moment)
                assert process.returncode == 0, said
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
            now = records(runs)
            assert {key: now.get(key) for key in finished} == finished, "what was finished was made again"
            finished = now
        finish(runs)
        now = records(runs)
        assert {key: now[key] for key in finished} == finished
        assert contents(runs) == expected, f"store {stores} after {kills} kills"
        left = [str(path) for path in runs.rglob(".*.tmp*") if "store" in path.relative_to(runs).parts]
        assert not left, "halves of files stay in the store"
    print(f"{kills} kills in {stores} stores, {seconds:.0f} s undisturbed")
