"""What every note below a result must say: which rows were left out, and which f_A is none."""

from collections.abc import Iterable

import pandas as pd

from spact_lib.config import Spec

FAULTS = ("set_aside", "collapsed")  # what ``faults`` gives, columns of tables


def distinct(texts: Iterable[str]) -> str:
    """The parts of texts joined by "; ", each once."""
    return "; ".join(sorted({part for text in texts for part in text.split("; ") if part}))


def faults(made: Iterable[tuple[Spec, dict]], text: str) -> dict[str, str]:
    """What is to be said of a result, for ``left_out``.

    Args:
        made: all specs that it was made from, each with the metrics of its record.
        text: the method's name for readers.

    Returns:
        ``set_aside``: rows of each split whose files are missing or unusable; ``collapsed``: the method, if its f_A
        gives one picture. Each is "" where there is nothing to be said.
    """
    rows, collapsed = set(), False
    for spec, metrics in made:
        # A score was made without rows of its own data, f_A's initialisation without those of both datasets.
        own = {spec.data.name: metrics["set_aside"]} if "set_aside" in metrics else {}
        for data, away in (own or metrics.get("set_aside_of", {})).items():
            rows |= {f"{data} {count} {split}" for split, count in away.items()}
        collapsed |= bool(metrics.get("collapsed"))
    return dict(zip(FAULTS, (distinct(rows), text * collapsed), strict=True))


def left_out(table: pd.DataFrame) -> list[str]:
    """The sentences for the columns of ``faults`` in a table; none where nothing was left out and no f_A collapsed."""
    lines = []
    if rows := distinct(table.get("set_aside", ())):
        lines.append(f"Rows left out, because their files are missing or cannot be used: {rows}.")
    if collapsed := distinct(table.get("collapsed", ())):
        lines.append(f"Not a result: f_A has collapsed to one picture, which hides the action too: {collapsed}.")
    return lines
