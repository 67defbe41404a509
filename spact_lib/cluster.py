"""Workers of ``ahead`` as jobs on one experiment store: on a Slurm cluster, or on this machine (submitit).

Every job trains whatever no other job is making. Jobs may end or be added at any time: one that is out of time or
preempted is queued again by submitit; what a killed one was making continues in another from its last checkpoint.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import submitit
from submitit.helpers import Checkpointable

from spact_lib import ahead
from spact_lib.errors import UserError

DAY = 24 * 60  # minutes that a job may take, unless told otherwise; submitit's own 2 to 5 are for toys
AGAIN = 1000  # times that a job out of time is queued again


class Worker(Checkpointable):
    """``ahead.work``, run again with the same arguments when a job's time is up: the store knows what is left."""

    def __call__(self, *asked: object) -> ahead.Failed:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return ahead.work(*asked)


def executor(cluster: str, folder: Path, parameters: Mapping[str, object]) -> submitit.AutoExecutor:
    """Where jobs are to run.

    Args:
        cluster: "slurm", or "local" for processes on this machine.
        folder: for the jobs' logs and arguments; on a cluster, all its machines must see it and the store.
        parameters: of submitit, such as ``timeout_min``, ``gpus_per_node``, ``slurm_partition``.

    Raises:
        UserError: no Slurm here, or a parameter that submitit does not take.
    """
    try:
        found = submitit.AutoExecutor(folder, cluster=cluster, **{f"{cluster}_max_num_timeout": AGAIN})
        found.update_parameters(**{"name": "spact", "timeout_min": DAY} | dict(parameters))
    except (AssertionError, NameError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())  # in one line
        raise UserError(f"submitit refuses cluster {cluster!r} with {dict(parameters)}: {said}") from error
    return found


def submit(where: submitit.AutoExecutor, asked: Sequence[object], jobs: int) -> list[submitit.Job[ahead.Failed]]:
    """Start workers; ``asked`` are the arguments of ``ahead.work``."""
    with where.batch():  # on Slurm: one array
        return [where.submit(Worker(), *asked) for _ in range(jobs)]
