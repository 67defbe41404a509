"""Working ahead: further processes on one store train what the tables need, while the notebooks run or without them.

A process that works ahead never waits for another: what somebody else is making, it leaves for later. On a CPU two
processes with one thread each get more done than one with two; with several GPUs each process has its own. Those of
``spact submit`` are jobs on a cluster. Processes that share batches (``distributed``) are here one process.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from spact_lib import distributed
from spact_lib.errors import UserError
from spact_lib.filework import begin_child, cores
from spact_lib.methods import METHODS, TABLES, LearnedMethod
from spact_lib.notebooks import about
from spact_lib.paths import committed_notebooks
from spact_lib.plain import plain
from spact_lib.store import BusyError
from spact_lib.study import Study, open_study

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds, while others are making everything that is left
ENDING = 10.0  # seconds that a process has to end itself


def tables() -> list[tuple[str, str]]:
    """(table, protocol) that the committed notebooks train by default: ``spact.trains`` in their metadata."""
    shown = [item for path in committed_notebooks() for item in about(path).get("trains", {}).items()]
    return [(table, protocol) for table, protocols in shown for protocol in protocols]


def rows() -> list[tuple[str, str]]:
    """(protocol, method) of these tables: of the first one, so that it is there soon; then from the last one on,
    towards the notebooks, which come from the front. Of each table the learned rows, which take longest, before the
    others."""
    shown = tables()
    found: dict[tuple[str, str], None] = {}
    for table, protocol in (*shown[:1], *reversed(shown[1:])):
        learned_first = sorted(TABLES[table], key=lambda row: not isinstance(METHODS[row], LearnedMethod))
        found |= dict.fromkeys((protocol, row) for row in learned_first)
    return list(found)


Item = tuple[Study, str, str]  # study, row, target of its protocol; of whatever else is made, the study comes first
Failed = dict[str, list[str]]  # why targets failed -> those that did


def train(item: Item) -> None:
    """Train and score a target of a row, for all target seeds, and whatever it needs."""
    study, row, target = item
    for seed in study.profile.target_seeds:
        study.scores(study.method(row), target, seed)


def whatever_is_free(items: Iterable[Item], make: Callable[[Item], None] = train) -> None:
    """Make all items, those first that nobody else is making; wait when there are no others."""
    left = list(items)
    stores = {id(item[0].store): item[0].store for item in left}.values()
    for store in stores:
        store.wait = False
    try:
        while left:
            for item in left:
                try:
                    make(item)
                except BusyError:
                    continue
                left.remove(item)
                break
            else:
                time.sleep(PAUSE)
    finally:
        for store in stores:
            store.wait = True


def work(
    profile: str, wanted: Sequence[tuple[str, str]] = (), seeds: Sequence[int] = (0,), draw: int | None = None
) -> Failed:
    """Train and score all targets of table rows; one that fails is told, and the others are made.

    Args:
        wanted: (protocol, method) in the order of making; empty: ``rows``, ahead of notebooks that meet what fails.
        seeds: of the replicates, one after the other.
        draw: of the built-in data; None: the profile's own.
    """
    notebooks, wanted, items, failed = not wanted, wanted or rows(), [], {}
    for seed in seeds:
        names = dict.fromkeys(name for name, _ in wanted)
        studies = {name: open_study(profile, draw=draw, seed=seed, protocol=name) for name in names}
        items += [(studies[name], row, target) for name, row in wanted for target in studies[name].protocol.targets]

    def make(item: Item) -> None:
        try:
            train(item)
            log.info("ahead: target %s of %s is ready", item[2], item[1])
        except BusyError:
            raise
        except UserError as error:
            if distributed.which()[1] > 1:  # perhaps in this process alone, and the others wait for it
                raise
            where = ", and will in its notebook" if notebooks else ""
            why = " as before" if str(error) in failed else f": {error}"  # it may name many files
            log.info("ahead: target %s of %s failed%s%s", item[2], item[1], where, why)
            failed.setdefault(str(error), []).append(f"target {item[2]} of {item[1]}, seed {item[0].seed}")

    whatever_is_free(items, make)
    return failed


def spread(jobs: int | None) -> tuple[int, int, list[str]]:
    """How a reproduction uses this machine: processes, threads of each, devices (one for each process; none: no GPU).

    Args:
        jobs: processes asked for; None: one for each GPU; without one, two where there are two cores;
            with SPACT_PLAIN=1 one.

    Raises:
        UserError: ``jobs`` or OMP_NUM_THREADS is no number from 1 up.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: give a number from 1 up")
    named, threads = os.environ.get("SPACT_DEVICE"), os.environ.get("OMP_NUM_THREADS")
    devices = [named] if named else [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    on_cpu = devices in ([], ["cpu"])
    jobs = jobs or (1 if plain() else min(2, cores()) if on_cpu else len(devices))
    if threads is not None and not (threads.isdecimal() and int(threads)):
        raise UserError(
            f"OMP_NUM_THREADS={threads!r} is no number from 1 up; unset it, or give the threads of each process"
        )
    return jobs, int(threads or max(1, cores() // jobs)), [devices[k % len(devices)] for k in range(jobs) if devices]


def _work_in_child(profile: str, task: Callable[[], None] | None) -> None:
    begin_child()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an exception: half-written files are removed on its way
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("spact_lib").setLevel(logging.INFO)
    try:
        task() if task else work(profile)
    except Exception as error:  # its traceback belongs to the notebook that meets the same
        log.info("ahead: stopped by %s: %s", type(error).__name__, error)


@contextmanager
def processes(
    profile: str, n: int, threads: int, devices: list[str], task: Callable[[], None] | None = None
) -> Iterator[None]:
    """Within: ``n`` processes work ahead; they end with the block.

    Args:
        threads: of each process, this one's notebooks included.
        devices: one for each process, this one's notebooks first; empty: all on the default device.
        task: what each of them does, to be pickled; None: ``work``.
    """
    before, started = dict(os.environ), []
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}  # bars of two processes would mix
    for k in range(n if task or rows() else 0, -1, -1):  # this process last: its device stays
        if devices:
            os.environ["SPACT_DEVICE"] = devices[k]
        if k:
            # No daemon: those may not start the workers of a data loader.
            child = multiprocessing.get_context("spawn").Process(target=_work_in_child, args=(profile, task))
            child.start()
            started.append(child)
    try:
        yield
    finally:
        for child in started:
            child.terminate()  # what it trains continues from its checkpoint another time
        for child in started:
            child.join(ENDING)
            child.kill()
        os.environ.clear()
        os.environ.update(before)
