"""The first table of the mini reproduction from nothing: as it is, and with every optimisation off (SPACT_PLAIN=1).

Each once, one after the other, in stores of their own that are emptied first. It takes an hour or more.
"""

import os
import shutil
import subprocess
import sys

import pandas as pd

from benchmarks.harness import Row, interleaved, rows
from spact_lib.errors import UserError
from spact_lib.paths import REPOSITORY, runs_root

PROFILE = os.environ.get("SPACT_PROFILE", "mini")
LAST = "04"  # the notebook with Table 1
VARIANTS = {"plain": "1", "ours": "0"}  # -> SPACT_PLAIN


def reproduce(variant: str) -> None:
    """Data and notebooks up to the first table.

    Raises:
        UserError: the reproduction failed; what it said stands above.
    """
    root = runs_root() / "bench" / variant
    shutil.rmtree(root, ignore_errors=True)
    environment = os.environ | {"SPACT_RUNS": str(root), "SPACT_PLAIN": VARIANTS[variant]}
    command = [sys.executable, "-m", "spact_lib", "reproduce", "--profile", PROFILE, "--until", LAST]
    if subprocess.run(command, env=environment, cwd=REPOSITORY).returncode:
        raise UserError(f"the {variant} reproduction failed; its output is above")


def table1(variant: str) -> pd.DataFrame:
    """Table 1 as a variant wrote it, index (metric, method)."""
    # A folder named "plain" is where plain runs lie (``runs_root``), without another one in it.
    written = runs_root() / "bench" / variant / "tables" / PROFILE / "table1.csv"
    return pd.read_csv(written).set_index(["metric", "method"])


def run() -> list[Row]:
    """The records; beside the minutes what the two tables say: they must agree within what another seed changes."""
    seconds = interleaved({name: lambda name=name: reproduce(name) for name in VARIANTS}, rounds=1, warmup=0)
    tables = {name: table1(name)["here"] for name in VARIANTS}
    said = {
        f"{metric} {method}".replace(" ", "_"): {name: table[metric, method] for name, table in tables.items()}
        for metric in ("action top-1", "privacy cMAP")
        for method in ("Raw data", "Supervised [41]", "SPAct")
    }
    return rows(f"Table 1 of {PROFILE}, from nothing", seconds, "plain", unit="min", **said)
