"""Figures: arrays, logged rows and tables in, (fig, ax) out. The same method has the same colour everywhere."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spact_lib.errors import UserError
from spact_lib.files import atomic_path
from spact_lib.methods import METHODS
from spact_lib.paths import runs_root
from spact_lib.tables import label

# Okabe and Ito's palette, told apart with any colour vision. Families share a colour and differ by their markers. What
# is not chosen here has the ablations' colour, and of its colour the next marker that no other row has.
COLOURS = {
    "raw": "#000000",
    "identity": "#56B4E9",
    "downsample_2x": "#F0E442",
    "downsample_4x": "#E69F00",
    "obf_blackening": "#009E73",
    "obf_strong_blur": "#009E73",
    "obf_weak_blur": "#009E73",
    "downsample_2x_up": "#F0E442",
    "downsample_4x_up": "#E69F00",
    "noise_features": "#009E73",
    "supervised": "#0072B2",
    "spact": "#D55E00",
    "spact_stills": "#D55E00",
    "spact_plus": "#D55E00",
    "spact_clamped": "#D55E00",
    "tedspad": "#D55E00",
}
MARKERS = {
    "downsample_2x_up": "^",
    "downsample_4x_up": "^",
    "noise_features": "D",
    "spact_stills": "s",
    "spact_plus": "P",
    "spact_clamped": "v",
    "tedspad": "^",
    "r2plus1d_f_T": "d",
    "mc3_f_T": "h",
    "obf_blackening": "s",
    "obf_strong_blur": "^",
    "obf_weak_blur": "v",
    "spact": "*",
    "weights_1_1": "8",
    "other_stage_f_T": "H",
    "on_raw": "*",
    "no_f_B": "X",
    "frozen_f_B": "P",
    "spatiotemporal_f_B": "D",
    "more_than_64_frames": ">",
    "less_than_8_frames": "<",
    "moco": "s",
    "rotnet": "p",
    "smaller_f_B": "v",
    "larger_f_B": "^",
}
SHAPES = (*"osD^vPX*<>dph8H", *((points, 1, 0) for points in (4, 6, 3, 8, 7)))  # the last ones are stars
SPLIT_COLOURS = {"train": "#0072B2", "val": "#E69F00", "test": "#D55E00"}
SPLIT_MARKERS = {"train": "o", "val": "^", "test": "D"}  # for those who print in gray
OTHER_METHOD = "#CC79A7"  # ablations
REFERENCE = "#777777"  # chance lines, uninformative values
DPI = 80  # committed notebooks must stay small
SMALL = 11  # legends, and texts of which there are many
CHARACTER = 0.11  # mean width in inches


@contextmanager
def _text(**settings: float) -> Iterator[None]:
    """As ``plt.rc_context``, which would give back all settings: also that a notebook's figures are shown
    (``interactive``), which its backend turns on while it draws the first one."""
    before = {key: plt.rcParams[key] for key in settings}
    plt.rcParams.update(settings)
    try:
        yield
    finally:
        plt.rcParams.update(before)


READABLE = _text(**{"font.size": 13, "legend.handlelength": 2.8})  # every figure is, at half the size, too


def colour(method: str) -> str:
    """The colour of a method."""
    return COLOURS.get(method, OTHER_METHOD)


def marker(method: str) -> str | tuple[int, int, int]:
    """The marker of a method; with its colour it is unique among the methods of ``METHODS`` while ``SHAPES`` last."""
    if method in MARKERS or method not in METHODS:
        return MARKERS.get(method, "o")
    family = [name for name in METHODS if colour(name) == colour(method)]
    chosen = {MARKERS[name] for name in family if name in MARKERS}
    free = [shape for shape in SHAPES if shape not in chosen]
    return free[[name for name in family if name not in MARKERS].index(method) % len(free)]


def new_axes(width: float, height: float, columns: int = 1) -> tuple[Figure, np.ndarray]:
    fig, axes = plt.subplots(1, columns, figsize=(width, height), dpi=DPI, layout="constrained", squeeze=False)
    return fig, axes[0]


def place(profile: str, name: str) -> Path:
    """Where a figure is saved: ``figures/<profile>/<name>.png`` of the store."""
    return runs_root() / "figures" / profile / f"{name}.png"


def save(fig: Figure, profile: str, name: str) -> None:
    """Write a figure to its place, and beside it as SVG for slides and papers.

    It returns nothing: the last value of a notebook's cell is shown, and a path is one machine's.
    """
    with atomic_path(place(profile, name)) as temporary:
        fig.savefig(temporary, dpi=2 * DPI, bbox_inches="tight")
    # Without a salt and with a date every run would write other bytes.
    with atomic_path(place(profile, name).with_suffix(".svg")) as temporary, plt.rc_context({"svg.hashsalt": name}):
        fig.savefig(temporary, dpi=2 * DPI, bbox_inches="tight", metadata={"Date": None})


def enlarge(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (n, h, w, 3) -> uint8 (n, height, width, 3), pixels repeated: a low resolution is shown as what it is."""
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), frames.shape[1:3], strict=True))
    return frames[:, rows][:, :, columns]


@READABLE
def frame_grid(
    rows: Mapping[str, np.ndarray], *, captions: Sequence[str] = (), title: str = "", side: int = 64,
    notes: Sequence[str] = (),
) -> tuple[Figure, Axes]:  # fmt: skip
    """Strips of frames, one above the other, the same moments in one column.

    Args:
        rows: name (of a method, or any text) -> uint8 (n, h, w, 3), the same n; sizes and shapes may differ.
        captions: one for each column.
        side: height in pixels that a frame is shown at.
        notes: one for each row, to the right of it.

    Raises:
        UserError: no rows, or rows of different lengths.
    """
    counts = {len(frames) for frames in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise UserError(f"a strip needs rows with the same number of frames, got {[len(f) for f in rows.values()]}")
    gap, n = max(2, side // 16), counts.pop()
    widths = [round(side * frames.shape[2] / frames.shape[1]) for frames in rows.values()]
    width = max(widths)  # of a column
    canvas = np.full((len(rows) * (side + gap) - gap, n * (width + gap) - gap, 3), 255, np.uint8)
    for r, (frames, own) in enumerate(zip(rows.values(), widths, strict=True)):
        for c, frame in enumerate(enlarge(frames, side, own)):
            canvas[r * (side + gap) :, c * (width + gap) + (width - own) // 2 :][:side, :own] = frame
    names = [fill(label(name), 17, break_long_words=False) for name in rows]
    margin = 0.2 + CHARACTER * max(len(line) for name in names for line in name.split("\n"))
    height = 0.35 + canvas.shape[0] / 80 + 0.3 * bool(title) + 0.3 * bool(captions)
    fig, (ax,) = new_axes(margin + canvas.shape[1] / 80, height)
    ax.imshow(canvas, interpolation="nearest")
    ax.set_yticks([r * (side + gap) + side / 2 for r in range(len(rows))], names)
    ax.set_xticks([c * (width + gap) + width / 2 for c in range(len(captions))], captions)
    for r, note in enumerate(notes):
        beside = canvas.shape[1] + 2 * gap, r * (side + gap) + side / 2
        ax.annotate(fill(note, 17), beside, va="center", annotation_clip=False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title, parse_math=False)
    return fig, ax


SHEET_COLUMNS = 6


@READABLE
def contact_sheet(
    frames: Sequence[np.ndarray], captions: Sequence[str], *, title: str = ""
) -> tuple[Figure, np.ndarray]:
    """One frame per item with its labels beneath.

    Args:
        frames: uint8 (h, w, 3) each.
        captions: text for each, a line break where one is wanted.
    """
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    height = -(-len(frames) // SHEET_COLUMNS)
    size = (1.75 * SHEET_COLUMNS, height * (1.4 + 0.2 * lines) + 0.4 * bool(title))
    fig, axes = plt.subplots(height, SHEET_COLUMNS, figsize=size, dpi=DPI, layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, frame, caption in zip(axes.flat, frames, captions, strict=False):
        ax.imshow(frame)
        ax.text(0.5, -0.04, caption, transform=ax.transAxes, ha="center", va="top", fontsize=SMALL, parse_math=False)
    if title:
        fig.suptitle(title, parse_math=False)
    return fig, axes


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """Running mean over the last ``window`` values, or as many as there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


LOSS_WINDOW = 25  # steps that a loss is averaged over


def loss_curve(ax: Axes, rows: Sequence[Mapping[str, float]], name: str, text: str, *, colour: str = "#000000") -> None:
    """One logged value over the steps: thin as logged, thick as its running mean."""
    logged = [(row["step"] + 1, row[name]) for row in rows if name in row]
    if not logged:
        raise UserError(f"nothing is logged under {name!r}; there are: {', '.join(sorted(set().union(*rows)))}")
    steps, values = zip(*logged, strict=True)
    ax.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    ax.plot(steps, smoothed(values, LOSS_WINDOW), color=colour, linewidth=1.8, label=text)
    ax.set_xlabel("step")
    ax.spines[["top", "right"]].set_visible(False)


LoggedValue = tuple[Sequence[Mapping[str, float]], str, float | None]  # rows, name of the value, reference or None


@READABLE
def initialisation_curves(runs: Mapping[str, LoggedValue]) -> tuple[Figure, np.ndarray]:
    """One logged value of several runs side by side, title -> run, each with its reference as a dashed line."""
    fig, axes = new_axes(4.1 * len(runs), 3.4, len(runs))
    for ax, (title, (rows, name, reference)) in zip(axes, runs.items(), strict=True):
        loss_curve(ax, rows, name, name)
        if reference is not None:
            ax.axhline(reference, color=REFERENCE, linestyle="--", linewidth=1)
        ax.set_ylim(bottom=0)
        ax.set_title(title, fontsize="medium")
    return fig, axes


@READABLE
def training_curves(rows: Sequence[Mapping[str, float]], *, uninformative: float | None) -> tuple[Figure, np.ndarray]:
    """The minimax game: L_T, L_B beside its uninformative value, and the spread that shows a collapse.

    Args:
        rows: logged by ``minimax.play``.
        uninformative: L_B of an f_B that sees nothing (log(2N - 1) for NT-Xent); None: not known.
    """
    fig, (left, middle, right) = new_axes(11.5, 4, 3)
    for ax, name in ((left, "L_T"), (middle, "L_B")):
        loss_curve(ax, rows, f"{name}_step1", "step 1 ($f_A$ learns)", colour=REFERENCE)
        loss_curve(ax, rows, name, "step 2 ($f_T$ and $f_B$ learn)", colour=colour("spact"))
        ax.set_title(f"${name}$")
    if uninformative is not None:
        middle.axhline(uninformative, color="#000000", linestyle="--", linewidth=1, label="uninformative")
    loss_curve(right, rows, "spread", "spread")
    right.set_ylim(bottom=0)
    right.set_title("spread (0: collapse)")
    # Below the panels: within them it would hide the curves, or the dashed line.
    fig.legend(*middle.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return fig, np.array([left, middle, right])


@READABLE
def class_bars(
    values: Mapping[str, Sequence[float]], classes: Sequence[str], *, reference: Sequence[float] = (), text: str = ""
) -> tuple[Figure, Axes]:
    """Horizontal bars per class for one or several methods, with a mark at each class's own reference (chance).

    Args:
        values: method (or any text) -> one value per class; NaN leaves a gap.
        text: what the axis shows, with its unit.
    """
    n = len(values)
    fig, (ax,) = new_axes(8.5, 0.8 + len(classes) * (0.2 + 0.13 * n))
    places = np.arange(len(classes))
    for k, (name, heights) in enumerate(values.items()):
        ax.barh(places + (k - (n - 1) / 2) * 0.8 / n, heights, 0.8 / n, color=colour(name), label=label(name))
    if len(reference):
        ends = [places - 0.42, places + 0.42]
        ax.vlines(reference, *ends, color=REFERENCE, linewidth=2, label="chance")
    ax.set_yticks(places, classes, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel(text)
    ax.spines[["top", "right"]].set_visible(False)
    if n > 1 or len(reference):
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig, ax


NAMED_CLASSES = 14  # the classes of a larger task are drawn by rank, without their names
TASK_COLUMNS = 3


@READABLE
def label_frequency(report: Mapping) -> tuple[Figure, np.ndarray]:
    """How frequent the classes of a dataset's tasks are, in each split: by name, or by rank where they are many.

    Args:
        report: of ``dataset_report.write_report``.
    """
    tasks = report["tasks"]
    height, width = -(-len(tasks) // TASK_COLUMNS), min(TASK_COLUMNS, len(tasks))
    size = (4 * width, 3.7 * height)
    fig, axes = plt.subplots(height, width, figsize=size, dpi=DPI, layout="constrained", squeeze=False)
    for ax in axes.flat[len(tasks) :]:
        ax.axis("off")
    for ax, (name, task) in zip(axes.flat, tasks.items(), strict=False):
        shares = pd.DataFrame(
            {split: pd.Series(found["positives"]) / found["items"] for split, found in task["splits"].items()}
        )
        shares = 100 * shares.sort_values(shares.columns[0], ascending=False)
        few = len(shares) <= NAMED_CLASSES
        for k, split in enumerate(shares):
            # Each smaller than the one before: equal shares would hide all splits but the last.
            style = {"color": SPLIT_COLOURS[split], "label": split, "markersize": 10 - 3 * k, "linewidth": 5 - 1.7 * k}
            if few:
                ax.plot(shares[split], range(len(shares)), SPLIT_MARKERS[split], **style)
            else:
                occurring = np.sort(shares[split][shares[split] > 0])[::-1]
                ax.plot(range(1, len(occurring) + 1), occurring, **style)
        if few:
            ax.set_yticks(range(len(shares)), shares.index, fontsize=SMALL, parse_math=False)
            ax.invert_yaxis()
            ax.set_xlim(0, 1.08 * np.nanmax(shares))
            ax.set_xlabel("% of the rows")
        else:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("")
            ax.set_xlabel("class, by rank")
            ax.set_ylabel("% of the rows")
        ax.set_title(f"{name} ({task['n_classes']})", fontsize="medium", parse_math=False)
        ax.spines[["top", "right"]].set_visible(False)
    fig.legend(*axes.flat[0].get_legend_handles_labels(), frameon=False, loc="outside right upper")
    fig.suptitle(report["dataset"], parse_math=False)
    return fig, axes


@READABLE
def co_occurrence(task: Mapping, title: str) -> tuple[Figure, Axes]:
    """Of the rows that have one class, how many have another one too; above, how many of all rows have it.

    Args:
        task: a multi-label task of ``dataset_report.write_report``: ``together`` is drawn.
    """
    together = task["together"]
    classes, counts = together["classes"], np.array(together["counts"], float)
    own = counts.diagonal()
    given = np.divide(100 * counts, own[:, None], out=np.full_like(counts, np.nan), where=own[:, None] > 0)
    np.fill_diagonal(given, np.nan)
    shown = pd.DataFrame(np.vstack([100 * own / together["rows"], given]), ["all rows", *classes], classes)
    fig, (ax,) = new_axes(3.6 + 0.5 * len(classes), 2.6 + 0.35 * len(classes))
    sns.heatmap(
        shown, ax=ax, cmap="cividis", vmin=0, annot=True, fmt=".0f", annot_kws={"fontsize": SMALL}, linewidths=0.5,
        cbar_kws={"label": "% that have the column's class"},
    )  # fmt: skip
    ax.axhline(1, color="white", linewidth=4)
    ax.tick_params(axis="x", rotation=40)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    plt.setp([*ax.get_xticklabels(), *ax.get_yticklabels()], parse_math=False)
    ax.set_title(title, parse_math=False)
    return fig, ax


@READABLE
def clip_lengths(reports: Mapping[str, Mapping]) -> tuple[Figure, np.ndarray]:
    """Frames and seconds of the videos of each dataset: median, middle half (thick), 5 to 95 % (thin), extremes (dots).

    Args:
        reports: dataset -> report of ``dataset_report.write_report``.

    Raises:
        UserError: none of them has a video file.
    """
    found = {name: report["media"].get("videos", {}) for name, report in reports.items()}
    found = {name: measures for name, measures in found.items() if measures.get("files")}
    if not found:
        raise UserError(f"no video file was found for {', '.join(reports)}; there are no lengths to draw")
    fig, axes = new_axes(11.5, 1.2 + 0.4 * len(found), 2)
    for ax, measure in zip(axes, ("frames", "seconds"), strict=True):
        for at, measures in enumerate(found.values()):
            q = measures[measure]
            ax.hlines(at, q["5"], q["95"], color=REFERENCE, linewidth=1.5)
            ax.hlines(at, q["25"], q["75"], color=COLOURS["identity"], linewidth=9)
            ax.plot([q["0"], q["100"]], [at, at], ".", color=REFERENCE)
            ax.plot(q["50"], at, "|", color=COLOURS["raw"], markersize=14, markeredgewidth=2.5)
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.set_yticks(range(len(found)), found, parse_math=False)
        ax.set_xlim(left=0)
        ax.set_xlabel(f"{measure} of a video")
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].set_yticklabels([])
    return fig, axes
