"""What the README says for the shell: ``accelerate launch``, two processes on this machine's CPU."""

import os
import subprocess
import sys
from pathlib import Path

from test_distributed import check_store, free_port

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
