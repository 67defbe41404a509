"""Fig. 2 and Fig. 3 of the paper as diagrams: networks are boxes, frozen ones dashed; dashed arrows are gradients."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from spact_lib.figures import DPI

# Okabe and Ito's palette: a colour for each network, wherever it is drawn.
NETWORKS = {"$f_A$": "#D55E00", "$f_T$": "#0072B2", "$f_B$": "#009E73", "$g$": "#009E73"}
HALF = 0.46  # of a box's height
DATA, INK, GRADIENT = "#F2F2F2", "#222222", "#CC79A7"


Pair = tuple[float, float]


def _panel(fig: Figure, place: tuple[float, float, float, float], width: Pair, height: Pair) -> Axes:
    ax = fig.add_axes(place)
    ax.set(xlim=width, ylim=height, aspect="equal")
    ax.axis("off")
    return ax


def _box(ax: Axes, x: float, y: float, text: str, *, width: float = 1.5, frozen: bool | None = None) -> None:
    """A box around (x, y): filled for a network, dashed for a frozen one (None: not said), gray for data."""
    ink = NETWORKS.get(text)
    shape = FancyBboxPatch(
        (x - width / 2, y - HALF), width, 2 * HALF, boxstyle="round,pad=0.02,rounding_size=0.12",
        facecolor="white" if frozen else ink or DATA, edgecolor=ink or "#999999", linewidth=2.2 if ink else 1.0,
        linestyle="--" if frozen else "-", zorder=2,
    )  # fmt: skip
    ax.add_patch(shape)
    style = {"ha": "center", "va": "center", "color": "white" if ink and not frozen else INK, "zorder": 3}
    ax.text(x, y + 0.16 * (frozen is not None), text, fontsize=16, **style)
    if frozen is not None:
        ax.text(x, y - 0.28, "frozen" if frozen else "learns", fontsize=13, **style)


def _arrow(
    ax: Axes, start: Pair, end: Pair, *, bend: float = 0.0, gradient: str = "",
    at: Pair = (0, 0), both: bool = False,
) -> None:  # fmt: skip
    """An arrow of data; with ``gradient``, a text at ``at``, dashed: the way that a gradient takes."""
    style = {"color": GRADIENT, "linestyle": (0, (4, 2))} if gradient else {"color": INK}
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="<|-|>" if both else "-|>",
            mutation_scale=16,
            linewidth=1.8,
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=0,
            shrinkB=0,
            zorder=1,
            **style,
        )  # fmt: skip
    )
    ax.text(*at, gradient, ha="center", va="center", fontsize=13, color=INK)


def _step(ax: Axes, title: str, rule: str, learns: tuple[str, ...]) -> None:
    """One step of an iteration: what is frozen in it, and which way the gradients go."""
    ax.text(4.1, 6.5, title, ha="center", fontsize=15, weight="bold", color=INK)
    _box(ax, 0.8, 2.9, "videos", width=1.4)
    _box(ax, 2.9, 2.9, "$f_A$", frozen="$f_A$" not in learns)
    _box(ax, 5.2, 4.5, "$f_T$", frozen="$f_T$" not in learns)
    _box(ax, 4.3, 1.3, "$S_F$", width=0.8)
    _box(ax, 5.9, 1.3, "$f_B$", width=1.3, frozen="$f_B$" not in learns)
    _box(ax, 7.6, 4.5, "$L_T$", width=0.9)
    _box(ax, 7.6, 1.3, "$L_B$", width=0.9)
    _arrow(ax, (1.55, 2.9), (2.1, 2.9))
    _arrow(ax, (3.7, 3.1), (4.4, 4.4), bend=-0.2)
    _arrow(ax, (3.7, 2.7), (4.2, 1.85), bend=-0.2)
    _arrow(ax, (4.75, 1.3), (5.2, 1.3))
    _arrow(ax, (6.0, 4.5), (7.1, 4.5))
    _arrow(ax, (6.6, 1.3), (7.1, 1.3))
    ax.text(4.1, -0.95, rule, ha="center", va="center", fontsize=15, color=INK)
    if "$f_A$" in learns:  # the gradients pass through the frozen networks
        _arrow(ax, (7.6, 5.05), (2.9, 3.5), bend=0.42, gradient="gradient of $L_T$", at=(5.9, 5.95))
        _arrow(ax, (7.6, 0.75), (2.7, 2.3), bend=-0.56, gradient=r"gradient of $-\omega L_B$", at=(6.1, -0.35))
    else:
        _arrow(ax, (7.6, 5.05), (5.2, 5.1), bend=0.35, gradient="gradient of $L_T$", at=(6.4, 5.8))
        _arrow(ax, (7.6, 0.75), (5.9, 0.7), bend=-0.35, gradient="gradient of $L_B$", at=(6.7, 0.05))


def minimax() -> Figure:
    """Fig. 2: one iteration of the game is step 1 on a batch, then step 2 on the next one."""
    fig = plt.figure(figsize=(12, 5.8), dpi=DPI)
    first, second = (_panel(fig, (left, 0, 0.5, 1), (0, 8.2), (-1.2, 6.8)) for left in (0, 0.5))
    _step(first, "Step 1 (Eq. 9), a batch", r"minimise $L_T - \omega L_B$ by $\theta_A$", ("$f_A$",))
    rule = r"minimise $L_T$ by $\theta_T$, and $L_B$ by $\theta_B$"
    _step(second, "Step 2 (Eq. 7, 8), the next batch", rule, ("$f_T$", "$f_B$"))
    return fig


def contrast() -> Figure:
    """Fig. 3: L_B pulls the two frames of a video together and pushes frames of different videos apart."""
    fig = plt.figure(figsize=(12, 4.9), dpi=DPI)
    ax = _panel(fig, (0, 0, 1, 1), (0, 14.8), (0, 6.04))
    for y, name in ((4.1, "i"), (1.3, "j")):
        _box(ax, 1.05, y, f"video $x_{name}$", width=1.9)
        _box(ax, 3.2, y, "$f_A$", width=1.2)
        _box(ax, 4.95, y, "$S_F$", width=0.9)
        _arrow(ax, (2.05, y), (2.55, y))
        _arrow(ax, (3.85, y), (4.45, y))
        for side, prime in ((1, ""), (-1, "'")):
            at = y + 0.64 * side
            _box(ax, 7.8, at, "$f_B$", width=1.2)
            _box(ax, 9.5, at, "$g$", width=0.8)
            _arrow(ax, (5.45, y + 0.15 * side), (7.15, at))
            _arrow(ax, (8.45, at), (9.05, at))
            _arrow(ax, (9.95, at), (10.55, at))
            ax.text(10.9, at, f"$Z_{name}{prime}$", ha="center", va="center", fontsize=19, color=INK)
        _arrow(ax, (11.3, y + 0.64), (11.3, y - 0.64), bend=-0.5, both=True)
        ax.text(11.85, y, "same video:\nagree", ha="left", va="center", fontsize=14, color=INK)
    _arrow(ax, (10.9, 3.05), (10.9, 2.35), both=True)
    ax.text(11.85, 2.7, "different videos:\ndiffer", ha="left", va="center", fontsize=14, color=INK)
    ax.text(6.0, 5.5, "two frames\nof each video", ha="center", va="center", fontsize=14, color=INK)
    ax.text(8.6, 5.65, "shared by all frames", ha="center", va="center", fontsize=14, color=INK)
    return fig
