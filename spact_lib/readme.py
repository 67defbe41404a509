"""The generated blocks of the README and of its further pages: from committed notebooks and records, never typed."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from spact_lib.attack_readings import minutes, readings, replicated, values
from spact_lib.attack_report import brief
from spact_lib.errors import UserError, missing_left_out
from spact_lib.files import read_json, write_text
from spact_lib.footnotes import distinct, left_out
from spact_lib.methods import further_of_paper
from spact_lib.notebooks import REPLICATES, declared_parameters, read_notebook
from spact_lib.paths import NOTEBOOKS, REPOSITORY, committed_notebooks
from spact_lib.results import RECORDS, training_forbidden
from spact_lib.study import Study, open_study
from spact_lib.table_text import gap, markdown, printable, units
from spact_lib.tables import LABELS, at_hand, label, reading, replicate, table, together
from spact_lib.verdicts import NOT_RUN

README = REPOSITORY / "README.md"
BENCHMARKS = REPOSITORY / "benchmarks" / "README.md"
ATTACKS = NOTEBOOKS / "14_how_hard_did_we_attack.ipynb"
CLIPS = "print(attack_report.of_clips("  # in notebook 14
SENTENCES = "print(verdicts.sentences("  # in notebook 12
PICTURE = NOTEBOOKS / "records" / "methods.png"


def picture() -> str:
    """Frames of methods of Table 1, where a run is committed."""
    text = "One frame of eight test videos, as methods of Table 1 release it"
    return f"![{text}]({PICTURE.relative_to(REPOSITORY).as_posix()})\n\n*{text}.*" if PICTURE.exists() else ""


def answer() -> str:
    """What came out, in a few sentences: verdicts, SPAct beside raw and beside its game without f_B, strongest
    attackers."""
    verdicts: dict[str, list[str]] = {}
    for claim, verdict, *_ in _claims():
        verdicts.setdefault({"holds": "hold", "fails": "fail"}.get(verdict, verdict), []).append(claim)
    told = [
        f"{len(claims)} {verdict}" + f" ({'; '.join(claims)})" * (verdict in ("hold", "fail"))
        for verdict, claims in sorted(verdicts.items(), key=lambda item: ("hold", "fail", item[0]).index(item[0]))
    ]
    lines = [f"The paper's claims, tested over replicates: {', '.join(told)}."] if told else []
    if (shown := _table("07_table3.ipynb", "table3", ["raw", "no_f_B", "spact"])) is not None:
        action, cmap = (shown.loc[metric] for metric in ("action top-1", "privacy cMAP"))
        change = {row: action.loc[row, "here"] - action.loc["raw", "here"] for row in ("no_f_B", "spact")}
        lines.append(
            f"SPAct changes the action's top-1 by {change['spact']:+.1f} points and privacy cMAP by "
            f"{-cmap.loc['spact', 'drop']:+.1f} % (raw data {cmap.loc['raw', 'here']:.1f}, chance "
            f"{cmap.loc['raw', 'chance']:.1f}); the same game without f_B by {change['no_f_B']:+.1f} points and "
            f"{-cmap.loc['no_f_B', 'drop']:+.1f} %."
        )
    found = _attackers()[0]
    share = NOT_RUN if found.empty else brief(found)["of raw data's"].get(LABELS["spact"], NOT_RUN)
    if share != NOT_RUN:
        lines.append(f"The strongest attackers read of it {share} % of what they read of raw data above chance.")
    return "\n".join(f"- {line}" for line in lines)


def _table(
    notebook: str, name: str, methods: Iterable[str] = (), *, protocol: str = "", more: Iterable[Sequence[int]] = ()
) -> pd.DataFrame | None:
    """A table over the replicates of a committed notebook (and ``more``) that have it; None: none has."""
    given, methods = declared_parameters(NOTEBOOKS / notebook), [*methods]
    with training_forbidden():  # the fingerprints of the data, too, then come from the records
        pairs = dict.fromkeys([(given["DRAW"], given["SEED"]), *map(tuple, [*given["REPLICATES"], *more])])
        root = RECORDS / "no-store"
        protocol = protocol or given["PROTOCOL"]
        studies = at_hand(name, given["PROFILE"], protocol, pairs, methods=methods, root=root)
        return table(name, *studies, methods=methods) if studies else None


def results() -> str:
    """Table 1 as notebook 04 shows it by default, and the paper's further rows as far as they are committed."""
    shown = _table("04_table1.ipynb", "table1")
    if shown is None:
        return "No run is committed yet: `make reproduce` computes the table."
    further = (_table("04_table1.ipynb", "table1", [row]) for row in further_of_paper("table1"))
    every = together([shown, *(rows.drop("raw", level="method") for rows in further if rows is not None)])
    text = printable(every)
    alike = ["replicates"] * (every["replicates"].nunique() == 1)
    columns = [c for c in text.columns if c not in ("target seeds", "hardware", *alike)]
    rows = [text.index.names + columns, *text[columns].reset_index().to_numpy().tolist()]
    profile, hardware = declared_parameters(NOTEBOOKS / "04_table1.ipynb")["PROFILE"], distinct(every["hardware"])
    sentences = "\n".join(f"- {sentence}" for sentence in gap(shown).splitlines())
    return "\n".join([*markdown(rows), "", f"Profile {profile}, {hardware}. Units: {units(every)}", "", sentences])


def columns() -> str:
    """The other groups of columns of Tables 1 and 2 that the paper has, as far as they are committed; below, of which
    replicates, what was left out, and which groups are missing."""
    methods, rows, notes, missing = ["raw", "supervised", "spact"], [], [], []
    for notebook, name, own in (("04_table1.ipynb", "table1", ()), ("05_table2.ipynb", "table2", ("novel",))):
        for protocol in (*own, *declared_parameters(NOTEBOOKS / notebook)["FURTHER"]):
            found = _table(notebook, name, methods, protocol=protocol, more=() if protocol in own else REPLICATES)
            if found is None:
                missing.append(f"{protocol} of Table {name[-1]}")
                continue
            for metric, each in printable(found).groupby(level="metric", sort=False):
                spact = each.loc[(metric, LABELS["spact"])]
                drop = f"{spact['drop %']} {spact.get('drop interval', '')}".rstrip()
                if spact["paper drop %"] and not metric.endswith("F1"):
                    omega, paper = spact["omega"], spact["paper drop %"]
                    rows.append([name[-1], metric, spact["chance"], *each["here"], omega, drop, paper])
            notes += [f"{protocol} of Table {name[-1]}: {found['which'].iloc[0]}.", *left_out(found)]
    head = ["table", "metric", "chance", *map(label, methods), "SPAct's omega", "SPAct's drop %", "paper's drop %"]
    told = [*notes, *([f"Not committed yet: {', '.join(missing)}."] if missing else [])]
    return "\n".join([*(markdown([head, *rows]) if rows else ()), "", *(f"- {note}" for note in told)]).lstrip()


def _printed(notebook: Path, source: str) -> list[str]:
    """The lines that the one cell with this source has printed in an executed notebook."""
    (cell,) = (cell for cell in read_notebook(notebook).cells if source in cell.source)
    return "".join(output.get("text", "") for output in cell.get("outputs", ())).splitlines()


CLAIM = re.compile(r"(?P<claim>K\d+ .+?): (?P<verdict>[a-z ]+?)(?P<why> \(.*?\))?(?:, no verdict)?\. (?P<numbers>.*)\.")


def _claims() -> list[tuple[str, str, str, str]]:
    """(claim, verdict, why it is no other, numbers) of each claim that the committed notebook 12 gives."""
    lines = _printed(NOTEBOOKS / "12_claims.ipynb", SENTENCES)
    return [found.group("claim", "verdict", "why", "numbers") for line in lines if (found := CLAIM.fullmatch(line))]


def claims() -> str:
    """The verdicts of the committed notebook 12, a row for each condition; below, which claims have no numbers, why a
    verdict is none of the conditions', and what was left out."""
    rows, notes = [["claim", "verdict", "it holds if", "here", "paper"]], []
    for claim, verdict, why, numbers in _claims():
        name = claim.split()[0]
        if verdict == NOT_RUN:
            notes.append(f"{name} was not run.")
            continue
        if why:
            notes.append(f"{name}: {verdict}{why}.")
        for k, each in enumerate(numbers.split("; ")):
            condition, _, rest = each.partition(", effect ")
            here, _, paper = rest.partition(", paper ")
            rows.append([claim * (not k), verdict * (not k), condition.replace("|", "\\|"), here, paper])
    notes += [line for line in _printed(NOTEBOOKS / "12_claims.ipynb", SENTENCES) if not re.match(r"K\d+ ", line)]
    return "\n".join([*(markdown(rows) if len(rows) > 1 else ()), *[""] * bool(notes), *(f"- {x}" for x in notes)])


def _attackers() -> tuple[pd.DataFrame, list[Study]]:
    """What the attackers of notebook 14 read, and of which studies."""
    given = declared_parameters(ATTACKS)
    with training_forbidden(), missing_left_out():
        study = open_study(given["PROFILE"], draw=given["DRAW"], seed=given["SEED"], protocol=given["PROTOCOL"])
        studies = replicated(study, given["PROTOCOL"], given["REPLICATES"], ())
        studies = [reading(each, RECORDS / "no-store") for each in studies]
        return readings(*studies, methods=given["METHODS"]), studies
    return pd.DataFrame(), []


def attacks() -> str:
    """What notebook 14 says: the tables' attacker beside stronger ones; its sentences on real clips."""
    (found, studies), profile = _attackers(), declared_parameters(ATTACKS)["PROFILE"]
    if found.empty:
        return "No run is committed yet."
    text = brief(found).reset_index()
    chance = values(found, "own", "raw", "chance").mean()
    of_method = found.groupby("method")["replicate"].nunique()
    counts = " or ".join(map(str, sorted({*of_method})))
    fewer = ", ".join(label(method) for method in of_method.index[of_method < of_method.max()])
    whole = found.groupby("replicate").size().idxmax()  # with all attackers
    of_whole = found[found["replicate"] == whole]
    hours = minutes(of_whole, *(study for study in studies if replicate(study) == whole)) / 60
    note = (
        f"Privacy cMAP in percent, of single frames (chance {chance:.1f}); in the last column of other attributes, "
        f"those of videos. Means over {counts} replicates of profile {profile}{f' (fewer: {fewer})' * bool(fewer)}. "
        "*Of raw data's*: what lies above chance, by "
        "the strongest attackers that both have met, in percent of what they read of raw data, with a 95 % interval. "
        f"These {len(of_whole)} attackers of a replicate took {hours:.1f} hours, added up over "
        "processes of one thread."
    )
    told = _printed(ATTACKS, CLIPS)
    asked = (
        "Who is it, of three persons in 27 real clips? A third of them, one take of everything, is left out in turn; "
        "f_A and its attackers have learned from the other two thirds alone."
    )
    clips = ["", asked, "", *(f"- {line}" for line in told)]
    rows = markdown([list(text.columns), *text.to_numpy().tolist()])
    return "\n".join([*rows, "", note, *(clips if told else [])])


def notebook_map() -> str:
    """Paper item, notebook, command, minutes of its first run in order, hardware; the sum where all are measured."""
    path = RECORDS / "minutes.json"
    measured = read_json(path) if path.exists() else {"minutes": {}, "hardware": ""}
    minutes, hardware = dict(measured["minutes"]), measured["hardware"]
    parts = ["data", *(path.name for path in committed_notebooks())]
    if all(name in minutes for name in parts):
        minutes["total"] = sum(minutes[name] for name in parts)
    rows = [["paper", "notebook", "command", "minutes", "hardware"]]
    for notebook in committed_notebooks():
        content = read_notebook(notebook)
        title = re.sub(r"^# *\d+ *· *", "", content.cells[0].source.splitlines()[0])
        link = f"[{notebook.stem[:2]} {title}](notebooks/{notebook.name})"
        item = content.metadata.get("spact", {}).get("item", "")
        rows.append([item, link, f"`spact run {notebook.stem[:2]}`", notebook.name, hardware])
    rows.append(["", "drawing the data", "`spact prepare mini --draw 1`", "data", hardware])
    rows.append(["", "**everything, in order**", "`make reproduce`", "total", hardware])
    rows.append(["", "then sweeps, further rows, the claims' replicates", "`spact reproduce --full`", "full", hardware])
    for row in rows[1:]:
        row[3:] = [f"{minutes[row[3]]:.1f}", hardware] if row[3] in minutes else ["not measured yet", ""]
    if "full" not in minutes and (planned := RECORDS / "plan.json").exists():
        found = read_json(planned)
        rows[-1][3:] = [
            f"about {found['minutes']:,}",
            f"one process; an estimate: {found['finished']:,} of its {found['runs']:,} runs were timed",
        ]
    return "\n".join(markdown(rows))


def benchmarks() -> str:
    """What ``spact bench`` measured."""
    from benchmarks import harness

    return harness.text()


PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    README: {
        "answer": answer,
        "picture": picture,
        "results": results,
        "columns": columns,
        "claims": claims,
        "attacks": attacks,
        "map": notebook_map,
    },
    BENCHMARKS: {"benchmarks": benchmarks},
}


def markers(block: str) -> tuple[str, str]:
    """The lines around a generated block."""
    return f"<!-- {block}: written by `spact promote` -->", f"<!-- end of {block} -->"


def filled(page: Path) -> str:
    """The text of a page with its blocks written anew.

    Raises:
        UserError: the markers of a block are not there, or not in order.
    """
    text = page.read_text(encoding="utf-8")
    for name, block in PAGES[page].items():
        first, last = markers(name)
        if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
            raise UserError(f"{page} must hold one line {first!r} and, after it, one line {last!r}")
        head, tail = text.split(first)[0], text.split(last)[1]
        text = f"{head}{first}\n{block()}\n{last}{tail}"
    return text


def update(page: Path) -> Path:
    """Write a page's generated blocks."""
    return write_text(page, filled(page))
