"""Rows as jobs, by submitit's executor for one machine; a Slurm cluster is asked by the same calls."""

import json
from pathlib import Path

import pytest

from spact_lib import cli


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {"SPACT_RUNS": str(tmp_path), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def status(csv: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["submit", "--profile=smoke", f"--protocol={csv}:action/attributes", *arguments])
    return ended.value.code


def test_two_jobs_share_the_rows_and_make_nothing_twice(
    tiny_csv: Path, runs: Path, capsys: pytest.CaptureFixture
) -> None:
    assert status(tiny_csv, "raw", "identity", "--cluster=local", "--jobs=2", "-p", "timeout_min", "30") == 0
    records = [json.loads(path.read_text()) for path in runs.glob("store/*/*/record.json")]
    assert sorted(record["kind"] for record in records) == ["frames", "init_f_A", "release", *["target"] * 4]
    logs = [path.read_text() for path in runs.glob("jobs/*_log.out")]
    assert len(logs) == 2 and all("Job completed successfully" in log for log in logs)
    assert f"their logs are in {runs / 'jobs'}" in capsys.readouterr().out


def test_what_no_job_can_make_is_told_once(tiny_csv: Path, runs: Path, capsys: pytest.CaptureFixture) -> None:
    alone = runs / "data" / tiny_csv.name
    alone.parent.mkdir()
    alone.write_text(tiny_csv.read_text())
    assert status(alone, "raw", "--cluster=local", "--jobs=2", "-p", "timeout_min", "30") == 2
    [line] = capsys.readouterr().err.splitlines()
    targets, why = line.removeprefix("spact: error: ").split(": ", 1)
    assert set(targets.split("; ")) == {"target action of raw, seed 0", "target privacy of raw, seed 0"}
    assert f"are not under {alone.parent}" in why


def test_what_cannot_be_started_is_told_in_one_sentence(
    tiny_csv: Path, runs: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no srun, wherever this runs
    cases = {
        ("raw", "--cluster=slurm", "--jobs=1"): "submitit refuses cluster 'slurm' with {}: Could not detect \"srun\"",
        ("raw", "--cluster=local", "--jobs=1", "-p", "gpus", "1"): "Parameter 'gpus' need to be prefixed",
        ("raw", "--cluster=local", "--jobs=0"): "--jobs 0: give a number from 1 up",
        ("row", "--cluster=local", "--jobs=1"): "unknown method 'row'; choose one of:",
        ("--cluster=local", "--jobs=1"): "without METHOD; name the rows to be trained under it",
    }
    for arguments, sentence in cases.items():
        assert status(tiny_csv, *arguments) == 2
        assert sentence in capsys.readouterr().err
    assert not list(runs.glob("store/*"))
