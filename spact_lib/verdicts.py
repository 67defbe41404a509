"""Verdicts on the paper's claims: the scores of replicates, from finished or committed records, and what follows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from html import escape

import numpy as np
import pandas as pd

from spact_lib.claims import CLAIMS, HOLM, LEVEL, Condition, Scores, claim_verdict, holm, measure, t_interval
from spact_lib.config import Profile
from spact_lib.errors import UserError
from spact_lib.experiments import NotTrainedError
from spact_lib.files import atomic_path, write_text
from spact_lib.metrics import headline
from spact_lib.paper import reported
from spact_lib.paths import runs_root
from spact_lib.protocols import PROTOCOLS
from spact_lib.results import training_forbidden
from spact_lib.study import METHODS, TABLES, Study, open_study

# Setting of ``Scores`` -> protocol, and its targets that read a and cMAP.
SETTINGS: dict[str, tuple[str, tuple[str, str]]] = {
    "known": ("ucf101_vispr1", ("action", "privacy")),
    "novel": ("novel", ("action", "privacy")),
    "scene_object": ("phvu_scene_to_object", ("action", "object")),
    "other_targets": ("ucf101_vispr1", ("action", "privacy")),
}
NOT_RUN = "not run"
REPLICATES = ([101, 1], [102, 2], [103, 3], [104, 4], [105, 5])  # (draw, seed): never looked at while tuning


def cells(condition: Condition) -> set[tuple[str, str]]:
    """The (setting, method) whose scores a condition looks at."""
    asked: set[tuple[str, str]] = set()

    class Everything(dict):
        def __getitem__(self, key: tuple[str, str]) -> tuple[float, float]:
            asked.add(key)
            return 1.0, 1.0

    condition(Scores(Everything()))
    return asked


def wanted(replicate: int) -> list[tuple[str, str]]:
    """The cells that the claims need of a replicate: those of K1 to K6 of the first five, the others of three."""
    claims = [claim for claim in CLAIMS.values() if claim.replicates > replicate]
    asked = {cell for claim in claims for condition in claim.conditions.values() for cell in cells(condition)}
    order = {name: k for k, name in enumerate(SETTINGS)}, {name: k for k, name in enumerate(METHODS)}
    return sorted(asked, key=lambda cell: (order[0][cell[0]], order[1].get(cell[1], len(METHODS))))


def studies(
    profile: Profile, draw: int, seed: int, target_seeds: Iterable[int], other_targets: tuple[str, str]
) -> dict[str, Study]:
    """The study of each setting for one replicate; a setting whose data are neither here nor committed is left out.

    Args:
        target_seeds: whose scores are averaged.
        other_targets: architectures of f'_T and f'_B for the setting "other_targets".
    """
    found = {}
    for setting, (protocol, _) in SETTINGS.items():
        if protocol not in PROTOCOLS:
            continue
        changes = dict(zip(("target_f_T", "target_f_B"), other_targets, strict=True))
        changes = changes if setting == "other_targets" else {}
        with suppress(UserError):
            study = open_study(
                profile.name, draw=draw, seed=seed, protocol=protocol, target_seeds=tuple(target_seeds), **changes
            )
            for role in study.protocol.roles:
                study.data(role)
            found[setting] = study
    return found


def gather(
    profile: Profile,
    replicates: Iterable[Sequence[int]],
    target_seeds: Iterable[int],
    other_targets: tuple[str, str],
    *,
    train: bool = False,
) -> list[tuple[dict[str, Study], Scores]]:
    """The studies and the scores of each replicate, a pair (draw, seed).

    Args:
        train: make what is missing, for hours; else it is left out.
    """
    with nullcontext() if train else training_forbidden():
        found = []
        for k, (draw, seed) in enumerate(replicates):
            replicate = studies(profile, draw, seed, target_seeds, other_targets)
            found.append((replicate, collect(replicate, wanted(k))))
        return found


def collect(replicate: Mapping[str, Study], asked: Iterable[tuple[str, str]]) -> Scores:
    """The scores of one replicate, mean over its target seeds; a cell without a record is left out.

    Where the stores are not read-only nothing is left out: what is missing is trained.
    """
    found = {}
    for setting, name in asked:
        if setting not in replicate or name not in METHODS:
            continue
        with suppress(NotTrainedError):
            found[setting, name] = _cell(replicate, setting, name)
    return Scores(found)


def _cell(replicate: Mapping[str, Study], setting: str, name: str) -> tuple[float, float]:
    study, known = replicate[setting], replicate["known"]
    # f_A* is learned, and its omega chosen, once: other targets and novel data are read through the same one.
    method = (known if study.init_f_A == known.init_f_A else study).method(name)
    return tuple(
        float(np.mean([headline(study.target(method, role, seed).metrics) for seed in study.profile.target_seeds]))
        for role in SETTINGS[setting][1]
    )


def paper_scores() -> Scores:
    """The paper's own numbers, one "replicate" without a spread."""
    found: dict[tuple[str, str], tuple[float, float]] = {}

    def add(setting: str, method: str, table: str, row: str, *columns: tuple[str, str]) -> None:
        pair = tuple(reported(table, row, dataset, metric) for dataset, metric in columns)
        if row and None not in pair:
            found.setdefault((setting, method), pair)

    for table in ("table1", "table3", "table4", "table5", "table6"):
        for method, row in TABLES[table].items():
            add("known", method, table, row, ("ucf101", "top1"), ("vispr1", "cmap"))
    for row in METHODS:  # Table 2's rows have the same names
        add("novel", row, "table2", row, ("ucf101_to_hmdb51", "top1"), ("vispr1_to_vispr2", "cmap"))
        add("scene_object", row, "table2", row, ("phvu_action", "cmap"), ("phvu_scene_to_object", "cmap"))
    return Scores(found)


def verdicts(replicates: Sequence[Scores]) -> pd.DataFrame:
    """Every condition of every claim over the replicates that have its scores.

    Returns:
        Index (claim, condition). Columns: ``text``; ``effect``, ``low``, ``high`` (its 95 % t-interval), ``margin``,
        ``below``; ``paper``, the paper's own effect (NaN: not printed); ``resolvable``, half the interval: a smaller
        distance from the margin would have been inconclusive; ``n`` of ``needed`` replicates; ``condition verdict``
        and ``verdict`` of the claim ("not run" with fewer than the needed ones); ``holm``, Holm's adjusted one-sided
        p of the claim, below ``LEVEL`` / 2 where it holds (K1 to K6; a claim not run counts as p = 1).
    """
    paper, rows, results = paper_scores(), {}, {}
    for name, claim in CLAIMS.items():
        results[name] = []
        for text, condition in claim.conditions.items():
            have = [scores for scores in replicates if cells(condition) <= set(scores.cells)]
            effects = [condition.effect(scores) for scores in have]
            result = measure(condition, have) if len(have) >= claim.replicates else None
            low, high = t_interval(effects)
            results[name].append(result)
            rows[name, text] = {
                "text": claim.text, "effect": float(np.mean(effects)) if effects else math.nan, "low": low,
                "high": high, "margin": condition.margin, "below": condition.below,
                "paper": condition.effect(paper) if cells(condition) <= set(paper.cells) else math.nan,
                "resolvable": (high - low) / 2, "n": len(have), "needed": claim.replicates,
                "condition verdict": result.verdict if result else NOT_RUN,
            }  # fmt: skip
    # A claim is rejected as untrue only if each of its conditions is, so the largest p of them is the claim's.
    p = {name: 1.0 if None in results[name] else max(result.p for result in results[name]) for name in HOLM}
    adjusted = holm(p)
    for (name, _), row in rows.items():
        verdict = NOT_RUN if None in results[name] else claim_verdict(results[name])
        row["holm"] = adjusted[name] if name in HOLM and verdict != NOT_RUN else math.nan
        row["verdict"] = "inconclusive" if verdict == "holds" and row["holm"] >= LEVEL / 2 else verdict
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["claim", "condition"])
    return table


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
            "Holm p": [text(value, 3) for value in table["holm"]],
            "claim is": table["verdict"].to_numpy(),
        }
    ).set_index(["claim", "says", "condition"])


def suffix(replicates: Sequence[Sequence[int]]) -> str:
    """What is added to file names where other replicates than ``REPLICATES`` are asked for."""
    if [list(pair) for pair in replicates] == list(REPLICATES):
        return ""
    return "".join(f"-draw{draw}-seed{seed}" for draw, seed in replicates)


def save(table: pd.DataFrame, profile: str, name: str) -> None:
    """Write the printable table to ``tables/<profile>/<name>.csv`` of the store, and as LaTeX beside it."""
    path, text = runs_root() / "tables" / profile / f"{name}.csv", printable(table)
    with atomic_path(path) as temporary:
        text.to_csv(temporary)
    write_text(path.with_suffix(".tex"), text.reset_index().to_latex(index=False, escape=True))


def sentences(table: pd.DataFrame) -> str:
    """A line for each claim: its verdict, and what it was given for."""
    lines = []
    for claim, rows in table.groupby(level="claim", sort=False):
        parts = []
        for (_, condition), row in rows.iterrows():
            given = f"effect {row.effect:.1f} [{row.low:.1f}, {row.high:.1f}]" if row.n > 1 else ""
            paper = "" if math.isnan(row.paper) else f"paper {row.paper:.1f}"
            parts.append(", ".join(filter(None, (condition, given, paper))))
        text, verdict, needed = rows.iloc[0][["text", "verdict", "needed"]]
        missing = f" ({rows['n'].min()} of {needed} replicates)" if verdict == NOT_RUN else ""
        lines.append(f"{claim} {text}: {verdict}{missing}. {'; '.join(parts)}.")
    return "\n".join(lines)


# Okabe and Ito's palette; the word stands in the cell too.
VERDICT_COLOURS = {"holds": "#009E73", "fails": "#D55E00", "inconclusive": "#56B4E9", NOT_RUN: "#999999"}
NOTE = (
    "effect: mean over replicates, in points, or in percent where the condition says so; interval: 95 %, t; paper: the "
    "same effect in the paper's own numbers; resolvable: a distance from the margin that is smaller than this is "
    "inconclusive; Holm p: one-sided, adjusted over K1 to K6, below 0.025 where a claim holds; not run: fewer "
    "replicates than the claim needs."
)


class Shown:
    """The verdicts as a notebook shows them: HTML with a colour for each verdict; plain text where there is no HTML."""

    def __init__(self, table: pd.DataFrame):
        self.text = printable(table)

    def __repr__(self) -> str:
        return f"{NOTE}\n{self.text.to_string()}"

    def _repr_html_(self) -> str:
        styler = self.text.style.set_uuid("claims")
        styler = styler.map(lambda verdict: f"border-left: 6px solid {VERDICT_COLOURS[verdict]};", subset=["claim is"])
        return f"{styler.to_html()}<p>{escape(NOTE)}</p>"
