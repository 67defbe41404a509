"""Does anything grow? The smoke rows of Table 1, its table and figures, and a notebook, again and again in one process.

    python benchmarks/growth.py [ROUNDS]

After each round: resident memory, open files, threads, child processes, and what lies on the disk. Each round begins
with an empty store, so that it does the same work. Ends with status 1 where the rounds after the first ones, which load
what is loaded once, have a rising trend. Linux only.
"""

import gc
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from scipy.stats import theilslopes

SETTLED = 3  # rounds that load libraries, fill caches and let the allocator grow
FEWEST = 10  # rounds; fewer show no trend
MEASURED, NOISE = ("MB", "disk kB"), 0.005
COLUMNS = ("MB", "files", "threads", "children", "disk kB", "temporary files")


def now(runs: Path, temporary: Path) -> tuple[float, ...]:
    """The columns, at this moment."""
    gc.collect()
    own = Path("/proc/self")
    resident = int((own / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    files, threads = len(os.listdir(own / "fd")), len(os.listdir(own / "task"))
    children = sum(len((task / "children").read_text().split()) for task in (own / "task").iterdir())
    disk = sum(path.stat().st_size for path in runs.rglob("*") if path.is_file()) / 1e3
    return resident, files, threads, children, disk, sum(1 for _ in temporary.rglob("*"))


def one_round(runs: Path) -> None:
    """Everything anew but the drawn data."""
    from spact_lib import notebook_setup, table_text, tables
    from spact_lib.notebooks import run_notebook
    from spact_lib.paths import NOTEBOOKS

    for name in ("store", "tables", "figures", "records", "notebooks"):
        shutil.rmtree(runs / name, ignore_errors=True)
    study = notebook_setup.open_notebook("smoke", draw=1, seed=0)
    notebook_setup.fill_table("table1", study)
    table_text.save_table(tables.table("table1", study), "smoke", "table1")
    tables.keep_used("table1", study)
    notebook_setup.show_games(study, ["supervised", "spact"], "games")
    notebook_setup.show_released(study, ["raw", "spact"], study.protocol.action, "released")
    path = NOTEBOOKS / "02_initialise.ipynb"
    run_notebook(path, runs / "notebooks" / path.name, {"PROFILE": "smoke"})


def is_growing(column: str, values: Sequence[float]) -> bool:
    """Whether a column rises over the rounds.

    Of what is counted, the last rounds' median is above the first ones'. What is measured is noisy: there the slope
    (Theil-Sen, the lower end of its 95 % interval) comes to more than ``NOISE`` over all rounds.
    """
    if column in MEASURED:
        return bool(theilslopes(values).low_slope * len(values) > NOISE * values[0])
    return statistics.median(values[-3:]) > statistics.median(values[:3])


def main(rounds: int) -> int:
    """Print a line for each round; 1 where something grows."""
    with tempfile.TemporaryDirectory() as folder:
        runs, temporary = Path(folder, "runs"), Path(folder, "tmp")
        temporary.mkdir()
        os.environ |= {"SPACT_RUNS": str(runs), "TMPDIR": str(temporary), "SPACT_DEVICE": "cpu"}
        tempfile.tempdir = str(temporary)
        found = []
        print("round", *COLUMNS, "seconds", sep="\t")
        for number in range(1, rounds + 1):
            began = time.perf_counter()
            with redirect_stdout(io.StringIO()):  # what notebooks print
                one_round(runs)
            found.append(now(runs, temporary))
            cells = [f"{value:.0f}" for value in (*found[-1], time.perf_counter() - began)]
            print(number, *cells, sep="\t", flush=True)
    status = 0
    for column, values in zip(COLUMNS, zip(*found[SETTLED:], strict=True), strict=True):
        status |= (grows := is_growing(column, values))
        print(f"{column}: {values[0]:.0f} -> {values[-1]:.0f}{', GROWS' * grows}")
    return status


if __name__ == "__main__":
    # A notebook shows figures by itself; here nobody looks.
    os.environ["MPLBACKEND"] = "agg"
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    asked = sys.argv[1] if len(sys.argv) > 1 else "20"
    if not asked.isdecimal() or int(asked) < FEWEST:
        sys.exit(f"error: ROUNDS is {asked!r}; give an integer from {FEWEST} up")
    sys.exit(main(int(asked)))
