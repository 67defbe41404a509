"""One function over many files, in parallel: resumable, flat in memory, and a file that kills its process ends no run.

What is finished stands in a log, one JSON line per file, appended as it comes. The key is path, size and time of the
last change: a replaced file is worked on again, and a killed run continues where it was.
"""

import json
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from spact_lib.errors import UserError

FEW = 32  # files: fewer are done before the other processes have started
Record = dict[str, object]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_through(
    function: Callable[[str], Record], root: Path, paths: Sequence[str], log: Path, text: str
) -> pd.DataFrame:
    """``function(path)`` for every existing file of ``paths`` (relative to ``root``), as far as ``log`` lacks it.

    Args:
        function: importable or a ``functools.partial`` of such (processes are spawned); returns what is to be logged.
        log: of this function and these settings alone; made when it is missing.
        text: for the progress bar.

    Returns:
        Index path (files that are not there are left out), columns size, mtime_ns, ``error`` and those of the records.
        ``error`` is the sentence of a UserError, else "": failures are not logged, the next run tries them again.
        ``attrs["new"]`` counts the files that this call worked on.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{log}.lock"):
        states = {path: state for path in dict.fromkeys(paths) if (state := _state(root / path))}
        done = {path: record for path, record in _read_log(log) if states.get(path) == _key(record)}
        todo = [path for path in states if path not in done]
        progress = tqdm(total=len(states), initial=len(done), desc=text, unit="file", disable=None)
        # Unbuffered: a line reaches the file in one write.
        with progress, open(log, "ab", buffering=0) as file:
            for path, record in _each(_Guarded(function), todo):
                size, mtime_ns = states[path]
                done[path] = record = {"path": path, "size": size, "mtime_ns": mtime_ns, **record}
                if not record.get("error"):
                    file.write(json.dumps(record).encode() + b"\n")
                progress.update()
    table = pd.DataFrame.from_records(list(done.values()))
    if table.empty:
        table = pd.DataFrame(columns=["path", "size", "mtime_ns"])
    table["error"] = table["error"].fillna("") if "error" in table else ""
    table = table.set_index("path").loc[list(states)]
    table.attrs["new"] = len(todo)
    return table


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _key(record: Record) -> tuple[object, object]:
    return record.get("size"), record.get("mtime_ns")


def _read_log(log: Path) -> Iterator[tuple[str, Record]]:
    """The records, oldest first; what a killed run has left of a last line is cut off."""
    if not log.exists():
        return
    with open(log, "rb+") as file:
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(file.tell() - len(line))
                return
            try:
                record = json.loads(line)
            except ValueError:  # a full disk cut it short
                continue
            yield record["path"], record


class _Guarded:
    """``function``, with the sentence of a UserError as its record."""

    def __init__(self, function: Callable[[str], Record]) -> None:
        self.function = function

    def __call__(self, path: str) -> Record:
        try:
            return self.function(path)
        except UserError as error:
            return {"error": str(error)}


def _each(function: Callable[[str], Record], paths: Sequence[str]) -> Iterator[tuple[str, Record]]:
    """(path, record) in the order they are finished."""
    if len(paths) < FEW:
        yield from ((path, function(path)) for path in paths)
        return
    workers, queue = cores(), deque(paths)
    while queue:
        running, suspects = {}, []
        pool = _pool(workers)
        try:
            while queue or running:
                # Only so many at a time: a future for each of 300,000 files would fill the memory.
                while queue and len(running) < 4 * workers:
                    future = pool.submit(function, queue[0])
                    running[future] = queue.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    yield running.pop(future), record
        except BrokenProcessPool:
            suspects = list(running.values())
        finally:
            pool.shutdown(cancel_futures=True)
        # One of these files killed its process; alone in a process each shows which one it was.
        for path in suspects:
            yield path, _alone(function, path)


def _alone(function: Callable[[str], Record], path: str) -> Record:
    with _pool(1) as pool:
        try:
            return pool.submit(function, path).result()
        except BrokenProcessPool:
            return {"error": f"{path} killed the process that read it (decoder crash or out of memory); replace it"}


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned: a forked process would inherit the locks of the libraries that are loaded here.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_the_parent)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
