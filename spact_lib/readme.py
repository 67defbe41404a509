"""The README's generated blocks, from the committed notebooks and records alone, so that no number is typed by hand."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from spact_lib.attack_readings import minutes, readings, replicated, values
from spact_lib.attack_report import brief
from spact_lib.errors import UserError, missing_left_out
from spact_lib.files import read_json, write_text
from spact_lib.footnotes import distinct
from spact_lib.notebooks import declared_parameters, read_notebook
from spact_lib.paths import NOTEBOOKS, REPOSITORY, committed_notebooks
from spact_lib.results import RECORDS, training_forbidden
from spact_lib.study import open_study
from spact_lib.table_text import gap, markdown, printable, units
from spact_lib.tables import at_hand, reading, table
from spact_lib.verdicts import NOT_RUN

README = REPOSITORY / "README.md"
ATTACKS = NOTEBOOKS / "14_how_hard_did_we_attack.ipynb"
CLIPS = "print(attack_report.of_clips("  # in notebook 14
SENTENCES = "print(verdicts.sentences("  # in notebook 12
PICTURE = NOTEBOOKS / "records" / "methods.png"


def picture() -> str:
    """Frames of methods of Table 1, where a run is committed."""
    text = "One frame of eight test videos, as methods of Table 1 release it"
    return f"![{text}]({PICTURE.relative_to(REPOSITORY).as_posix()})\n\n*{text}.*" if PICTURE.exists() else ""


def results() -> str:
    """Table 1 as notebook 04 shows it by default."""
    given = declared_parameters(NOTEBOOKS / "04_table1.ipynb")
    with training_forbidden():  # the fingerprints of the data, too, then come from the records
        pairs = dict.fromkeys([(given["DRAW"], given["SEED"]), *map(tuple, given["REPLICATES"])])
        studies = at_hand("table1", given["PROFILE"], given["PROTOCOL"], pairs, root=RECORDS / "no-store")
        if not studies:
            return "No run is committed yet: `make reproduce` computes the table."
        shown = table("table1", *studies)
    text = printable(shown)
    columns = [c for c in text.columns if c not in ("target seeds", "replicates", "hardware")]
    rows = [text.index.names + columns, *text[columns].reset_index().to_numpy().tolist()]
    hardware = distinct(shown["hardware"])
    sentences = "\n".join(f"- {sentence}" for sentence in gap(shown).splitlines())
    return "\n".join(
        [*markdown(rows), "", f"Profile {given['PROFILE']}, {hardware}. Units: {units(shown)}", "", sentences]
    )


def _printed(notebook: Path, source: str) -> list[str]:
    """The lines that the one cell with this source has printed in an executed notebook."""
    (cell,) = (cell for cell in read_notebook(notebook).cells if source in cell.source)
    return "".join(output.get("text", "") for output in cell.get("outputs", ())).splitlines()


def claims() -> str:
    """The verdicts that the committed notebook 12 prints, a line each; which claims have no numbers yet."""
    told, left = [], []
    for line in _printed(NOTEBOOKS / "12_claims.ipynb", SENTENCES):
        verdict, _, numbers = line.partition(". ")
        if not re.match(r"K\d+ ", line):  # a note on rows that were left out
            told.append(f"- {line}")
        elif f": {NOT_RUN}" in verdict:
            left.append(verdict.split()[0])
        else:
            told.append(f"- **{verdict}.** {numbers}")
    return "\n".join([*told, *([f"- Not run yet: {', '.join(left)}."] if left else [])])


def attacks() -> str:
    """What notebook 14 says: the tables' attacker beside stronger ones; its sentences on real clips."""
    given, found = declared_parameters(ATTACKS), pd.DataFrame()
    with training_forbidden(), missing_left_out():
        study = open_study(given["PROFILE"], draw=given["DRAW"], seed=given["SEED"], protocol=given["PROTOCOL"])
        studies = replicated(study, given["PROTOCOL"], given["REPLICATES"], ())
        studies = [reading(each, RECORDS / "no-store") for each in studies]
        found = readings(*studies, methods=given["METHODS"])
    if found.empty:
        return "No run is committed yet."
    text = brief(found).reset_index()
    note = (
        f"Privacy cMAP in percent, of single frames (chance {values(found, 'own', 'raw', 'chance').mean():.1f}) but in "
        f"the last column, means over {found['replicate'].nunique()} replicates of profile {given['PROFILE']}. *Of raw "
        "data's*: what lies above chance, by the strongest attackers that both have met, in percent of what they read "
        "of raw data, with a 95 % interval. These "
        f"{len(found) / found['replicate'].nunique():.0f} attackers of a replicate took "
        f"{minutes(found, *studies) / 60:.1f} hours, added up over processes of one thread."
    )
    told = _printed(ATTACKS, CLIPS)
    clips = ["", "Who is it, of three persons in 27 real clips?", "", *(f"- {line}" for line in told)]
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


BLOCKS: dict[str, Callable[[], str]] = {
    "picture": picture,
    "results": results,
    "claims": claims,
    "attacks": attacks,
    "map": notebook_map,
    "benchmarks": benchmarks,
}


def markers(block: str) -> tuple[str, str]:
    """The lines around a generated block."""
    return f"<!-- {block}: written by `spact promote` -->", f"<!-- end of {block} -->"


def filled(text: str) -> str:
    """A README with its blocks written anew.

    Raises:
        UserError: the markers of a block are not there, or not in order.
    """
    for name, block in BLOCKS.items():
        first, last = markers(name)
        if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
            raise UserError(f"the README must hold one line {first!r} and, after it, one line {last!r}")
        head, tail = text.split(first)[0], text.split(last)[1]
        text = f"{head}{first}\n{block()}\n{last}{tail}"
    return text


def update(path: Path = README) -> Path:
    """Write the README's generated blocks."""
    return write_text(path, filled(path.read_text(encoding="utf-8")))
