"""Tables as notebooks make, write, show and keep them: over replicates, with further rows and columns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext

import pandas as pd

from spact_lib import plan, table_text, tables
from spact_lib.ahead import whatever_is_free
from spact_lib.config import AnonymizerSpec, Spec
from spact_lib.errors import missing_left_out
from spact_lib.experiments import uninformative_loss
from spact_lib.footnotes import FAULTS, left_out
from spact_lib.methods import TABLES, further_of_paper
from spact_lib.notebook_setup import suffix
from spact_lib.notebooks import REPLICATES
from spact_lib.protocols import PROTOCOLS, TABLE_PROTOCOLS, is_own
from spact_lib.protocols import protocol as named_protocol
from spact_lib.study import Study

TRAINS_ROWS = {"table1": "04", "table2": "05", "table6": "10"}  # which notebook trains the further rows of a table


def fill_table(name: str, study: Study) -> None:
    """Every row of a table: found in the store, or trained, those first that no process that works ahead is making."""
    study.check(TABLES[name])
    whatever_is_free([(study, method, target) for method in TABLES[name] for target in study.protocol.targets])
    print("ready:", ", ".join(tables.label(method) for method in TABLES[name]))


def replicated_table(
    name: str, study: Study, protocol: str, replicates: Iterable[Sequence[int]], target_seeds: Sequence[int]
) -> pd.DataFrame:
    """A table over this study and the other replicates whose records are at hand; nothing is trained for those.

    It is written as csv and LaTeX, and all its records are kept for promotion.

    Args:
        replicates: pairs (draw, seed).
        target_seeds: as for ``open_notebook``.
    """
    others = _others(name, study, protocol, replicates, target_seeds)
    table = tables.table(name, study, *others)
    other = suffix(study, protocol, TABLE_PROTOCOLS.get(name, ("ucf101_vispr1",))[0])
    table_text.save_table(table, study.profile.name, name + other)
    tables.keep_used(name + other, study, *others)
    return table


def with_further_rows(
    name: str, table: pd.DataFrame, study: Study, protocol: str, replicates: Iterable[Sequence[int]],
    target_seeds: Sequence[int], kept: str, further: Iterable[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """``table`` and those further rows whose records are at hand, each a mean over the replicates that have it. Nothing
    is trained; what is missing is named. Written and kept like ``replicated_table``.

    Args:
        table: of ``replicated_table``, as ``protocol``, ``replicates`` and ``target_seeds``.
        kept: the file name of the table and its records.
        further: the rows; none: those of the paper that are left out by default.
    """
    more, used, missing = [], [], []
    for row in further or further_of_paper(name):
        here = tables.reading(study)
        own = [here] if tables.is_at_hand(name, here, methods=[row]) else []
        if found := [*own, *_others(name, study, protocol, replicates, target_seeds, [row])]:
            more.append(tables.table(name, *found, methods=[row]).drop("raw", level="method"))
            boxes, count = more[-1][["boxes", "replicates"]].iloc[0]
            print(f"further row: {tables.label(row, boxes)}, replicates: {count}")
            used += found
        else:
            missing.append(tables.label(row))
    if missing:
        print(f"rows that are not trained here (TRAIN_ROWS of notebook {TRAINS_ROWS[name]}):", "; ".join(missing))
    rows = tables.together([table, *more])
    if used:
        tables.keep_used(kept, *used)
        table_text.save_table(rows, study.profile.name, kept)
    return rows


def further_columns(name: str, study: Study, protocols: Iterable[str], *, train: bool) -> pd.DataFrame | None:
    """A table's other groups of columns, those that are trained already; written and kept like ``replicated_table``.

    A column is shown with the default rows, and with the paper's further ones where all columns that are shown have
    them.

    Args:
        protocols: the groups, names of ``protocols.PROTOCOLS``.
        train: also train what is missing.
    """
    for protocol in protocols:
        named_protocol(protocol)  # a misspelt name is no column that is missing
    if _is_own(study):
        print("further columns: of the paper's datasets alone, not of one's own")
        return None
    here, further = study if train else tables.reading(study), further_of_paper(name)
    missing = [p for p in protocols if not train and not tables.is_at_hand(name, here, protocols=[p])]
    shown = [p for p in protocols if p not in missing]
    later = [row for row in further if not train and not tables.is_at_hand(name, here, methods=[row], protocols=shown)]
    print("further columns:", ", ".join(shown) or "none yet")
    asked: list[Spec] = []
    said = {protocol: f"{protocol} (no data yet, not counted)" for protocol in missing}
    for protocol in missing:
        with missing_left_out():
            asked += [spec for row in [*TABLES[name], *further] for spec in plan.asked(here.under(protocol), row)]
            said[protocol] = protocol
    if shown and later:
        asked += [spec for protocol in shown for row in later for spec in plan.asked(here.under(protocol), row)]
        said |= {row: tables.label(row) for row in later}
    if said:
        _tell_not_run(study, here, asked, said.values())
    rows = [*TABLES[name], *(row for row in further if row not in later)]
    other = f"further{_suffix(study, 'ucf101_vispr1')}"
    return _kept(name, here, kept=other, methods=rows, protocols=shown) if shown else None


def rows_of_claims(
    name: str, study: Study, protocol: str, rows: Iterable[str], target_seeds: Sequence[int], kept: str
) -> pd.DataFrame | None:
    """These rows of a table's other group of columns, over the claims' replicates whose records are at hand; nothing is
    trained. It is written as csv and LaTeX; its records are among those of the claims.

    Args:
        protocol: the group, a name of ``protocols.PROTOCOLS``.
        target_seeds: as for ``open_notebook``.
        kept: the file name of the table.

    Returns:
        None where no replicate has all of the rows.
    """
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    found = tables.at_hand(name, study.profile.name, protocol, REPLICATES, methods=rows, **changes)
    if not found:
        print("no records of the claims' replicates")
        return None
    table = tables.table(name, *found, methods=rows)
    table_text.save_table(table, study.profile.name, kept)
    return table


def further_rows(
    name: str, study: Study, rows: Iterable[str], kept: str, *, train: bool,
    metrics: Mapping[str, str] = tables.METRICS,
) -> pd.DataFrame | None:  # fmt: skip
    """Further rows of a table beside raw data and SPAct, those that are trained already; written and kept like
    ``replicated_table``. What is missing is named, with the minutes of training that it would take, about.

    Args:
        kept: what is added to the table's name in file names.
        train: also train what is missing.
        metrics: as for ``tables.table``.
    """
    here = study if train else tables.reading(study)
    here.check(rows)  # of a reading one, names alone: nobody's weights are asked for by rows that are not trained
    beside = ["raw", "spact"]
    missing = [row for row in rows if not train and not tables.is_at_hand(name, here, methods=[*beside, row])]
    shown = [row for row in rows if row not in missing]
    print("here:", "; ".join(map(tables.label, shown)) or "none yet")
    if missing:
        asked = [spec for row in missing for spec in plan.asked(here, row)]
        _tell_not_run(study, here, asked, map(tables.label, missing))
    kept += _suffix(study, TABLE_PROTOCOLS.get(name, ("ucf101_vispr1",))[0])
    return _kept(name, here, kept=kept, methods=[*beside, *shown], metrics=metrics) if shown else None


def other_targets(
    name: str, study: Study, protocol: str, replicates: Iterable[Sequence[int]], target_seeds: Sequence[int], *,
    train: bool,
) -> pd.DataFrame | None:  # fmt: skip
    """A table as the profile's other f'_T and f'_B read it (claim K14), of the same anonymizers, over this study and
    the other replicates where that is at hand; written and kept like ``replicated_table``.

    Args:
        protocol: as ``replicates`` and ``target_seeds`` of ``replicated_table``.
        train: also train what is missing of this study.

    Returns:
        None where it is at hand for no replicate.
    """
    p, here, rows = study.profile, study if train else tables.reading(study), TABLES[name]
    others, read, found = (p.other_target_f_T, p.other_target_f_B), None, []
    changed = f"f'_T {others[0]} for {p.target_f_T}, f'_B {others[1]} for {p.target_f_B}"
    with nullcontext() if train else missing_left_out():
        read = here.read_by(*others, rows)
    if read is None:
        print(f"not run: {changed}; nor are the rows that they would read")
    elif train or tables.is_at_hand(name, read):
        found = [read]
    else:
        chosen = [(read.method(row), target) for row in rows for target in read.protocol.targets]
        asked = [read.score_spec(method, target, seed) for method, target in chosen for seed in p.target_seeds]
        _tell_not_run(study, here, asked, [f"{changed}, in {tables.replicate(study)}"])
    known = _others(name, study, protocol, replicates, target_seeds)
    found += [each for each in (one.read_by(*others, rows) for one in known) if tables.is_at_hand(name, each)]
    if not found:
        return None
    print(f"read by {changed}, in: {'; '.join(map(tables.replicate, found))}")
    return _kept(name, *found, kept=f"other_targets{_suffix(study, 'ucf101_vispr1')}")


def show_omegas(
    study: Study, omegas: Mapping[str, Iterable[float]], name: str, *, train: bool
) -> dict[str, pd.DataFrame]:
    """Curves over omega (``tables.omega_curve``), printed, written and kept; what is missing is named with the minutes
    of training that it would take. SPAct's always has the profile's grid.

    Args:
        omegas: method -> further omegas.

    Returns:
        Method -> its curve; one without a point is left out.
    """
    curves: dict[str, pd.DataFrame] = {}
    missing: list[str] = []
    asked: list[Spec] = []
    for method, more in omegas.items():
        always = study.profile.omegas if method == "spact" else ()
        curves[method] = tables.omega_curve(study, more, always=always, train=train, method=method)
        not_run = [omega for omega in more if omega not in curves[method].index]
        missing += [f"{tables.label(method)} omega {omega:g}" for omega in not_run]
        asked += plan.of_omegas(study, method, not_run)
    if missing:
        _tell_not_run(study, study, asked, missing)
    curves = {method: curve for method, curve in curves.items() if len(curve)}
    table = pd.concat({tables.label(method): curve for method, curve in curves.items()}, names=["method"])
    records = [study.store.used[key] for key in sorted({key for keys in table["parts"] for key in keys})]
    minutes, hardware = f"{tables.minutes_of(records):.1f}", tables.hardware_of(records)
    text = table.drop(columns=["parts", *FAULTS]).map("{:.1f}".format).assign(minutes=minutes, hardware=hardware)
    note = f"One replicate; minutes of training of all omegas together: {minutes}. Hardware: {hardware}."
    table_text.save_text(text, study.profile.name, name, note, left_out=left_out(table))
    tables.keep_used(name, study)
    print("\n".join([text.drop(columns=["minutes", "hardware"]).to_string(), *left_out(table)]))
    return curves


def games(study: Study, specs: Mapping[str, AnonymizerSpec]) -> pd.DataFrame:
    """How well f_B did its task before the game and how well it still does at the end, from records.

    Returns:
        A row per method: L_B at the end of f_B's initialisation and of the game (step 2, means over the last steps),
        each in percent of its uninformative value ("–": it has none); L_T at the end.
    """
    found = {}
    for method, spec in specs.items():
        start, end = (study.store.run(each).metrics for each in (spec.f_B, spec))
        # Batches may differ.
        nothing = uninformative_loss(spec.f_B, spec.f_B.schedule.batch), end["L_B_uninformative"]
        share = [f"{100 * each['L_B'] / of:.0f}" if of else "–" for each, of in zip((start, end), nothing, strict=True)]
        found[tables.label(method)] = [*share, f"{end['L_T']:.2f}"]
    columns = ["L_B before the game, %", "L_B at its end, %", "L_T at its end"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def _tell_not_run(study: Study, here: Study, specs: Iterable[Spec], what: Iterable[object]) -> None:
    # What both have used so far says how long each kind of training takes; a store of its own keeps it out of records.
    known = tables.reading(study)
    known.store.used = study.store.used | here.store.used
    minutes = plan.minutes(known, specs)
    about = "" if math.isnan(minutes) else f", about {minutes:.0f} minutes of training"
    how = "this notebook's TRAIN parameters" if _is_own(study) or suffix(study) else "spact reproduce --full"
    print(f"not run{about} ({how}):", "; ".join(map(str, what)))


def _is_own(study: Study) -> bool:
    return any(is_own(role.dataset) for role in study.protocol.roles)


def _suffix(study: Study, default: str) -> str:
    """``suffix`` by what the study itself knows of its protocol."""
    own = study.protocol
    names = [name for name, known in PROTOCOLS.items() if known == own]
    return suffix(study, (names or [f"{own.action.dataset}:{own.action.task}/{own.privacy.task}"])[0], default)


def _others(
    name: str, study: Study, protocol: str, replicates: Iterable[Sequence[int]], target_seeds: Sequence[int],
    methods: Iterable[str] = (),
) -> list[Study]:  # fmt: skip
    """``tables.at_hand`` of the replicates but this study."""
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    pairs = [pair for pair in replicates if list(pair) != [study.profile.draw, study.seed]]
    return tables.at_hand(name, study.profile.name, protocol, pairs, methods=methods, **changes)


def _kept(name: str, *studies: Study, kept: str, **shown: object) -> pd.DataFrame:
    table, file = tables.table(name, *studies, **shown), f"{name}_{kept}"
    table_text.save_table(table, studies[0].profile.name, file)
    tables.keep_used(file, *studies)
    return table
