"""Figures of results: the trade-off of Fig. 4, the games beside each other, the claims beside their margins."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from scipy.cluster.hierarchy import fclusterdata

from spact_lib.errors import UserError
from spact_lib.figures import LOSS_WINDOW, READABLE, REFERENCE, SMALL, colour, marker, new_axes, smoothed
from spact_lib.tables import is_action, label


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The methods that no other one beats on both axes, most private first.

    Args:
        points: method -> (privacy leaked, action kept).
    """
    beaten = {a for a, (x, y) in points.items() if any(u < x and v > y for u, v in points.values())}
    return sorted(points.keys() - beaten, key=lambda name: points[name])


def tell_fronts(table: pd.DataFrame, paper: pd.DataFrame) -> None:
    """Print which rows are on the Pareto front, ours and the paper's, where it has any; arguments as of
    ``trade_off``."""
    if table["replicates"].nunique() > 1:
        print("Not all rows here are means over the same replicates.")
    for place, numbers in {"here": table["here"], "paper": paper["paper"]}.items():
        if numbers.empty:
            continue
        points = trade_off_points(numbers)
        front = ", ".join(map(label, pareto_front(points)))
        print(f"Pareto front of {len(points)} rows, {place}: {front or 'none, as a point needs both axes'}")


def trade_off_points(numbers: pd.Series) -> dict[str, tuple[float, float]]:
    """method -> (privacy leaked, action kept), the first metric of each role; rows without a number are left out, all
    where a role has no metric.

    Args:
        numbers: a column of ``tables.table`` or ``tables.of_paper``.
    """
    if len({is_action(metric) for metric in numbers.index.unique("metric")}) < 2:
        return {}
    pairs = numbers.unstack("metric", sort=False)[[*_axes_of(numbers)]].dropna()
    return {method: (x, y) for method, x, y in pairs.itertuples()}


def _axes_of(numbers: pd.Series | pd.DataFrame) -> tuple[str, str]:
    """The first privacy metric and the first action metric."""
    metrics = numbers.index.unique("metric")
    privacy, action = (next((m for m in metrics if is_action(m) == wanted), None) for wanted in (False, True))
    if privacy is None or action is None:
        raise UserError(f"a trade-off needs an action and a privacy metric, not {', '.join(metrics)} alone")
    return privacy, action


@READABLE
def trade_off(
    table: pd.DataFrame, *, curves: Mapping[str, pd.DataFrame] | None = None, paper: pd.DataFrame | None = None
) -> tuple[Figure, np.ndarray]:
    """Privacy leaked against action kept (Fig. 4): the upper left corner is what one wants. Bars: 95 % t-intervals.

    Args:
        table: of ``tables.table``; the first metric of each role is shown.
        curves: method -> ``tables.omega_curve``, drawn as a line.
        paper: of ``tables.of_paper``; drawn beside it where the paper has these metrics.
    """
    privacy, action = _axes_of(table)
    x, y = table.xs(privacy, level="metric"), table.xs(action, level="metric")
    panels = {"here": trade_off_points(table["here"])}
    if paper is not None and {privacy, action} <= set(paper.index.unique("metric")):
        panels["the paper's numbers"] = trade_off_points(paper.loc[[privacy, action], "paper"])
    fig, axes = new_axes(3.5 + 4 * len(panels), 4.8, len(panels))
    for ax, (title, points) in zip(axes, panels.items(), strict=True):
        _mark(ax, points, x, y, bars=title == "here" and "low" in table)
        front = np.array([points[method] for method in pareto_front(points)])
        # Between two rows of the front, what keeps less action than the more private one is beaten.
        ax.step(*front.T, where="post", color=REFERENCE, linewidth=1.4, label="Pareto front", zorder=1)
        # Ours alone: the paper's persons were found by a detector.
        boxes = {x["boxes"].get(method) for method in points if title == "here"} & {"oracle", "marked"}
        if len(panels) > 1 or boxes:
            ax.set_title(f"{title} (obfuscation: {boxes.pop()} boxes)" if boxes else title)
        ax.xaxis.set_major_locator(MaxNLocator(5))  # labels of two decimals would touch
        ax.set_xlabel(f"{privacy} % (lower: more private)")
        ax.spines[["top", "right"]].set_visible(False)
    for curve in (curves or {}).values():
        axes[0].update_datalim(curve[["privacy", "action"]].to_numpy())
    axes[0].autoscale_view()
    axes[0].axvline(x["chance"].iloc[0], color=REFERENCE, linestyle=":", linewidth=1.4, label="chance")
    axes[0].axhline(y["chance"].iloc[0], color=REFERENCE, linestyle=":", linewidth=1.4)
    # An interval of few replicates may be wider than the axis.
    axes[0].set(xlim=np.clip(axes[0].get_xlim(), -2, 102), ylim=np.clip(axes[0].get_ylim(), -2, 102))
    axes[0].set_ylabel(f"{action} % (higher: more useful)")
    enlarged = _enlarge_the_crowded(axes[0], panels["here"], x, y, [*(curves or {}).values()], bars="low" in table)
    for method, curve in (curves or {}).items():
        _omegas(axes[0], enlarged, method, curve)
    known = {text: line for ax in axes for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    marks_first = sorted(known, key=lambda text: known[text].get_linestyle() != "None")
    fig.legend(
        [known[text] for text in marks_first], marks_first, frameon=False, fontsize=SMALL, loc="outside right center"
    )
    return fig, axes


def _mark(ax: Axes, points: Mapping[str, tuple[float, float]], x: pd.DataFrame, y: pd.DataFrame, bars: bool) -> None:
    for method, point in points.items():
        if bars:
            reach = {"xerr": _reach(x.loc[method]), "yerr": _reach(y.loc[method])}
            ax.errorbar(*point, **reach, fmt="none", ecolor=colour(method), elinewidth=1.2, alpha=0.7, capsize=3)
        ax.plot(
            *point, marker=marker(method), linestyle="", markersize=17 if method == "spact" else 10,
            color=colour(method), markeredgecolor="#333333", markeredgewidth=0.7,
            label=label(method), zorder=4,
        )  # fmt: skip


CROWDED = 0.15  # of a panel's side: rows nearer than this are hard to tell from each other
EMPTY = ((0.14, 0.17, 0.83, 0.44), (0.14, 0.17, 0.5, 0.44), (0.46, 0.17, 0.51, 0.44))  # where to look for room


def _enlarge_the_crowded(
    ax: Axes, points: Mapping[str, tuple[float, float]], x: pd.DataFrame, y: pd.DataFrame,
    curves: Sequence[pd.DataFrame], bars: bool,
) -> Axes | None:  # fmt: skip
    """Draw the largest group of rows that lie near each other again, larger, in an empty part of the panel.

    Raw data and identity make no group: that other rows lie there is no finding.

    Returns:
        The enlarged part; None where nothing is crowded, or no part is empty.
    """
    to_panel = ax.transData + ax.transAxes.inverted()
    rows = [name for name in points if name not in ("raw", "identity")]
    if len(rows) < 2:
        return None
    group = fclusterdata(to_panel.transform([points[name] for name in rows]), CROWDED, "distance")
    crowd = np.array([points[name] for name, k in zip(rows, group, strict=True) if k == np.bincount(group).argmax()])
    if len(crowd) < 2 or max(np.ptp(to_panel.transform(crowd), axis=0)) > 0.5:
        return None
    front = np.array([points[method] for method in pareto_front(points)])
    corners = np.array([front[0], *(at for a, b in pairwise(front) for at in ((b[0], a[1]), b))])  # of its steps
    lines = [corners, *(curve[["privacy", "action"]].to_numpy() for curve in curves)]
    drawn = [(*point, *point) for point in points.values()]
    drawn += [(*a, *b) for line in lines for a, b in pairwise(line)]
    if bars:
        drawn += [(x.loc[name, "low"], v, x.loc[name, "high"], v) for name, (_, v) in points.items()]
        drawn += [(u, y.loc[name, "low"], u, y.loc[name, "high"]) for name, (u, _) in points.items()]
    ends = (to_panel.transform(np.reshape(each, (2, 2))) for each in drawn if np.isfinite(each).all())
    taken = [Bbox(np.sort(each, axis=0)) for each in ends]
    empty = (place for place in EMPTY if not any(Bbox.from_bounds(*place).padded(0.04).overlaps(b) for b in taken))
    if (place := next(empty, None)) is None:
        return None
    inset = ax.inset_axes(place)
    _mark(inset, points, x, y, bars)
    inset.step(*front.T, where="post", color=REFERENCE, linewidth=1.4, zorder=1)
    low, high = crowd.min(0), crowd.max(0)
    margin = 0.3 * np.maximum(high - low, 1)
    inset.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    inset.xaxis.set_major_locator(MaxNLocator(4))
    inset.yaxis.set_major_locator(MaxNLocator(4))
    inset.tick_params(labelsize=SMALL)
    ax.indicate_inset_zoom(inset, edgecolor=REFERENCE)
    return inset


def _omegas(ax: Axes, enlarged: Axes | None, method: str, curve: pd.DataFrame) -> None:
    """A curve over omega, of one replicate; each point is named once, in the enlarged part if it lies there, away from
    the curve."""
    ink = colour(method)
    panels = [ax] if enlarged is None else [ax, enlarged]
    for panel in panels:
        panel.plot(
            curve["privacy"], curve["action"], ".-", linewidth=1.6, color=ink, zorder=3,
            label=f"{label(method)} by $\\omega$\n(one replicate)",
        )  # fmt: skip
    beside = [curve["action"].shift(by) for by in (1, -1)]
    above = curve["action"] >= pd.concat(beside, axis=1).mean(axis=1).fillna(curve["action"])
    for omega, point in curve.iterrows():
        at = point["privacy"], point["action"]
        text = next((panel for panel in reversed(panels) if _shows(panel, *at)), ax).annotate(
            f"{omega:g}", at, (0, 14 if above[omega] else -24), textcoords="offset points", ha="center", color=ink,
            zorder=5, arrowprops={"arrowstyle": "-", "color": ink, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 1},
        )  # fmt: skip
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _shows(ax: Axes, x: float, y: float) -> bool:
    return all(low <= value <= high for value, (low, high) in ((x, ax.get_xlim()), (y, ax.get_ylim())))


def _reach(row: pd.Series) -> list[list[float]]:
    return [[row["here"] - row["low"]], [row["high"] - row["here"]]]


@READABLE
def game_curves(runs: Mapping[str, tuple[Sequence[Mapping[str, float]], float | None]]) -> tuple[Figure, np.ndarray]:
    """The games of several methods: L_T and L_B of step 2, L_B as a multiple of its uninformative value.

    Args:
        runs: method -> (rows logged by ``minimax.play``, uninformative L_B or None: the curve of L_B is left out).
    """
    fig, axes = new_axes(11.5, 4.0, 2)
    dashes = defaultdict(lambda: cycle(("-", "--", ":", "-.")))  # of each colour
    for name, (rows, uninformative) in runs.items():
        steps = np.array([row["step"] + 1 for row in rows])
        style = {"color": colour(name), "linestyle": next(dashes[colour(name)]), "linewidth": 1.8}
        style |= {"marker": marker(name), "markevery": (0.1, 0.15)}
        for ax, value, unit in zip(axes, ("L_T", "L_B"), (1.0, uninformative), strict=True):
            if unit is not None:
                ax.plot(steps, smoothed([row[value] for row in rows], LOSS_WINDOW) / unit, **style, label=label(name))
    axes[1].axhline(1, color=REFERENCE, linestyle="--", linewidth=1)
    for ax, title in zip(axes, ("$L_T$", "$L_B$ / its uninformative value"), strict=True):
        ax.set(title=title, xlabel="step")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
    fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=SMALL, loc="outside right center")
    return fig, axes


@READABLE
def claim_intervals(table: pd.DataFrame, looks: Mapping[str, tuple[str, str]]) -> tuple[Figure, Axes]:
    """How far each condition of each claim is from its margin: right of the line it holds. Beside the conditions of a
    claim, in a band, stands its verdict.

    Args:
        table: of ``verdicts.verdicts``.
        looks: verdict -> (colour, marker).
    """
    fig, (ax,) = new_axes(11.5, 1.0 + 0.29 * len(table))
    side = np.where(table["below"], -1, 1)
    places = np.arange(len(table))
    for verdict, (ink, shape) in looks.items():
        rows = ((table["condition verdict"] == verdict) & table["effect"].notna()).to_numpy()
        if not rows.any():
            continue
        mean, low, high = (side[rows] * (table[c] - table["margin"])[rows] for c in ("effect", "low", "high"))
        reach = [mean - np.minimum(low, high), np.maximum(low, high) - mean]
        ax.errorbar(
            mean, places[rows], xerr=reach, fmt=shape, color=ink, markersize=6, linewidth=2, capsize=4, label=verdict
        )  # fmt: skip
    paper = side * (table["paper"] - table["margin"])
    ax.plot(paper, places, "D", color="#000000", fillstyle="none", label="the paper")
    claims = table.index.get_level_values("claim")
    for k, claim in enumerate(claims.unique()):
        of_claim = places[claims == claim]
        first, last = of_claim[0] - 0.5, of_claim[-1] + 0.5
        if k % 2:
            ax.axhspan(first, last, color="#000000", alpha=0.06, linewidth=0, zorder=0)
        verdict = table["verdict"].iloc[of_claim[0]]
        ink = looks[verdict][0] if verdict in looks else REFERENCE
        ax.text(
            1.01, (first + last) / 2, f"{claim} {verdict}", color=ink, va="center", transform=ax.get_yaxis_transform()
        )
    ax.axvline(0, color=REFERENCE, linewidth=1.2)
    ax.set_yticks(places, [f"{claim}  {condition}" for claim, condition in table.index])
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlabel("distance from the margin, points or % (right: on the claim's side)")
    ax.spines[["top", "right"]].set_visible(False)
    fig.legend(frameon=False, fontsize=SMALL, loc="outside lower center", ncols=4, title="each condition")
    return fig, ax
