"""Tables as they are read: text, HTML, csv, LaTeX and Markdown; and in sentences, what their numbers say."""

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from spact_lib.files import atomic_path, write_text
from spact_lib.footnotes import distinct, left_out
from spact_lib.methods import METHODS, LearnedMethod
from spact_lib.paper import relative_drop
from spact_lib.paths import runs_root
from spact_lib.tables import LABELS, SAID_BELOW, is_action, label

ENDS = ("low", "high")  # of an interval
LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SEEN = 3  # draws up to this one were looked at while networks, schedules and grids of mini were chosen


def printable(table: pd.DataFrame) -> pd.DataFrame:
    """The same table as text: rounded, methods by their label, an empty cell where there is nothing to say."""

    def text(value: object, digits: int) -> str:
        return "" if pd.isna(value) else f"{round(value, digits) + 0.0:.{digits}f}"  # no "-0.0"

    rows = []
    for (metric, method), row in table.iterrows():
        digits = 3 if metric.endswith("F1") else 1
        cells = {"metric": metric, "method": label(method, row["boxes"])}
        for column in table.columns.drop(["which", *SAID_BELOW]):
            if column.endswith("low"):
                ends = [text(row[column.replace("low", end)], 1 if column == "drop low" else digits) for end in ENDS]
                # A row of one replicate may stand among others of several.
                cells["drop interval" if column == "drop low" else "interval"] = f"[{', '.join(ends)}]" * all(ends)
            elif column in ("here", "chance", "paper"):
                cells[column] = text(row[column], digits)
            elif column in ("drop", "paper drop", "difference", "minutes"):
                cells[column + " %" * column.endswith("drop")] = text(row[column], 1)
            elif not column.endswith("high"):
                cells["target seeds" if column == "seeds" else column] = str(row[column])
        rows.append(cells)
    return pd.DataFrame(rows).set_index(["metric", "method"])


def in_markdown(text: str, which: str = r"[^\w .,/+-]|\b_+|_+\b") -> str:
    """A text from outside, such as a file's name, for Markdown: shown as it is, never HTML, a link or a picture.

    Args:
        which: pattern of what is written as character references, which are text to any reader of Markdown.
    """
    return re.sub(which, lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), text)


def markdown(rows: list[list[str]]) -> list[str]:
    """The lines of a table, its first row the header, with aligned columns: readable as text, too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def csv_as_markdown(path: Path) -> list[str]:
    """The lines of a csv file as a table; the values stay as they were written."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return markdown([list(rows.columns), *rows.to_numpy().tolist()])


def save_table(table: pd.DataFrame, profile: str, name: str) -> Path:
    """``save_text`` of the printable table; the LaTeX says hardware and replicates below it, for the sake of width."""
    text, columns = printable(table), ["target seeds", "replicates", "hardware"]
    said = [f"{column}: {distinct(text[column])}" for column in columns]
    note = f"{'; '.join(said)}. {units(table)}"
    return save_text(text, profile, name, note, columns, left_out(table))


def save_text(
    text: pd.DataFrame, profile: str, name: str, note: str, said: Sequence[str] = ("minutes", "hardware"),
    left_out: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a table of texts to ``tables/<profile>/<name>`` of the store: ``.csv`` (returned) and ``.tex``.

    Args:
        note: below the LaTeX table.
        said: columns that only the csv has, because the note says them.
        left_out: sentences of ``footnotes.left_out``; a column of the csv where there are any.
    """
    path = runs_root() / "tables" / profile / f"{name}.csv"
    with atomic_path(path) as temporary:
        (text.assign(note=" ".join(left_out)) if left_out else text).to_csv(temporary)
    write_text(path.with_suffix(".tex"), latex(text.drop(columns=list(said)), " ".join([note, *left_out])))
    return path


def latex(text: pd.DataFrame, note: str) -> str:
    """A table of texts as LaTeX, SPAct's rows in bold, and a note below it."""
    styler = text.style.apply(_mark_spact, axis=1).format(escape="latex").format_index(escape="latex", axis=0)
    body = styler.format_index(escape="latex", axis=1).to_latex(
        hrules=True, clines="skip-last;data", column_format="l" * text.index.nlevels + "r" * text.shape[1],
        convert_css=True,
    )  # fmt: skip
    escaped = "".join(LATEX.get(letter, letter) for letter in note)
    return f"% needs \\usepackage{{booktabs, multirow}}\n{body}\n\\par\\footnotesize {escaped}\n"


def _mark_spact(row: pd.Series) -> list[str]:
    names = row.name if isinstance(row.name, tuple) else (row.name,)
    return ["font-weight: bold;" if LABELS["spact"] in names else ""] * len(row)


class ShownText:
    """A table of texts as a notebook shows it: HTML with a note below; as plain text where there is no HTML.

    Args:
        name: of the table in the HTML; without one every run has another id, and other bytes.
        style: what the HTML marks.
    """

    def __init__(self, text: pd.DataFrame, note: str, name: str, style: Callable[[Styler], Styler]):
        self.text, self.note, self.name, self.style = text, note, name, style

    def __repr__(self) -> str:
        return f"{self.note}\n{self.text.to_string()}"

    def _repr_html_(self) -> str:
        styler = self.style(self.text.style.format(escape="html").set_uuid(self.name))
        return f"{styler.to_html()}<p>{escape(self.note)}</p>"


class Shown(ShownText):
    """A table as a notebook shows it, SPAct's rows marked."""

    def __init__(self, table: pd.DataFrame):
        note = " ".join([f"Hardware: {distinct(table['hardware'])}.", units(table), *left_out(table)])
        super().__init__(printable(table).drop(columns=["hardware"]), note, "table", _in_html)


def _in_html(styler: Styler) -> Styler:
    styler = styler.format_index(escape="html", axis=0).format_index(escape="html", axis=1)
    return styler.apply(_mark_spact, axis=1).set_table_styles(CSS)


CSS = [
    {"selector": "th.row_heading", "props": "text-align: left; vertical-align: top; white-space: nowrap;"},
    {"selector": "td", "props": "text-align: right; white-space: nowrap;"},
    {"selector": "th.level0", "props": "border-top: 1px solid #999999;"},  # a line above each metric
]

NOTE = (
    "here: mean over target seeds and replicates; drop: relative, from raw; difference: this drop minus the paper's, "
    "in points; chance: of a random ranking (cMAP), of the most frequent class (top-1), of always saying present "
    "(F1, no floor: who says it seldom may fall below); minutes: of training, shared parts, such as the search for "
    "SPAct's omega, counted in every row that needs them."
)
OF_SEVERAL = "interval: 95 %, t, over replicates; "  # in front of ``NOTE``


def units(table: pd.DataFrame) -> str:
    """What the columns of a table are, in sentences."""
    counts = table["classes"].groupby(level="metric", sort=False).first()
    told = "; ".join(f"{metric} {n.replace('; ', ' or ')}" for metric, n in counts.items() if n)
    note = OF_SEVERAL * ("low" in table) + NOTE
    if table["omega"].str.contains("; ").any():
        note += " An omega with several values: different replicates chose different ones."
    return f"{note} Classes with a positive, over which a cMAP is the mean: {told}." if told else note


FROM_RAW = ("spact", "supervised", "identity", "downsample_4x")  # rows that ``gap`` compares with raw


def gap(table: pd.DataFrame) -> str:
    """What the numbers say, one sentence per line, computed from them and from nothing else."""
    metrics: list[str] = []
    for metric in table.index.unique("metric"):  # a column that leaves no row out repeats another one
        if not any(table["here"][metric].equals(table["here"][earlier]) for earlier in metrics):
            metrics.append(metric)
    methods = list(dict.fromkeys(table.index.get_level_values("method")))
    n, seeds = int(table["replicates"].iloc[0]), len(table["seeds"].iloc[0].split())
    which = table["which"].iloc[0]
    lines = [f"Mean of {n} replicate{'s' * (n > 1)}, {seeds} target seed{'s' * (seeds > 1)} each: {which}."]
    if any(f"draw {draw}," in which for draw in range(SEEN + 1)):
        lines[0] += f" Draws up to {SEEN} were seen while this was built."
    if n == 1:
        lines[0] += " One replicate has no interval: another draw or seed may move any number by points."

    def change(metric: str, method: str) -> str:
        row = table.loc[(metric, method)]
        if is_action(metric):
            here = row["here"] - table.loc[(metric, "raw"), "here"]
            paper = row["paper"] - row["paper"] / (1 - row["paper drop"] / 100)  # the raw that its drop is from
            return f"{metric} {_signed(here)} points from raw{_paper(paper)}"
        return f"{metric} {_signed(-row['drop'])} %{_paper(-row['paper drop'])}"

    def less(metric: str, method: str, other: str, unit: str) -> str:
        here, paper = (table.loc[(metric, method), c] - table.loc[(metric, other), c] for c in ("here", "paper"))
        digits = 3 if metric.endswith("F1") else 1
        return f"{metric} {_signed(here, digits)}{unit}{_paper(paper, digits)}"

    for method in (method for method in FROM_RAW if method in methods):
        lines.append(f"{label(method)}: {'; '.join(change(metric, method) for metric in metrics)}.")
    for method in methods:  # the ablations: one thing differs from SPAct
        if isinstance(METHODS[method], LearnedMethod) and method not in FROM_RAW and "spact" in methods:
            parts = [less(metric, method, "spact", " points" * (not metric.endswith("F1"))) for metric in metrics]
            lines.append(f"{label(method)}, less SPAct: {'; '.join(parts)}.")
    privacy = [metric for metric in metrics if not is_action(metric)]
    for metric in (metric for metric in privacy if not metric.endswith("F1")):  # F1 at 0.5 may lie below its line
        if (metric, "spact") not in table.index:
            continue
        raw, spact = table.loc[(metric, "raw")], table.loc[(metric, "spact")]
        if raw["here"] <= raw["chance"]:
            lines.append(f"Raw data's {metric} is not above chance: there is nothing that a method could hide.")
            continue
        lines.append(
            f"Above chance, SPAct leaves {spact['here'] - spact['chance']:.1f} of raw's "
            f"{raw['here'] - raw['chance']:.1f} points of {metric}; down to chance would be "
            f"{_signed(-relative_drop(raw['chance'], raw['here']))} %."
        )
        if (metric, "identity") in table.index:
            start = table.loc[(metric, "identity"), "here"]
            lines.append(f"{metric}, SPAct less the identity row: {_signed(spact['here'] - start)} points")
            if (metric, "no_f_B") in table.index:
                alone = _signed(table.loc[(metric, "no_f_B"), "here"] - start)
                lines[-1] += f"; the row without f_B less the identity row: {alone}, which L_T does alone."
            else:
                lines[-1] += "; Table 3 has the row without f_B, which L_T makes alone."
    largest = table["largest"].groupby(level="method", sort=False).first()
    if told := largest_taken({row: (len(which.split("; ")), n) for row, which in largest.items() if which}):
        lines.append(told)
    return "\n".join([*lines, *left_out(table)])


def largest_taken(counts: Mapping[str, tuple[int, int]]) -> str:
    """A sentence: in how many replicates, of how many, rows took the largest omega or sigma of their grid."""
    told = [f"{label(row)} in {k} of {n}" for row, (k, n) in counts.items()]
    return (
        f"{', '.join(told)} replicates: the largest omega or sigma of the grid was taken. A larger one, which may hide "
        "more, was not tried for this table."
    ) * bool(told)


def _signed(value: float, digits: int = 1) -> str:
    return "n/a" if pd.isna(value) else f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def _paper(value: float | None, digits: int = 1) -> str:
    return "" if pd.isna(value) else f" (paper {_signed(value, digits)})"
