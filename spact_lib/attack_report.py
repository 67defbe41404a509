"""What ``attack_readings`` found, for readers: tables, sentences, one figure of cMAP over the attacker's strength."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, permutations
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from spact_lib.attack_readings import fair, strongest, table, values
from spact_lib.attacks import ATTACKS, CHANNELS, PANELS, exists
from spact_lib.claims import t_interval
from spact_lib.figures import DPI, READABLE, REFERENCE, SMALL, colour, marker
from spact_lib.footnotes import left_out
from spact_lib.reconstruction import QUALITIES
from spact_lib.table_text import ShownText, save_text
from spact_lib.tables import label

TICKS = {  # below a marker; an attacker that is not here is shown by its name
    "unprepared": "learned\non raw",
    "inverted": "inverts\nfirst",
    "relearned": "inverts,\nlearns",
    "smaller_short": "small,\nshort",
    "short": "short",
    "own": "tables'",
    "enlarged": "frames\nenlarged",
    "long": "long",
    "larger": "large",
    "larger_long": "large,\nlong",
    "float": "float",
    "h264": "H.264",
    "frame": "1 frame",
    "h264_video": "5 frames\nof H.264",
    "views": "5 frames",
    "video": "all\nframes",
    "clips": "3-D",
}
QUALITY_NAMES = {
    f"{metric}{of}": f"{text} of {whose}"
    for metric, text in (("psnr", "PSNR"), ("ssim", "SSIM"))
    for of, whose in (("", "g's output"), ("_released", "the release"), ("_blind", "the mean frame"))
}
NOT_RUN, NONE = "not run", "–"
FEW = 4  # replicates; a t-interval of fewer is often wider than the axis: each is drawn in its place
NO_ORDER = 2.0  # points: methods that are nearer to each other have no order to keep, as in claim K14
EFFORT = (
    "Effort: FLOP of training on the release, as a multiple of the tables' network and steps on the same frames; g of "
    "who inverts is not counted, and who learned on raw data alone has none."
)
OF_NONE = (
    f"{NONE}: no attacker of his own (raw frames need no inverting and have 8 bits; only small ones are enlarged)."
)
NOTE = (
    "Columns of methods: cMAP in percent (top-1 where the privacy task has one label per row), mean over replicates "
    f"with a 95 % t-interval. {EFFORT} Chance: of a random ranking (cMAP), of the most frequent class (top-1). "
    f"{OF_NONE}"
)
OF_FOLDS = (
    "Columns of methods: top-1 in percent over the videos of all folds together, with an exact binomial 95 % interval. "
    f"{EFFORT} Chance: of the most frequent class, mean over folds. {OF_NONE}"
)


def printable(found: pd.DataFrame, methods: Iterable[str], names: Iterable[str]) -> pd.DataFrame:
    """``attack_readings.readings`` as text: a row per attacker of anybody with its chance line, a column per method."""
    cells, rows, methods = table(found), {}, list(methods)
    most = cells["replicates"].max()
    for attack in names:
        here = cells[cells.index.get_level_values("attack") == attack]
        if here.empty and not found.empty:
            continue
        effort, chance = here["effort"].mean(), here["chance"].mean()
        row = {
            "effort": "" if math.isnan(effort) else f"{effort:.2g}",
            "chance": "" if math.isnan(chance) else f"{chance:.1f}",
        }
        for method in methods:
            text = NOT_RUN if exists(attack, method) else NONE
            if (attack, method) in cells.index:
                cell = cells.loc[(attack, method)]
                text = f"{cell['here']:.1f}{_bounds(cell['low'], cell['high'])}{_mark(cell['replicates'], most)}"
            row[_label(found, method)] = text
        rows[ATTACKS[attack].text] = row
    columns = ["effort", "chance", *(_label(found, method) for method in methods)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("attacker")


def reconstructed(found: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """``attack_readings.reconstructions`` as text: a row per method, means over replicates with 95 % t-intervals."""
    rows = {}
    for method in (method for method in methods if exists("inverted", method)):
        each = found[found["method"] == method]
        texts = {name: NOT_RUN for name in QUALITIES}
        if len(each):
            of = {
                name: (each[name].mean(), t_interval(list(each[name])), 1 + name.startswith("ssim")) for name in texts
            }
            texts = {n: f"{mean:.{d}f}{_bounds(*bounds, digits=d)}" for n, (mean, bounds, d) in of.items()}
        rows[label(method)] = {"replicates": str(len(each))} | texts
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["replicates", *QUALITIES]).rename_axis("method")
    return found.rename(columns=QUALITY_NAMES)


def by_attribute(found: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """``attack_readings.average_precisions`` as text: a row per method, a column per attribute, chance first."""
    columns = list(found["attribute"].unique())
    means = found.groupby(["method", "attribute"], sort=False)[["ap", "chance"]].mean()
    rows = {"chance": means["chance"].groupby("attribute").mean()} if len(found) else {}
    rows |= {label(method): means.loc[method, "ap"] if method in means.index else {} for method in methods}
    texts = {name: [_ap(row, column) for column in columns] for name, row in rows.items()}
    return pd.DataFrame.from_dict(texts, orient="index", columns=columns).rename_axis("method")


def _ap(row: Mapping[str, float], attribute: str) -> str:
    """Of an attribute that no test row has there is none."""
    return NOT_RUN if attribute not in row else NONE if math.isnan(row[attribute]) else f"{row[attribute]:.1f}"


def brief(found: pd.DataFrame) -> pd.DataFrame:
    """The tables' attacker of ``readings`` beside stronger ones, as text: a row per method, in percent, means over
    replicates; the share is of what lies above chance, with a 95 % t-interval."""
    best, rows = strongest(found), {}
    line = values(found, "video", "raw", "chance").mean()
    video = "another task: all frames of a video" + ("" if math.isnan(line) else f" (chance {line:.1f})")

    def read(attack: str, method: str) -> str:
        return f"{each.mean():.1f}" if len(each := values(found, attack, method)) else NOT_RUN

    for method in (method for method in _methods(found) if method in best.index):
        share = "100" if method == "raw" else (_share(found, method) or (NOT_RUN,))[0]
        rows[_label(found, method)] = {
            "tables' attacker": read("own", method),
            "strongest by validation": read(best.loc[method, "attack"], method),
            "of raw data's": share,
            video: read("video", method),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def _share(found: pd.DataFrame, method: str) -> tuple[str, str] | None:
    """What the strongest shared attackers read of a method in percent of what they read of raw data, above chance; and
    which they are."""
    alike = strongest(fair(found, method, "raw"))
    if not {method, "raw"} <= set(alike.index):
        return None
    by = alike["attack"]
    pairs = _paired(*(_above(found, by[m], m) for m in (method, "raw")))
    if pairs.empty or pairs["other"].min() <= 0:  # nothing is read of raw data that could be left
        return None
    those = " and ".join(dict.fromkeys(ATTACKS[by[m]].text for m in (method, "raw")))
    return _mean(found, 100 * pairs["one"] / pairs["other"]), those


def _above(found: pd.DataFrame, attack: str, method: str) -> pd.Series:
    """What lies above chance."""
    return values(found, attack, method) - values(found, attack, method, "chance")


def _bounds(low: float, high: float, digits: int = 1, sign: str = "") -> str:
    return "" if math.isnan(low) else f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _mark(replicates: int, most: int) -> str:
    return "" if replicates == most else f" ({replicates:g})"


def _methods(found: pd.DataFrame) -> list[str]:
    return list(found["method"].unique())


def _label(found: pd.DataFrame, method: str) -> str:
    return label(method, next(iter(found.loc[found["method"] == method, "boxes"]), ""))


class Shown(ShownText):
    """A table of attackers as a notebook shows it, SPAct's column marked."""

    def __init__(self, found: pd.DataFrame, methods: Iterable[str], names: Sequence[str]):
        text = printable(found, methods, names)
        super().__init__(text, " ".join([_note(found, text, names), *left_out(found)]), "attacks", _in_html)


def _in_html(styler: Styler) -> Styler:
    ours = [column for column in styler.columns if column == label("spact")]
    return styler.set_properties(subset=ours, **{"font-weight": "bold"})


def _note(found: pd.DataFrame, text: pd.DataFrame, names: Sequence[str]) -> str:
    """What the columns of the printable table are, and who is not in it."""
    counts = table(found)["replicates"]
    most = counts.max() if len(counts) else 0
    fewer = "" if (counts == most).all() else "; of a cell with fewer, their number is in brackets"
    nowhere = [ATTACKS[name].text for name in names if ATTACKS[name].text not in text.index]
    unused = [f"Not run on anything: {'; '.join(nowhere)}."] if nowhere else []
    head = [f"Replicates: {most:g}{fewer}.", NOTE]
    if "n" in found:  # of ``attack_readings.fold_readings``
        head = [f"Videos: {found['n'].max():g}." if len(found) else "", OF_FOLDS]
    return " ".join([*filter(None, head), *unused])


def save(found: pd.DataFrame, methods: Iterable[str], names: Sequence[str], profile: str, name: str) -> Path:
    """Write the printable table as csv and LaTeX (``table_text.save_text``); the path of the csv."""
    text = printable(found, methods, names)
    return save_text(text, profile, name, _note(found, text, names), said=(), left_out=left_out(found))


def _of_full_size(found: pd.DataFrame) -> pd.DataFrame:
    """``found``, where a method makes frames small with the attacker who enlarges them in the place of the tables': all
    others do, too, and only so do they differ in one respect."""
    small = found["method"].map(lambda method: exists("enlarged", method)).astype(bool)
    return found[~(small & (found["attack"] == "own"))].replace({"attack": {"enlarged": "own"}})


def _tick(attack: str, panel: str, effort: float) -> str:
    text = "8-bit" if attack == "own" and panel == CHANNELS else TICKS.get(attack, attack)
    return text if math.isnan(effort) or effort == 1 else f"{text}\n{effort:.2g} x"


@READABLE
def curves(found: pd.DataFrame, metric: str = "cMAP") -> Figure:
    """What attackers read, from weak to strong, a panel per question (``attacks.PANELS``), of the methods side by side.

    A line joins neighbours of a chain that were run in the same replicates; hollow: in fewer than others. Bars: 95 %
    intervals; of few replicates each is a small mark instead. Shaded: below chance. All but the first panel have the
    methods with two attackers or more there; the first also has the attackers of one's own, each a chain of one.
    ``metric`` is what ``here`` counts.
    """
    panels, shown = {}, {}
    placed = {name for chains in PANELS.values() for chain in chains for name in chain}
    own = tuple((name,) for name in found["attack"].unique() if name not in placed)
    for at, (title, chains) in enumerate(PANELS.items()):
        chains += own if at == 0 else ()
        here = _of_full_size(found) if title == CHANNELS else found
        here = here[here["attack"].isin(sum(chains, ()))]
        if any(panels.values()):
            here = here[here.groupby("method")["attack"].transform("nunique") > 1]
        present = [[name for name in chain if name in set(here["attack"])] for chain in chains]
        panels[title], shown[title] = [chain for chain in present if chain], here
    first, *others = (title for title, chains in panels.items() if chains)
    widths = [len(sum(panels[title], [])) + 0.6 for title in others]
    fig = plt.figure(figsize=(12, 9.5 if others else 5.5), dpi=DPI, layout="constrained")
    grid = fig.add_gridspec(1 + bool(others), 1)
    axes = {first: fig.add_subplot(grid[0])}
    if others:
        below = grid[1].subgridspec(1, len(others), width_ratios=widths)
        axes |= {title: fig.add_subplot(below[at]) for at, title in enumerate(others)}
    for title, ax in axes.items():
        _panel(ax, shown[title], title, panels[title], found["replicate"].nunique())
        ax.set(title=title, ylim=(0, 102))  # marks at 100 % whole
        ax.spines[["top", "right"]].set_visible(False)
    for ax in [axes[first], *(axes[title] for title in others[:1])]:
        ax.set_ylabel(f"privacy read: {metric} %")
    axes[first].set_xlabel(
        "… x: FLOP of training, as a multiple of the tables' attacker on the same frames", fontsize=SMALL
    )
    handles = axes[first].get_legend_handles_labels()
    fig.legend(*handles, frameon=False, fontsize=12, loc="outside lower center", ncols=4)
    return fig


def _panel(ax: Axes, found: pd.DataFrame, title: str, chains: Sequence[Sequence[str]], replicates: int) -> None:
    cells, methods, places = table(found), _methods(found), {}
    for at, chain in enumerate(chains):
        places |= {name: len(places) + k + 0.35 * at for k, name in enumerate(chain)}
    chance = cells["chance"].groupby(level="attack").mean().reindex(list(places))
    ends = [x + side for x in places.values() for side in (-0.5, 0.5)]
    ax.plot(ends, chance.repeat(2), ":", color=REFERENCE, linewidth=2, label="chance")
    ax.fill_between(ends, chance.repeat(2), color=REFERENCE, alpha=0.12, linewidth=0)
    step = min(0.11, 0.8 / max(1, len(methods)))
    for k, method in enumerate(methods):
        aside, ours = (k - (len(methods) - 1) / 2) * step, method == "spact"
        style = {"color": colour(method), "zorder": 4 + ours}
        each = {name: values(found, name, method) for name in places if (name, method) in cells.index}
        for chain in chains:
            for one, other in pairwise(name for name in chain if exists(name, method)):
                if one in each and other in each and set(each[one].index) == set(each[other].index):
                    ends_here = [places[one] + aside, places[other] + aside], [each[one].mean(), each[other].mean()]
                    ax.plot(*ends_here, "-", linewidth=2.5 if ours else 1.5, **style)
        for name, here in each.items():
            x, cell = places[name] + aside, cells.loc[(name, method)]
            if 1 < len(here) < FEW:  # no line joins them: it would look like an interval, which is far wider
                ax.plot([x] * len(here), here, "_", markersize=9, markeredgewidth=1.6, **style)
            else:
                ax.vlines(x, cell["low"], cell["high"], linewidth=1.4, **style)
            hollow = len(here) < replicates
            ax.plot(
                x, cell["here"], marker=marker(method), linestyle="", markersize=15 if ours else 9,
                color=colour(method), zorder=6 + ours, markerfacecolor="white" if hollow else colour(method),
                markeredgewidth=1.6 if hollow else 0.7, markeredgecolor=colour(method) if hollow else "#333333",
            )  # fmt: skip
        ax.plot(
            [], [], marker=marker(method), linestyle="", markersize=15 if ours else 9, color=colour(method),
            markeredgecolor="#333333", markeredgewidth=0.7, label=_label(found, method),
        )  # fmt: skip
    effort = cells["effort"].groupby(level="attack").mean()
    ax.set_xticks(list(places.values()), [_tick(name, title, effort[name]) for name in places], fontsize=12)
    ax.set_xlim(ends[0], ends[-1])


def _paired(one: pd.Series, other: pd.Series) -> pd.DataFrame:
    """Values of the replicates that have both."""
    return pd.concat([one, other], axis=1, join="inner", keys=["one", "other"])


def _mean(found: pd.DataFrame, each: pd.Series, sign: str = "") -> str:
    """Mean with interval, and how many replicates it is of, where these are not all of ``found``."""
    text = f"{each.mean():{sign}.1f}{_bounds(*t_interval(list(each)), sign=sign)}"
    return text.replace("-", "−") + _mark(len(each), found["replicate"].nunique())


def sentences(found: pd.DataFrame) -> str:
    """What the numbers say, one line each, computed from them and from nothing else.

    Differences and shares are of the replicates that have both numbers; in round brackets, how many, where not all do.
    """
    best, lines, most = strongest(found), [], found["replicate"].nunique()

    def read(attack: str, method: str) -> str:
        each = values(found, attack, method)
        text = NOT_RUN if exists(attack, method) else NONE
        return f"{each.mean():.1f}{_mark(len(each), most)}" if len(each) else text

    for method in (method for method in _methods(found) if method in best.index):
        attack, among = best.loc[method]
        how = f"strongest of {among} by validation" if among > 1 else "the only classifier run"
        here, chance = values(found, attack, method), values(found, attack, method, "chance")
        line = (
            f"{_label(found, method)}: learned on raw {read('unprepared', method)}, inverted first "
            f"{read('inverted', method)}, tables' attacker {read('own', method)}, {how} ({ATTACKS[attack].text}) "
            f"{read(attack, method)}, chance {chance.mean():.1f}"
        )
        if method != "raw" and (share := _share(found, method)):
            line += f"; of what is read of raw data above chance, {share[0]} % is left to the strongest ({share[1]})"
        pairs = _paired(values(found, "inverted", method), here)  # validation does not choose him: he learned on raw
        if len(pairs) and (more := pairs["one"] - pairs["other"]).mean() > 0:
            line += f"; who inverts first reads {_mean(found, more)} points more"
        lines.append(line + ".")
    lines += _order(found)
    for one, other, text in (
        ("enlarged", "own", "frames made small and enlarged again, instead of as they are,"),
        ("relearned", "own", "reconstructions to learn on, instead of the release,"),
        ("own", "float", "8-bit frames instead of unrounded ones"),
        ("own", "h264", "8-bit stills instead of H.264"),
        ("views", "h264_video", "8-bit videos instead of H.264"),
        ("views", "frame", "5 frames of a video instead of one"),
        ("video", "frame", "all frames of a video instead of one"),
        ("clips", "views", "clips and a 3-D network instead of 5 frames"),
    ):
        # Of videos the chance line is not that of single frames.
        cells = found if one == "enlarged" else _of_full_size(found)
        pairs = {m: _paired(_above(cells, one, m), _above(cells, other, m)) for m in _methods(found)}
        gains = [
            f"{_label(found, method)} {_mean(found, pair['one'] - pair['other'], '+')}"
            for method, pair in pairs.items()
            if len(pair)
        ]
        if gains:
            lines.append(f"What {text} give the attacker, points: {', '.join(gains)}.")
    return "\n".join(lines)


def of_clips(found: pd.DataFrame) -> str:
    """What is read from clips of one's own, a line per method: by who did not learn on the release, and by who did."""
    lines = []
    for method in _methods(found):
        means = {name: values(found, name, method).mean() for name in found["attack"].unique()}
        means = {name: mean for name, mean in means.items() if not math.isnan(mean)}
        prepared = [mean for name, mean in means.items() if ATTACKS[name].prepared]
        parts = []
        if "unprepared" in means and method != "raw":  # whose release is raw data
            parts.append(f"who learned on raw data alone reads {means['unprepared']:.1f} %")
        if prepared:
            ends = dict.fromkeys(f"{end(prepared):.1f}" for end in (min, max))
            who = "attackers read" if method == "raw" else "those that learned on the release"
            parts.append(f"{who} {' to '.join(ends)} %")
        if parts:
            chance = found.loc[found["method"] == method, "chance"].mean()
            lines.append(f"{_label(found, method)}: {', '.join(parts)}; chance {chance:.1f} %.")
    return "\n".join(lines)


def _order(found: pd.DataFrame) -> list[str]:
    """Whether the strongest attackers put methods in another order than the tables' does."""

    def gap(one: str, other: str, by: Mapping[str, str]) -> pd.Series:
        pair = _paired(values(found, by[one], one), values(found, by[other], other))
        return pair["one"] - pair["other"]

    turned, pairs = [], 0
    for a, b in permutations(_methods(found), 2):
        best = strongest(fair(found, a, b))
        if len(best) == 2 and (best["among"] > 1).all():
            pairs += 1
            by_best, by_own = gap(a, b, best["attack"]), gap(a, b, {a: "own", b: "own"})
            if by_own.mean() < -NO_ORDER and by_best.mean() > NO_ORDER:
                gaps = f"{_mean(found, by_own, '+')}, then {_mean(found, by_best, '+')}"
                turned.append(f"{_label(found, a)} over {_label(found, b)} {gaps}")
    if not pairs:
        return []
    return [
        f"Pairs of methods whose order turns round, from more than {NO_ORDER:g} points one way by the tables' attacker "
        f"to as many the other way by the strongest of several shared ones: {'; '.join(turned) or 'none'}."
    ]
