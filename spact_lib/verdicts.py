"""Verdicts on the paper's claims: what follows from the scores of replicates."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from spact_lib.claims import CLAIMS, HOLM, LEVEL, Cell, Scores, claim_verdict, holm, measure, t_interval
from spact_lib.footnotes import FAULTS, distinct, left_out
from spact_lib.methods import TABLES, paper_rows
from spact_lib.paper import reported
from spact_lib.replicates import cells
from spact_lib.table_text import ShownText, save_text
from spact_lib.tables import hardware_of, minutes_of

NOT_RUN, TOO_FEW = "not run", "too few replicates"  # no replicate has what it needs; some have


def paper_scores() -> list[Scores]:
    """The paper's own numbers, "replicates" without a spread: of each table, then of all together. Its tables do not
    round the same number alike, so that a difference is best taken within one. Of ``identity`` the paper has no
    row: its raw row stands in, from which such an f_A should not differ."""
    found: list[dict[Cell, float]] = []

    def add(setting: str, method: str, table: str, row: str, *columns: tuple[str, str]) -> None:
        for role, (dataset, metric) in zip(("action", "privacy"), columns, strict=True):
            if row and (value := reported(table, row, dataset, metric)) is not None:
                found[-1][setting, method, role] = value

    for table in ("table1", "table3", "table4", "table5", "table6", "table2"):
        found.append({})
        for method, row in (paper_rows(table) | {"identity": TABLES[table]["raw"]}).items():
            if table != "table2":
                add("known", method, table, row, ("ucf101", "top1"), ("vispr1", "cmap"))
            else:
                add("novel", method, table, row, ("ucf101_to_hmdb51", "top1"), ("vispr1_to_vispr2", "cmap"))
                add("scene_object", method, table, row, ("phvu_action", "cmap"), ("phvu_scene_to_object", "cmap"))
    return [*map(Scores, found), Scores({cell: value for each in reversed(found) for cell, value in each.items()})]


def verdicts(replicates: Sequence[Scores]) -> pd.DataFrame:
    """Every condition of every claim over the replicates that have its scores.

    Returns:
        Index (claim, condition). Columns: ``text``; ``effect``, ``low``, ``high`` (its 95 % t-interval), ``margin``,
        ``below``; ``paper``, the paper's own effect (NaN: not printed), ``stand-in``, whether its raw row stands in for
        identity there; ``resolvable``, half the interval: a smaller distance from the margin would have been
        inconclusive; ``n`` of ``needed`` replicates; ``condition verdict``
        and ``verdict`` of the claim ("too few replicates" with fewer than the needed ones, "not run" with none);
        ``holm``, Holm's adjusted one-sided p of the claim, below ``LEVEL`` / 2 where it holds (K1 to K6; a claim
        without a verdict counts as p = 1); those of ``footnotes.faults``, of all replicates together.
    """
    papers, rows, results = paper_scores(), {}, {}
    for name, claim in CLAIMS.items():
        results[name] = []
        for text, condition in claim.conditions.items():
            asked = set(cells(condition))
            have = [scores for scores in replicates if asked <= set(scores.cells)]
            paper = next((scores for scores in papers if asked <= set(scores.cells)), None)
            effects = [condition.effect(scores) for scores in have]
            result = measure(condition, have) if len(have) >= claim.replicates else None
            low, high = t_interval(effects)
            results[name].append(result)
            rows[name, text] = {
                "text": claim.text, "effect": float(np.mean(effects)) if effects else math.nan, "low": low,
                "high": high, "margin": condition.margin, "below": condition.below,
                "paper": condition.effect(paper) if paper else math.nan,
                "stand-in": any(method == "identity" for _, method, _ in asked),
                "resolvable": (high - low) / 2, "n": len(have), "needed": claim.replicates,
                "condition verdict": result.verdict if result else TOO_FEW if have else NOT_RUN,
            }  # fmt: skip
    # A claim is rejected as untrue only if each of its conditions is, so the largest p of them is the claim's.
    p = {name: 1.0 if None in results[name] else max(result.p for result in results[name]) for name in HOLM}
    adjusted = holm(p)
    for (name, _), row in rows.items():
        some = any(other["n"] for (claim, _), other in rows.items() if claim == name)
        without = None in results[name]
        verdict = (TOO_FEW if some else NOT_RUN) if without else claim_verdict(results[name])
        row["holm"] = adjusted[name] if name in HOLM and not without else math.nan
        row["verdict"] = "inconclusive" if verdict == "holds" and row["holm"] >= LEVEL / 2 else verdict
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["claim", "condition"])
    return table.assign(**{name: distinct(getattr(scores, name) for scores in replicates) for name in FAULTS})


def printable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: effects in points or percent, an empty cell where there is nothing to say."""

    def text(value: float, digits: int = 1) -> str:
        return "" if math.isnan(value) else f"{value:.{digits}f}"

    rows = list(table.itertuples())
    return pd.DataFrame(
        {
            "claim": table.index.get_level_values("claim"),
            "says": table["text"].to_numpy(),
            "condition": table.index.get_level_values("condition"),
            "effect": [text(value) for value in table["effect"]],
            "interval": ["" if math.isnan(row.low) else f"[{text(row.low)}, {text(row.high)}]" for row in rows],
            "paper": [text(value) for value in table["paper"]],
            "resolvable": [text(value) for value in table["resolvable"]],
            "replicates": [f"{row.n} of {row.needed}" for row in rows],
            "condition is": table["condition verdict"].to_numpy(),
            "Holm p": ["<0.001" if value < 0.0005 else text(value, 3) for value in table["holm"]],
            "claim is": table["verdict"].to_numpy(),
        }
    ).set_index(["claim", "says", "condition"])


def save(table: pd.DataFrame, records: Sequence[dict], profile: str, name: str) -> str:
    """Write the printable table as csv and LaTeX (``table_text.save_text``).

    Args:
        records: behind it.

    Returns:
        Minutes of training, and hardware.
    """
    minutes, hardware = f"{minutes_of(records):.0f}", hardware_of(records)
    said = f"Minutes of training, all replicates: {minutes}. Hardware: {hardware or 'none yet'}."
    text = printable(table).assign(minutes=minutes, hardware=hardware)
    save_text(text, profile, name, f"{NOTE} {said}", left_out=left_out(table))
    return said


def sentences(table: pd.DataFrame) -> str:
    """A line for each claim: its verdict, and what it was given for; then ``footnotes.left_out``."""
    lines = []
    for claim, rows in table.groupby(level="claim", sort=False):
        parts = {}
        for (_, condition), row in rows.iterrows():
            interval = f"[{row.low:.1f}, {row.high:.1f}]" if row.n > 1 else "(one replicate gives no interval)"
            given = f"effect {row.effect:.1f} {interval}" if row.n else ""
            paper = "" if math.isnan(row.paper) else f"paper {row.paper:.1f}" + " (raw for identity)" * row["stand-in"]
            said = CLAIMS[claim].conditions[condition].both or condition
            parts[said] = ", ".join(filter(None, (said, given, paper)))
        text, verdict, needed = rows.iloc[0][["text", "verdict", "needed"]]
        missing = f" ({rows['n'].min()} of {needed} replicates)" if verdict in (NOT_RUN, TOO_FEW) else ""
        missing += ", no verdict" * (verdict == TOO_FEW)
        if verdict == "inconclusive" and (rows["condition verdict"] == "holds").all():
            missing += f" (by Holm's p, {rows['holm'].iloc[0]:.3f}: each condition holds by its interval)"
        lines.append(f"{claim} {text}: {verdict}{missing}. {'; '.join(parts.values())}.")
    return "\n".join([*lines, *left_out(table)])


# Colours that no method has, the first three of Tol's muted palette: told apart with any colour vision, and by markers.
VERDICT_LOOKS = {
    "holds": ("#332288", "o"),
    "fails": ("#882255", "X"),
    "inconclusive": ("#999933", "s"),
    TOO_FEW: ("#BBBBBB", "v"),
    NOT_RUN: ("#DDDDDD", ""),
}
NOTE = (
    "effect: mean over replicates, in points, or in percent where the condition says so; interval: 95 %, t; paper: the "
    "same effect in the paper's own numbers, of one table where it has them all, raw in place of the identity row that "
    "it lacks (K6, K7); resolvable: a distance from the margin that is smaller than this is inconclusive; Holm p: "
    "one-sided, adjusted over K1 to K6, below 0.025 where a claim holds; too few replicates: some that the claim needs "
    "are missing, so its numbers are no verdict; not run: all are."
)


class Shown(ShownText):
    """The verdicts as a notebook shows them, a colour for each."""

    def __init__(self, table: pd.DataFrame):
        super().__init__(printable(table), " ".join([NOTE, *left_out(table)]), "claims", _in_html)


def _in_html(styler: Styler) -> Styler:
    return styler.map(lambda verdict: f"border-left: 6px solid {VERDICT_LOOKS[verdict][0]};", subset=["claim is"])
