"""One function over many files, in parallel: resumable, flat in memory, and a file that kills its process ends no run.

What is finished stands in a log, one JSON line per file, appended as it comes. The key is path, size and time of the
last change: a replaced file is worked on again, and a killed run continues where it was.
"""

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import spawn
from pathlib import Path
from unittest.mock import patch

import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from spact_lib.errors import DiskError, UserError

log = logging.getLogger(__name__)

SAY_EVERY = 60  # seconds, where there is no terminal for a progress bar
Record = dict[str, object]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_through(
    function: Callable[[str], Record],
    root: Path,
    paths: Sequence[str],
    finished: Path,
    text: str,
    holds: Callable[[str, Record], bool] = lambda path, record: True,
) -> pd.DataFrame:
    """``function(path)`` for every existing file of ``paths`` (relative to ``root``), as far as ``finished`` lacks it.

    Args:
        function: importable or a ``functools.partial`` of such (processes are spawned); returns what is to be logged.
        finished: the log of this function and these settings alone; made when it is missing.
        text: for the progress bar or, without a terminal, a line now and then in the log of this module.
        holds: whether what a record says is still so; where not, the file is worked on again.

    Returns:
        Index path (files that are not there are left out), columns size, mtime_ns, ``error`` and those of the records.
        ``error`` is the sentence of a UserError, else "": failures are not logged, the next run tries them again.
        ``attrs["new"]`` counts the files that this call worked on.

    Raises:
        UserError: the folder of ``finished`` cannot be written to.
        DiskError: ``function`` met a full or read-only disk.
    """
    folder = finished.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written to, and {finished.name} belongs there; copy the table elsewhere")
    with FileLock(f"{finished}.lock"):
        states = {path: state for path in dict.fromkeys(paths) if (state := _state(root / path))}
        done = _Records()
        for path, record in _read_log(finished):
            if states.get(path) == (record.get("size"), record.get("mtime_ns")):
                done.put(path, record)
        for path in [path for path in done.place if not holds(path, done.get(path))]:
            del done.place[path]
        todo = [path for path in states if path not in done.place]
        progress = tqdm(total=len(states), initial=len(done.place), desc=text, unit="file", disable=None)
        # Unbuffered: a line reaches the file in one write.
        said = time.monotonic()
        with progress, open(finished, "ab", buffering=0) as file:
            for path, record in _each(_Guarded(function), todo):
                size, mtime_ns = states[path]
                record = {"size": size, "mtime_ns": mtime_ns, **record}
                done.put(path, record)
                if not record.get("error"):
                    file.write(json.dumps({"path": path, **record}).encode() + b"\n")
                progress.update()
                if progress.disable and time.monotonic() - said > SAY_EVERY:
                    said = time.monotonic()
                    log.info("%s: %s of %s files", text, f"{len(done.place):,}", f"{len(states):,}")
    table = done.table(list(states))
    table["error"] = table["error"].fillna("") if "error" in table else ""
    table.attrs["new"] = len(todo)
    return table


class _Records:
    """Records column by column: 300,000 of them as dicts fill a gigabyte."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}
        self.columns: dict[str, list] = {"size": [], "mtime_ns": []}

    def put(self, path: str, record: Record) -> None:
        """Keep a record; a later one of the same path counts."""
        n = len(self.columns["size"])
        for name in record:
            if name not in self.columns:
                self.columns[name] = [None] * n
        for name, column in self.columns.items():
            value = record.get(name)
            # Names of codecs and formats are the same in many records.
            column.append(sys.intern(value) if isinstance(value, str) and len(value) < 40 else value)
        self.place[path] = n

    def get(self, path: str) -> Record:
        return {name: column[self.place[path]] for name, column in self.columns.items()}

    def table(self, paths: list[str]) -> pd.DataFrame:
        rows = [self.place[path] for path in paths]
        return pd.DataFrame({name: pd.Series(column).iloc[rows].array for name, column in self.columns.items()}, paths)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _read_log(path: Path) -> Iterator[tuple[str, Record]]:
    """The records, oldest first; what a killed run has left of a last line is cut off."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(file.tell() - len(line))
                return
            try:
                record = json.loads(line)
            except ValueError:  # a full disk cut it short
                continue
            yield record.pop("path"), record


class _Guarded:
    """``function``, with the sentence of a UserError as its record."""

    def __init__(self, function: Callable[[str], Record]) -> None:
        self.function = function

    def __call__(self, path: str) -> Record:
        try:
            return self.function(path)
        except DiskError:  # no fault of this file
            raise
        except UserError as error:
            return {"error": str(error)}


def _each(function: Callable[[str], Record], paths: Sequence[str]) -> Iterator[tuple[str, Record]]:
    """(path, record) in the order they are finished."""
    workers, queue = min(cores(), len(paths)), deque(paths)
    while queue:
        running, suspects, patient = {}, [], True
        pool = _pool(workers)
        try:
            while queue or running:
                # Only so many at a time: a future for each of 300,000 files would fill the memory.
                while queue and len(running) < 4 * workers:
                    with script_left_alone():
                        future = pool.submit(function, queue[0])
                    running[future] = queue.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    yield running.pop(future), record
        except BrokenProcessPool:
            suspects = list(running.values())
        except KeyboardInterrupt:  # a long video may be read for minutes; it ends with this process
            patient = False
            raise
        finally:
            pool.shutdown(wait=patient, cancel_futures=True)
        # One of these files killed its process; alone in a process each shows which one it was.
        for path in suspects:
            yield path, _alone(function, path)


def _alone(function: Callable[[str], Record], path: str) -> Record:
    with script_left_alone(), _pool(1) as pool:
        try:
            return pool.submit(function, path).result()
        except BrokenProcessPool:
            return {"error": f"{path} killed the process that read it (decoder crash or out of memory); replace it"}


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned: a forked process would inherit the locks of the libraries that are loaded here.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=begin_child)


@contextmanager
def script_left_alone() -> Iterator[None]:
    """Within: spawned processes do not run the script of this one again. They need nothing of it, and one that somebody
    tries things out in has no ``if __name__ == "__main__"``: each would start processes of its own, and die."""
    told = spawn.get_preparation_data
    with patch.object(
        spawn,
        "get_preparation_data",
        lambda name: {key: value for key, value in told(name).items() if not key.startswith("init_main")},
    ):
        yield


def begin_child() -> None:
    """In a spawned process: interrupts are left to the parent, and where that is killed, this process ends, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
