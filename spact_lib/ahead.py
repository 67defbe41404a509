"""Working ahead: further processes on one store train what the tables need while the notebooks run in order.

A process that works ahead never waits for another: what somebody else is making, it leaves for later. On a CPU two
processes with one thread each get more done than one with two; with several GPUs each process has its own.
"""

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from spact_lib.errors import UserError
from spact_lib.experiments import BusyError
from spact_lib.notebooks import about
from spact_lib.paths import committed_notebooks
from spact_lib.study import METHODS, TABLES, LearnedMethod, open_study

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds, while others are making everything that is left


def rows() -> list[tuple[str, str]]:
    """(protocol, method) of the tables that the committed notebooks train by default, in order, learned ones first.

    ``spact.trains`` in their metadata: table -> protocols.
    """
    shown = [item for path in committed_notebooks() for item in about(path).get("trains", {}).items()]
    found = dict.fromkeys((protocol, row) for table, named in shown for protocol in named for row in TABLES[table])
    return sorted(found, key=lambda item: not isinstance(METHODS[item[1]], LearnedMethod))


def work(profile: str) -> None:
    """Train and score all targets of ``rows``, with everything that they need, in whatever order is free."""
    study = open_study(profile)
    study.store.wait = False
    studies = {protocol: study.under(protocol) for protocol, _ in rows()}
    left = [
        (studies[protocol], row, target) for protocol, row in rows() for target in studies[protocol].protocol.targets
    ]
    while left:
        for item in left:
            own, row, target = item
            try:
                for seed in own.profile.target_seeds:
                    own.scores(own.method(row), target, seed)
            except BusyError:
                continue
            log.info("ahead: target %s of %s is ready", target, row)
            left.remove(item)
            break
        else:
            time.sleep(PAUSE)


def _work_in_child(profile: str) -> None:
    # A killed parent cannot end its children; each waits for that beside its work.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        work(profile)
    except UserError as error:
        log.info("ahead: stopped; the notebook that needs it will say the same: %s", error)


@contextmanager
def processes(profile: str, n: int, threads: int, devices: list[str]) -> Iterator[None]:
    """Within: ``n`` processes work ahead; they end with the block.

    Args:
        threads: of each process, this one's notebooks included.
        devices: one for each process, this one's notebooks first; empty: all on the default device.
    """
    before, started = dict(os.environ), []
    os.environ["OMP_NUM_THREADS"] = str(threads)
    for k in range(n if rows() else 0, -1, -1):  # this process last: its device stays
        if devices:
            os.environ["SPACT_DEVICE"] = devices[k]
        if k:
            child = multiprocessing.get_context("spawn").Process(target=_work_in_child, args=(profile,), daemon=True)
            child.start()
            started.append(child)
    try:
        yield
    finally:
        for child in started:
            child.terminate()  # it continues from its checkpoint another time
        os.environ.clear()
        os.environ.update(before)
