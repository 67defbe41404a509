"""What the README says for the shell and for clusters, on this machine's CPU: accelerate launch, a preempted job."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from submitit.local.local import LocalJobEnvironment
from test_distributed import check_store, free_port

from spact_lib import cluster

ROOT = Path(__file__).parents[2]


def test_accelerate_launch_makes_each_artifact_once(tiny_csv: Path, tmp_path: Path) -> None:
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", f"--main_process_port={free_port()}"]
    train = ["-m", "spact_lib", "train", "spact", "--profile=smoke", f"--protocol={tiny_csv}:action/attributes"]
    environment = os.environ | {"SPACT_RUNS": str(tmp_path), "SPACT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launch, *train]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("ahead: target action of spact is ready") == 1  # the main process speaks
    check_store(tmp_path)


def test_a_preempted_job_is_queued_again_and_ends(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    rows = [(f"{tiny_csv}:action/attributes", "raw"), (f"{tiny_csv}:action/attributes", "identity")]
    (job,) = cluster.submit(cluster.executor("local", tmp_path / "jobs", {"timeout_min": 60}), ("smoke", rows), 1)
    while not list(tmp_path.glob("store/frames/*/record.json")):
        assert not job.done()
        time.sleep(0.05)
    (task,) = psutil.Process(int(job.job_id)).children()
    task.send_signal(LocalJobEnvironment._usr_sig())  # Slurm's, before it ends a job
    assert job.result() == []
    assert "Requeued job" in job.stdout() + job.stderr()
    assert len(list(tmp_path.glob("store/target/*/record.json"))) == 4
