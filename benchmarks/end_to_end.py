"""The first table of the mini reproduction from nothing: as it is, and with every optimisation off (SPACT_PLAIN=1).

Each once, one after the other, in stores of their own that are emptied first. It takes an hour or more. Beside them
stands how far the replicates of that table lie apart that are at hand: as far may the two.
"""

import os
import shutil
import subprocess
import sys

import pandas as pd

from benchmarks.harness import Row, interleaved, rows
from spact_lib.errors import UserError
from spact_lib.files import read_json
from spact_lib.notebooks import REPLICATES
from spact_lib.paths import REPOSITORY, runs_root
from spact_lib.tables import at_hand, label, table

PROFILE = os.environ.get("SPACT_PROFILE", "mini")
PROTOCOL, METRICS, METHODS = "ucf101_vispr1", ("action top-1", "privacy cMAP"), ("raw", "supervised", "spact")
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


def waiting(variant: str) -> float:
    """Percent of the training seconds that a variant waited for data."""
    found = (runs_root() / "bench" / variant / "store").glob("*/*/record.json")
    records = [record for record in map(read_json, sorted(found)) if "waited" in record]
    return round(100 * sum(r["waited"] for r in records) / sum(r["seconds"] for r in records), 1)


def run() -> list[Row]:
    """The records; beside the minutes what the tables say, and the range of the committed replicates."""
    seconds = interleaved({name: lambda name=name: reproduce(name) for name in VARIANTS}, rounds=1, warmup=0)
    found = {name: table1(name)["here"] for name in VARIANTS}
    cells = {f"{metric} {label(method)}": (metric, method) for metric in METRICS for method in METHODS}
    said = {
        name.replace(" ", "_"): {variant: here[metric, label(method)] for variant, here in found.items()}
        for name, (metric, method) in cells.items()
    }
    said["%_waiting"] = {name: waiting(name) for name in VARIANTS}
    case = f"Table 1 of {PROFILE}, from nothing"
    made = rows(case, seconds, "plain", unit="min", **said)
    replicates = [(1, 0), *REPLICATES]
    studies = at_hand("table1", PROFILE, PROTOCOL, replicates, methods=METHODS)
    here = [table("table1", study, methods=METHODS)["here"] for study in studies]
    if len(studies) > 1:
        here = pd.concat(here, axis=1)
        apart = (here.max(axis=1) - here.min(axis=1)).round(1)
        ranges = {name: apart[cell] for name, cell in cells.items()}
        made.append({"case": case, "variant": f"range of {len(studies)} replicates", **ranges})
    return made
