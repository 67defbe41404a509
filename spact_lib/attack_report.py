"""What ``attacks`` found, for readers: a table, sentences, and one figure of cMAP over the attacker's strength."""

import math
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from spact_lib.attacks import ATTACKS, CLASSIFIERS, PANELS, strongest
from spact_lib.figures import REFERENCE, colour, marker
from spact_lib.files import atomic_path, write_text
from spact_lib.paths import runs_root
from spact_lib.result_figures import READABLE
from spact_lib.tables import label

TICKS = {  # below a marker; an attacker that is not here is shown by its name
    "unprepared": "learned\non raw",
    "inverted": "inverts\nfirst",
    "smaller_short": "small,\nshort",
    "short": "short",
    "own": "tables'",
    "long": "long",
    "larger": "large",
    "larger_long": "large,\nlong",
    "float": "float",
    "h264": "H.264",
    "frame": "1 frame",
    "views": "5 frames",
    "video": "all\nframes",
    "clips": "3-D",
}
NO_ORDER = 2.0  # points: methods that are nearer to each other have no order to keep, as in claim K14
NOTE = (
    "Columns of methods: cMAP in percent (top-1 where the privacy task has one label per row), with a 95 % t-interval "
    "over replicates where there are several (binomial over videos where folds are left out). Effort: FLOP of "
    "training, as a multiple of the tables' attacker; none for who did not learn on the release. Chance: of a random "
    "ranking (cMAP), of the most frequent class (top-1)."
)


def printable(found: pd.DataFrame) -> pd.DataFrame:
    """``attacks.table`` as text: a row per attacker, its chance line, a column per method; empty: not at hand."""
    rows = {}
    for attack in found.index.unique("attack"):
        of_attack = found.xs(attack, level="attack")
        effort = of_attack["effort"].mean()
        row = {"effort": "" if math.isnan(effort) else f"{effort:.2g}", "chance": f"{of_attack['chance'].mean():.1f}"}
        for method, cell in of_attack.iterrows():
            bounds = "" if math.isnan(cell["low"]) else f" [{cell['low']:.1f}, {cell['high']:.1f}]"
            row[label(method, cell["boxes"])] = f"{cell['here']:.1f}{bounds}"
        rows[ATTACKS[attack].text] = row
    methods = [label(method, _boxes(found, method)) for method in _methods(found)]
    text = pd.DataFrame.from_dict(rows, orient="index", columns=["effort", "chance", *methods])
    return text.fillna("").rename_axis("attacker")


def _methods(found: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(found.index.get_level_values("method")))


def _boxes(found: pd.DataFrame, method: str) -> str:
    return found.xs(method, level="method")["boxes"].iloc[0]


class Shown:
    """A table of attackers as a notebook shows it."""

    def __init__(self, found: pd.DataFrame):
        self.text = printable(found)
        replicates = sorted(set(found["replicates"].astype(int)))
        self.note = f"Replicates of a cell: {' to '.join(map(str, replicates[:1] + replicates[1:][-1:]))}. {NOTE}"

    def __repr__(self) -> str:
        return f"{self.note}\n{self.text.to_string()}"

    def _repr_html_(self) -> str:
        ours = [column for column in self.text if column == label("spact")]
        styler = self.text.style.set_uuid("attacks").set_properties(subset=ours, **{"font-weight": "bold"})
        return f"{styler.to_html()}<p>{escape(self.note)}</p>"


def save(found: pd.DataFrame, profile: str, name: str) -> Path:
    """Write the printable table to ``tables/<profile>/<name>.csv`` of the store, and as LaTeX beside it."""
    path, text = runs_root() / "tables" / profile / f"{name}.csv", printable(found)
    with atomic_path(path) as temporary:
        text.to_csv(temporary)
    write_text(path.with_suffix(".tex"), text.reset_index().to_latex(index=False, escape=True))
    return path


def _tick(attack: str, panel: str) -> str:
    return "8-bit" if attack == "own" and "float" in PANELS[panel] else TICKS.get(attack, attack)


@READABLE
def curves(found: pd.DataFrame, metric: str = "cMAP") -> Figure:
    """What attackers read, from weak to strong, a line per method, a panel per question (``attacks.PANELS``); shaded:
    below chance; bars: intervals. ``metric`` is what ``here`` counts."""
    present = found.index.unique("attack")
    panels = {title: [name for name in names if name in present] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if len(names) > 1} or dict(list(panels.items())[:1])
    widths = [len(names) + 0.4 for names in panels.values()]
    fig, axes = plt.subplots(
        1, len(panels), figsize=(3.2 + 1.05 * sum(widths), 5), dpi=80, layout="constrained", squeeze=False, sharey=True,
        width_ratios=widths,
    )  # fmt: skip
    for ax, (title, names) in zip(axes[0], panels.items(), strict=True):
        chance = found["chance"].groupby(level="attack", sort=False).mean().reindex(names)
        ax.plot(range(len(names)), chance, ":", color=REFERENCE, linewidth=2, label="chance")
        ax.fill_between(range(len(names)), chance, color=REFERENCE, alpha=0.12, linewidth=0)
        for method in _methods(found):
            rows = found.xs(method, level="method")
            rows = rows.loc[[name for name in names if name in rows.index]]
            first = method == "spact"
            ax.errorbar(
                [names.index(name) for name in rows.index], rows["here"], fmt=f"{marker(method)}-",
                yerr=[rows["here"] - rows["low"], rows["high"] - rows["here"]], color=colour(method),
                markersize=15 if first else 9, markeredgecolor="#333333", markeredgewidth=0.7, zorder=4 + first,
                linewidth=3 if first else 1.8, elinewidth=1, capsize=3, label=label(method, _boxes(found, method)),
            )  # fmt: skip
        ax.set_xticks(range(len(names)), [_tick(name, title) for name in names], fontsize=11)
        ax.set_xlim(-0.4, len(names) - 0.6)
        ax.set_title(title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel(f"privacy read: {metric} %")
    axes[0, 0].set_ylim(0, 100)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, fontsize=11, loc="outside right center")
    return fig


def sentences(found: pd.DataFrame) -> str:
    """What the numbers say, one line each, computed from them and from nothing else."""
    best, here = strongest(found), found["here"]
    lines = []

    def read(attack: str, method: str) -> str:
        return f"{here[attack, method]:.1f}" if (attack, method) in here.index else "not run"

    for method in _methods(found):
        if method not in best.index:
            continue
        attack, chance = best[method], found.loc[(best[method], method), "chance"]
        line = (
            f"{label(method, _boxes(found, method))}: learned on raw {read('unprepared', method)}, inverted first "
            f"{read('inverted', method)}, tables' attacker {read('own', method)}, strongest by validation "
            f"({ATTACKS[attack].text}) {read(attack, method)}, chance {chance:.1f}"
        )
        if method != "raw" and "raw" in best.index:
            share = (here[attack, method] - chance) / (here[best["raw"], "raw"] - chance)
            line += f"; {100 * share:.0f} % of what raw data's strongest reads above chance"
        lines.append(line + ".")
    tried = [name for name in CLASSIFIERS if name in found.index.unique("attack")]
    if "own" in tried and len(tried) > 1 and len(best) > 1:
        by_own = here["own"][best.index]
        by_best = pd.Series({method: here[attack, method] for method, attack in best.items()})
        turned = [
            f"{label(a)} and {label(b)}"
            for a in by_own.index for b in by_own.index
            if by_own[b] - by_own[a] > NO_ORDER and by_best[a] - by_best[b] > NO_ORDER
        ]  # fmt: skip
        lines.append(
            f"Validation chose between {len(tried)} classifiers. Methods more than {NO_ORDER:g} points apart by the "
            "tables' attacker, and as far apart the other way round by the strongest ones: "
            f"{'; '.join(turned) or 'none'}."
        )
    for one, other, text in (
        ("float", "own", "8 bits instead of unrounded frames"),
        ("h264", "own", "8-bit frames instead of H.264"),
        ("video", "frame", "all frames of a video instead of one"),
        ("clips", "views", "clips and a 3-D network instead of 5 frames"),
    ):
        both = [m for m in _methods(found) if (one, m) in here.index and (other, m) in here.index]
        both = [m for m in both if (one, m) != ("float", "raw")]  # raw frames have 8 bits to begin with
        if both:
            a, b = (other, one) if one in ("float", "h264") else (one, other)
            change = [f"{here[a, m] - here[b, m]:+.1f}".replace("-", "−") for m in both]
            named = [f"{label(m, _boxes(found, m))} {points}" for m, points in zip(both, change, strict=True)]
            lines.append(f"What {text} give the attacker, points: {', '.join(named)}.")
    return "\n".join(lines)
