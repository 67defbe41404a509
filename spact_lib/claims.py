"""The paper's claims as tests (design: a claim is tested, not narrated): paired differences over replicates.

A claim is one or several conditions; a condition is an effect, a number of one replicate, and a margin. It *holds* when
the 95 % t-interval of its mean over replicates lies wholly on the claim's side of the margin, *fails* when on the
other, else it is *inconclusive*. A claim holds when all its conditions do and fails when one does. Of K1 to K6
Holm's method takes a *holds* back that would not stand beside the others. ``verdicts`` collects the scores and gives
the verdicts.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from spact_lib.paper import relative_drop

LEVEL = 0.05


Cell = tuple[str, str, str]  # (setting, method, "action" or "privacy")


@dataclass(frozen=True)
class Scores:
    """Numbers of one replicate, top-1 or cMAP in percent, means over targets.

    A setting is a protocol ("known", "novel", "scene_object", "scenes_wanted"), or "other_targets": the known protocol,
    read by other architectures of f'_T and f'_B. ``chance``: (setting, "action" or "privacy") -> its chance line.
    ``set_aside`` and ``collapsed``: what ``footnotes.faults`` says of them.
    """

    cells: Mapping[Cell, float]
    chance: Mapping[tuple[str, str], float] = field(default_factory=dict)
    set_aside: str = ""
    collapsed: str = ""

    def action(self, method: str, setting: str = "known") -> float:
        """a of a row."""
        return self.cells[setting, method, "action"]

    def cmap(self, method: str, setting: str = "known") -> float:
        """Privacy cMAP of a row: low is good."""
        return self.cells[setting, method, "privacy"]

    def s(self, method: str, setting: str = "known") -> float:
        """s: relative drop of cMAP from raw, in percent."""
        return relative_drop(self.cmap(method, setting), self.cmap("raw", setting))


Effect = Callable[[Scores], float]


@dataclass(frozen=True)
class Condition:
    """True where ``effect`` lies above ``margin``, or below it."""

    effect: Effect
    margin: float = 0.0
    below: bool = False
    both: str = ""  # what this condition and another one of the same effect say together

    def __call__(self, scores: Scores) -> float:
        """The effect's distance from the margin, positive on the claim's side."""
        distance = self.effect(scores) - self.margin
        return -distance if self.below else distance


def within(text: str, difference: Effect, margin: float = 2.0) -> dict[str, Condition]:
    """Equivalence: a difference lies within +- ``margin`` when both of these are true."""
    both = f"{text} within ±{margin:g}"
    return {
        f"{text} > -{margin:g}": Condition(difference, -margin, both=both),
        f"{text} < {margin:g}": Condition(difference, margin, below=True, both=both),
    }


def as_spact(text: str, method: str) -> dict[str, Condition]:
    """A row is equivalent to SPAct on both axes."""
    return within(f"{text}: a - a_SPAct", lambda x: x.action(method) - x.action("spact")) | within(
        f"{text}: cMAP - cMAP_SPAct", lambda x: x.cmap(method) - x.cmap("spact")
    )


def lead(x: Scores, other: str, setting: str) -> float:
    """How far SPAct is from being beaten on both axes by another row: negative where it is."""
    return max(x.action("spact", setting) - x.action(other, setting), x.cmap(other, setting) - x.cmap("spact", setting))


def trade_off(x: Scores, setting: str, others: Iterable[str]) -> float:
    """SPAct's smallest ``lead``: positive when no other row is better on both axes."""
    return min(lead(x, other, setting) for other in others)


def order_kept(score: Callable[[str, str], float], methods: Sequence[str]) -> float:
    """The smallest difference, under other targets, of two rows in the order that the own targets give them.

    Positive when every pair keeps its order. Pairs within ``TIE`` points under the own targets have no order to keep.

    Args:
        score: (method, setting) -> points, such as ``Scores.action``.
    """
    own, other = ({method: score(method, setting) for method in methods} for setting in ("known", "other_targets"))
    pairs = [(a, b) for a in methods for b in methods if own[a] - own[b] > TIE]
    return min((other[a] - other[b] for a, b in pairs), default=0.0)


def trend(values: Sequence[float]) -> float:
    """Slope of a straight line through equally spaced values."""
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, and the conditions under which it is true."""

    text: str
    conditions: Mapping[str, Condition]
    replicates: int = 3  # that a verdict needs
    expected: str = ""  # what is known beforehand about testing it on mini
    # Scores that no condition looks at, by what they are: they tell why, or at what cost (``reasons``). One replicate,
    # mini.
    evidence: Mapping[str, Cell] = field(default_factory=dict)


LABEL_FREE = (
    "raw", "identity", "downsample_2x", "downsample_4x", "obf_blackening", "obf_strong_blur", "obf_weak_blur",
    "noise_features",
)  # fmt: skip
RIVALS = {"Fig. 4": ("novel", (*LABEL_FREE, "supervised")), "Table 1": ("known", LABEL_FREE)}  # of K6
ORDERED = ("raw", "identity", "downsample_2x", "downsample_4x", "supervised", "spact")  # whose order K14 compares
TIE = 2.0  # points

CLAIMS: dict[str, Claim] = {
    "K1": Claim(
        "action is kept", {"a - a_raw > -3": Condition(lambda x: x.action("spact") - x.action("raw"), -3)}, replicates=5
    ),
    "K2": Claim("privacy falls", {"s > 10 %": Condition(lambda x: x.s("spact"), 10)}, replicates=5),
    "K3": Claim(
        "comparable to supervised on known attributes",
        {
            "s - 0.75 s_sup > 0 %": Condition(lambda x: x.s("spact") - 0.75 * x.s("supervised")),
            "a - a_sup > -2": Condition(lambda x: x.action("spact") - x.action("supervised"), -2),
        },
        replicates=5,
    ),
    "K4": Claim(
        "better than supervised on novel attributes and actions",
        {
            "V2: cMAP_sup - cMAP > 0": Condition(lambda x: x.cmap("supervised", "novel") - x.cmap("spact", "novel")),
            "novel action: a - a_sup > -1": Condition(
                lambda x: x.action("spact", "novel") - x.action("supervised", "novel"), -1
            ),
        },
        replicates=5,
    ),
    "K5": Claim(
        "scenes to objects: removes far more than supervised",
        {
            "s - 1.5 s_sup > 0 %": Condition(
                lambda x: x.s("spact", "scene_object") - 1.5 * x.s("supervised", "scene_object")
            )
        },
        replicates=5,
        evidence={
            "P-HVU action, raw data": ("scene_object", "raw", "action"),
            "P-HVU action, supervised": ("scene_object", "supervised", "action"),
            "P-HVU action, SPAct": ("scene_object", "spact", "action"),
        },
    ),
    "K6": Claim(
        "best trade-off",
        {
            "Fig. 4: no row is better on both axes": Condition(lambda x: trade_off(x, *RIVALS["Fig. 4"])),
            "Table 1: no label-free row is": Condition(lambda x: trade_off(x, *RIVALS["Table 1"])),
        },
        replicates=5,
    ),
    "K7": Claim(
        "f_A without f_B hides nothing",
        within("cMAP - cMAP_identity", lambda x: x.cmap("no_f_B") - x.cmap("identity")),
        evidence={
            "P-HVU scenes, identity": ("scenes_wanted", "identity", "action"),
            "P-HVU scenes, no f_B, f_T learns scenes": ("scenes_wanted", "no_f_B", "action"),
            "P-HVU objects, identity": ("scenes_wanted", "identity", "privacy"),
            "P-HVU objects, no f_B, f_T learns scenes": ("scenes_wanted", "no_f_B", "privacy"),
            "P-HVU objects, no f_B, f_T learns actions": ("scene_object", "no_f_B", "privacy"),
        },
    ),
    "K8": Claim(
        "updating f_B matters: hides more than twice what a frozen one does",
        {"s - 2 s_frozen > 0 %": Condition(lambda x: x.s("spact") - 2 * x.s("frozen_f_B"))},
    ),
    "K9": Claim(
        "a spatio-temporal f_B costs action",
        {"a - a_st > 2": Condition(lambda x: x.action("spact") - x.action("spatiotemporal_f_B"), 2)},
    ),
    "K10": Claim(
        "near pairs hide more than far ones",
        {
            "slope of cMAP over pairs < 8, any, > 64 frames apart > 0": Condition(
                lambda x: trend([x.cmap(m) for m in ("less_than_8_frames", "spact", "more_than_64_frames")])
            )
        },
        expected="inconclusive on mini",
    ),
    "K11": Claim(
        "MoCo is as good as NT-Xent, RotNet is worse",
        {
            **as_spact("MoCo", "moco"),
            "RotNet: a_SPAct - a > 0": Condition(lambda x: x.action("spact") - x.action("rotnet")),
            "RotNet: cMAP - cMAP_SPAct > 0": Condition(lambda x: x.cmap("rotnet") - x.cmap("spact")),
        },
    ),
    "K12": Claim(
        "a stronger f_B hides more",
        {
            "slope of cMAP over smaller, own, larger f_B < 0": Condition(
                lambda x: trend([x.cmap(m) for m in ("smaller_f_B", "spact", "larger_f_B")]), below=True
            )
        },
        expected="inconclusive on mini",
    ),
    "K13": Claim(
        "the architecture of f_T hardly matters",
        {
            **as_spact("R(2+1)D", "r2plus1d_f_T"),
            **as_spact("MC3", "mc3_f_T"),
        },
    ),
    "K14": Claim(
        "the order of methods is the same under another f'_T and f'_B",
        {
            "a: smallest gap left of rows > 2 points apart > 0": Condition(lambda x: order_kept(x.action, ORDERED)),
            "cMAP: smallest gap left of rows > 2 points apart > 0": Condition(lambda x: order_kept(x.cmap, ORDERED)),
        },
    ),
}
HOLM = ("K1", "K2", "K3", "K4", "K5", "K6")


@dataclass(frozen=True)
class Result:
    """A condition over replicates: mean distance from the margin, its 95 % t-interval, one-sided p, replicates."""

    mean: float
    low: float
    high: float
    p: float
    n: int

    @property
    def verdict(self) -> str:
        return "holds" if self.low > 0 else "fails" if self.high < 0 else "inconclusive"


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % t-interval of the mean of independent values; NaN for fewer than two, which give none."""
    if len(values) < 2:
        return math.nan, math.nan
    result = _result(values)
    return result.low, result.high


def measure(condition: Effect, replicates: Sequence[Scores]) -> Result:
    """The mean of ``condition`` over two replicates or more, with its t-interval."""
    return _result([condition(scores) for scores in replicates])


def _result(values: Sequence[float]) -> Result:
    n, mean, spread = len(values), float(np.mean(values)), np.std(values, ddof=1)
    reach = float(stats.t.ppf(1 - LEVEL / 2, n - 1) * spread / n**0.5)
    p = float(stats.t.sf(mean / (spread / n**0.5), n - 1)) if spread else float(mean <= 0)
    return Result(mean, mean - reach, mean + reach, p, n)


def claim_verdict(results: Iterable[Result]) -> str:
    """All conditions together."""
    verdicts = {result.verdict for result in results}
    return "fails" if "fails" in verdicts else "inconclusive" if "inconclusive" in verdicts else "holds"


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p values: of a family of tests, those below 0.05 are rejected together at that level."""
    adjusted, most = {}, 0.0
    for k, name in enumerate(sorted(p, key=lambda name: p[name])):
        most = max(most, min(1.0, (len(p) - k) * p[name]))
        adjusted[name] = most
    return adjusted
