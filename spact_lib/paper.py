"""The numbers that the paper reports (``reported.csv``): never computed here, only looked up.

A row of the csv is one cell of a table: ``table, row, dataset, metric, better, value``. ``better`` says which way is
good for the user of the method: action up, privacy down.
"""

import math
from functools import cache
from pathlib import Path

import pandas as pd

from spact_lib.errors import unknown_name

CSV = Path(__file__).with_name("reported.csv")
OFFICIAL_L1 = 0.0100  # of f_A after Eq. 4: mean L1 of the official checkpoint (epoch 20)


@cache
def _cells() -> dict[tuple[str, str, str, str], float]:
    rows = pd.read_csv(CSV)
    return {(r.table, r.row, r.dataset, r.metric): float(r.value) for r in rows.itertuples()}


def reported(table: str, row: str, dataset: str, metric: str) -> float | None:
    """One number of the paper, in its own unit (top-1 and cMAP in percent, F1 in [0, 1]); None where it has none.

    Raises:
        UserError: unknown table.
    """
    tables = {cell[0] for cell in _cells()}
    if table not in tables:
        raise unknown_name("table of the paper", table, tables)
    return _cells().get((table, row, dataset, metric))


def reported_drop(table: str, row: str, dataset: str, metric: str) -> float | None:
    """The paper's relative drop from its raw row in percent (its "↓14%"), from the reported numbers.

    The ablations (Tables 3 to 6) have Table 1's protocol. Table 3 prints its raw row under another name; of the others
    it is Table 1's.
    """
    value = reported(table, row, dataset, metric)
    raws = (
        reported(name, raw, dataset, metric)
        for name, raw in ((table, "raw"), (table, "no_fa_no_fb"), ("table1", "raw"))
    )
    raw = next(filter(None, raws), None)
    return None if value is None or raw is None else relative_drop(value, raw)


def relative_drop(value: float, raw: float) -> float:
    """How much of ``raw`` is gone, in percent: 100 (raw - value) / raw; NaN where raw is 0 and nothing can be lost."""
    return 100 * (raw - value) / raw if raw else math.nan


def elsewhere() -> pd.DataFrame:
    """What later works report under these protocols (``reported_elsewhere.csv``), each with its own raw line: their
    networks and splits are others.

    Returns:
        Index ``data``, ``source``, ``row``; a column per metric: the number, and its relative drop from that raw line.
    """
    table = pd.read_csv(CSV.with_name("reported_elsewhere.csv"))
    values = table.pivot_table(index=["data", "source", "row"], columns="metric", values="value", sort=False)
    raws = values.groupby(level=["data", "source"]).transform("first")  # of each the first line

    def told(value: float, raw: float) -> str:
        if math.isnan(value):
            return "–"
        number = f"{value:.3f}" if raw < 1 else f"{value:.2f}"
        drop = f"{-relative_drop(value, raw):+.1f} %".replace("-", "−")
        return number if value == raw else f"{number} ({drop})"

    pairs = {name: zip(values[name], raws[name], strict=True) for name in values}
    return pd.DataFrame({name: [told(*pair) for pair in each] for name, each in pairs.items()}, index=values.index)
