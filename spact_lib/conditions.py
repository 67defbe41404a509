"""C1 and C2 (Eq. 1, 2), measured: may an action model that is in use stay, and what does an unprepared attacker see?

C1 asks that L_T of an action model is the same on anonymized data as on raw data, C2 that L_B of a privacy model is
far larger. The paper reports models retrained on anonymized data; here those and models learned on raw data
(unprepared) are both tested on both.
"""

import pandas as pd

from spact_lib.config import BaselineSpec, Method, Spec
from spact_lib.footnotes import faults, left_out
from spact_lib.paper import relative_drop
from spact_lib.study import Study
from spact_lib.table_text import save_text
from spact_lib.tables import METRICS, column_means, hardware_of, is_action, label, minutes_of, parts_at_hand

NOTE = (
    "drop %: relative, from learned and tested on raw; loss: L_T or L_B of the test rows' predictions, in nats; "
    "minutes: of the test passes of this target; one replicate."
)


def c1_c2(study: Study, name: str) -> pd.DataFrame:
    """Targets learned on raw data and on what a method releases, each tested on both.

    Returns:
        Index (metric, learned on, tested on), metrics as in ``tables.table``. Columns, means over the target seeds:
        ``here`` (top-1 and cMAP in percent, F1 in [0, 1]), ``chance``, ``drop`` (relative, from learned and tested on
        raw, in percent), ``loss`` (L_T or L_B of the predictions averaged over a row's test clips, in nats),
        ``minutes`` and ``hardware`` of the target's test passes; those of ``footnotes.faults``.
    """
    methods = {"raw": BaselineSpec(name="raw"), name: study.method(name)}
    rows = {}
    for target, asked in study.protocol.targets.items():
        specs = {
            (label(learned), label(tested)): passes(study, target, on, other)
            for learned, on in methods.items()
            for tested, other in methods.items()
        }
        records = {where: [study.store.run(spec).record for spec in of_seeds] for where, of_seeds in specs.items()}
        said = faults(parts_at_hand(study, sum(specs.values(), [])), label(name))
        made = [record for of_seeds in records.values() for record in of_seeds]
        for where, of_seeds in records.items():
            for column, metric, means in column_means(asked, [record["metrics"]["scores"] for record in of_seeds]):
                rows[f"{column.name} {METRICS[metric]}", *where] = {
                    **means[["here", "chance", "loss"]],
                    "minutes": minutes_of(made),
                    "hardware": hardware_of(made),
                    **said,
                }
    found = pd.DataFrame.from_dict(rows, orient="index")
    found.index = pd.MultiIndex.from_tuples(rows, names=["metric", "learned on", "tested on"])
    metrics = list(found.index.unique("metric"))
    found = found.loc[sorted(rows, key=lambda row: metrics.index(row[0]))]  # stable: raw stays first
    raw = {metric: found.loc[(metric, label("raw"), label("raw")), "here"] for metric in metrics}
    found.insert(2, "drop", [relative_drop(row.here, raw[metric]) for (metric, *_), row in found.iterrows()])
    return found


def passes(study: Study, target: str, learned: Method, tested: Method) -> list[Spec]:
    """What gives the scores of targets that learned on one release and are tested on another, for each target seed."""
    return [study.score_spec(learned, target, seed, tested=tested) for seed in study.profile.target_seeds]


def printable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text."""
    digits = [3 if metric.endswith("F1") else 1 for metric, *_ in table.index]
    return pd.DataFrame(
        {
            column: [f"{value:.{n}f}" for value, n in zip(table[column], digits, strict=True)]
            for column in ("here", "chance")
        }
        | {"drop %": table["drop"].map("{:.1f}".format), "loss": table["loss"].map("{:.3f}".format)}
        | {"minutes": table["minutes"].map("{:.1f}".format), "hardware": table["hardware"]},
        index=table.index,
    )


def save(table: pd.DataFrame, profile: str, name: str) -> None:
    """Write it as csv and LaTeX (``table_text.save_text``)."""
    note = f"{NOTE} Hardware: {table['hardware'].iloc[0]}."
    save_text(printable(table), profile, name, note, left_out=left_out(table))


def sentences(table: pd.DataFrame, name: str) -> str:
    """Both conditions in a line each, from the table alone; then ``footnotes.left_out``."""
    lines, raw, other = [], label("raw"), label(name)
    for metric in table.index.unique("metric"):
        if metric.endswith("F1"):  # the same losses as cMAP's
            continue
        here, loss = table["here"][metric], table["loss"][metric]
        condition, letter = ("C1", "T") if is_action(metric) else ("C2", "B")
        lines.append(
            f"{condition}, {metric}: learned on raw data, f'_{letter} reaches {here[raw, raw]:.1f} there (L_{letter} "
            f"{loss[raw, raw]:.3f}) and {here[raw, other]:.1f} on {other}'s release (L_{letter} "
            f"{loss[raw, other]:.3f}), {here[raw, other] - here[raw, raw]:+.1f} points; retrained on the release, "
            f"{here[other, other]:.1f} (L_{letter} {loss[other, other]:.3f}), "
            f"{here[other, other] - here[raw, raw]:+.1f} points."
        )
    return "\n".join([*lines, *left_out(table)])
