"""What every benchmark shares: interleaved timing, peak memory of a child, the device's peak, records, tables."""

import json
import multiprocessing
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path

import torch

from benchmarks import BENCHMARKS
from spact_lib.device import environment, pick_device
from spact_lib.errors import UserError, unknown_name
from spact_lib.files import write_text
from spact_lib.results import RECORDS

Row = dict[str, object]
FOLDER = RECORDS / "bench"
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0}


def synchronize() -> None:
    """Wait for the GPU, where there is one: what was only queued has not been done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def interleaved(variants: dict[str, Callable[[], object]], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of every variant in every round; a round runs each once, the next round begins with another one and goes
    the other way round.

    So what disturbs the machine for a while disturbs all alike, and no variant always follows the same one. The first
    ``warmup`` rounds are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for number in range(warmup + rounds):
        own = order[number % len(order) :] + order[: number % len(order)]
        for name in own[:: -1 if number % 2 else 1]:
            synchronize()
            began = time.perf_counter()
            variants[name]()
            synchronize()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def rows(
    case: str, seconds: dict[str, list[float]], reference: str, unit: str = "ms", **further: dict[str, object]
) -> list[Row]:
    """A record for each variant of a case.

    Args:
        seconds: of ``interleaved``.
        reference: the variant that ``times faster`` is told against: the median over rounds of reference / variant.
        unit: of the column of medians, "ms", "s" or "min".
        further: other columns, name -> variant -> value.
    """
    made = []
    for name, own in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[reference], own, strict=True))
        made.append(
            {
                "case": case,
                "variant": name,
                unit: round(statistics.median(own) / UNITS[unit], 2),
                "times faster": round(ratio, 2),
                **{column.replace("_", " "): values[name] for column, values in further.items() if name in values},
                "rounds": [round(each, 5) for each in own],
            }
        )
    return made


def peak_memory(function: Callable[..., object], *arguments: object) -> float:
    """MB that a process of its own holds at most while it runs ``function`` (importable): on a GPU the GPU's memory.

    Raises:
        UserError: the process died (most likely for want of memory).
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measured, args=(sender, function, arguments))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise UserError(f"measuring the memory of {function.__name__} failed: its process died") from None
    finally:
        child.join()


def _measured(sender, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    function(*arguments)
    if torch.cuda.is_initialized():
        sender.send(torch.cuda.max_memory_allocated() / 1e6)
        return
    # getrusage would count the parent's memory, too: a spawned process starts as its copy.
    status = Path("/proc/self/status")
    if status.exists():
        sender.send(int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e6)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        sender.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


@cache
def peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product on this device, now, with its threads: what can be had of it. Best of five."""
    device = pick_device()
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = torch.backends.cudnn.allow_tf32  # which convolutions may use unasked, products may not
    try:
        best = min(interleaved({"product": lambda: a @ b}, rounds=5)["product"])
    finally:
        products.allow_tf32 = before
    return 2 * n**3 / best


def hardware() -> dict[str, object]:
    """Versions and hardware, with the processor's name and its cores."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    return environment() | {"cpu": found[1] if found else platform.processor(), "cores": os.cpu_count()}


def place(name: str) -> Path:
    """Where the records of a benchmark on this kind of device lie."""
    return FOLDER / f"{name}-{pick_device().type}.jsonl"


def run(names: Iterable[str] = (), tell: Callable[[str], None] = print) -> list[Path]:
    """Run benchmarks by name (none: all), replace their records of this kind of device, print their tables.

    Raises:
        UserError: an unknown name.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise unknown_name("benchmark", name, BENCHMARKS)
    written = []
    for name in names or BENCHMARKS:
        began = time.perf_counter()
        made = import_module(BENCHMARKS[name]).run()
        about = {"benchmark": name, "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **hardware()}
        text = "".join(json.dumps(row | {"environment": about}) + "\n" for row in made)
        written.append(write_text(place(name), text))
        tell("\n".join(table(made)))
        tell(f"bench: {name} took {(time.perf_counter() - began) / 60:.1f} minutes; records: {written[-1]}")
    return written


def read(path: Path) -> list[Row]:
    """The records of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(records: list[Row]) -> list[str]:
    """The records as lines of markdown: a column for all that some record has, rounds and environment left out."""
    from spact_lib.table_text import markdown

    columns = [key for key in dict.fromkeys(key for row in records for key in row)]
    columns = [key for key in columns if key not in ("rounds", "environment")]
    return markdown([columns, *([str(row.get(key, "")) for key in columns] for row in records)])


def text() -> str:
    """All committed records as markdown: a table of each benchmark, and on what it was measured."""
    parts = []
    for path in sorted(FOLDER.glob("[!.]*.jsonl")):
        records = read(path)
        about = records[0]["environment"]
        where = f"{about['device']}, {about['cpu']}, {about['cores']} cores, {about['threads']} threads"
        versions = f"torch {about['torch']}, commit {about['commit']}, {about['made'][:10]}"
        parts += [f"`spact bench {about['benchmark']}` on {where}; {versions}:", "", *table(records), ""]
    return "\n".join(parts[:-1]) if parts else "No benchmark is committed yet: `make bench` measures."
