"""The paper's claims as tests (design: a claim is tested, not narrated): paired differences over replicates.

A claim is one or several conditions; a condition is a number of one replicate that must be positive. It *holds* when
the 95 % t-interval of its mean over replicates lies above 0, *fails* when below, else it is *inconclusive*. A claim
holds when all its conditions do and fails when one does. K1 to K6 are corrected for each other by Holm's method.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from spact_lib.errors import UserError
from spact_lib.paper import relative_drop

LEVEL = 0.05


@dataclass(frozen=True)
class Scores:
    """Numbers of one replicate: (protocol, method) -> (action, privacy), top-1 or cMAP in percent, over targets."""

    cells: Mapping[tuple[str, str], tuple[float, float]]

    def action(self, method: str, protocol: str = "known") -> float:
        """a of a row."""
        return self.cells[protocol, method][0]

    def cmap(self, method: str, protocol: str = "known") -> float:
        """Privacy cMAP of a row: low is good."""
        return self.cells[protocol, method][1]

    def s(self, method: str, protocol: str = "known") -> float:
        """s: relative drop of cMAP from raw, a fraction."""
        return relative_drop(self.cmap(method, protocol), self.cmap("raw", protocol)) / 100


Condition = Callable[[Scores], float]


def within(difference: Condition, margin: float) -> dict[str, Condition]:
    """Equivalence: a difference lies within +- ``margin`` when both of these are positive."""
    return {
        "not less": lambda x: difference(x) + margin,
        "not more": lambda x: margin - difference(x),
    }


def trade_off(x: Scores, others: Iterable[str], protocol: str = "known") -> float:
    """How far SPAct is from being beaten on both axes by another row: positive when none does."""
    return min(
        max(
            x.action("spact", protocol) - x.action(other, protocol),
            x.cmap(other, protocol) - x.cmap("spact", protocol),
        )
        for other in others
    )


def trend(values: Sequence[float]) -> float:
    """Slope of a straight line through equally spaced values."""
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, and the conditions under which it is true."""

    text: str
    conditions: Mapping[str, Condition]
    expected: str = ""  # what is known beforehand about testing it on mini


LABEL_FREE = ("identity", "downsample_2x", "downsample_4x", "obf_blackening", "obf_strong_blur", "obf_weak_blur")

CLAIMS: dict[str, Claim] = {
    "K1": Claim("action is kept", {"a - raw > -3": lambda x: x.action("spact") - x.action("raw") + 3}),
    "K2": Claim("privacy falls", {"s > 0.10": lambda x: x.s("spact") - 0.10}),
    "K3": Claim(
        "comparable to supervised on known attributes",
        {
            "s > 0.75 s_sup": lambda x: x.s("spact") - 0.75 * x.s("supervised"),
            "a - a_sup > -2": lambda x: x.action("spact") - x.action("supervised") + 2,
        },
    ),
    "K4": Claim(
        "better than supervised on novel ones",
        {
            "V2: cMAP_sup > cMAP": lambda x: x.cmap("supervised", "novel") - x.cmap("spact", "novel"),
            "novel action: a - a_sup > -1": lambda x: x.action("spact", "novel") - x.action("supervised", "novel") + 1,
        },
    ),
    "K5": Claim(
        "scenes to objects: removes far more than supervised",
        {"s > 1.5 s_sup": lambda x: x.s("spact", "scene_object") - 1.5 * x.s("supervised", "scene_object")},
    ),
    "K6": Claim(
        "best trade-off",
        {
            "Fig. 4: no row is better on both axes": lambda x: trade_off(x, (*LABEL_FREE, "supervised"), "novel"),
            "Table 1: no label-free row is": lambda x: trade_off(x, LABEL_FREE),
        },
    ),
    "K7": Claim("f_A without f_B hides nothing", within(lambda x: x.cmap("no_f_B") - x.cmap("identity"), 2)),
    "K8": Claim("updating f_B matters", {"s > 2 s_frozen": lambda x: x.s("spact") - 2 * x.s("frozen_f_B")}),
    "K9": Claim(
        "a spatio-temporal f_B costs action",
        {"a - a_st > 2": lambda x: x.action("spact") - x.action("spatiotemporal_f_B") - 2},
    ),
    "K10": Claim(
        "near pairs hide more than far ones",
        {
            "trend of cMAP over < 8, none, > 64 positive": lambda x: trend(
                [x.cmap(m) for m in ("less_than_8_frames", "spact", "more_than_64_frames")]
            )
        },
        expected="inconclusive on mini",
    ),
    "K11": Claim(
        "MoCo is as good as NT-Xent, RotNet is worse",
        {
            **{f"MoCo a: {k}": v for k, v in within(lambda x: x.action("moco") - x.action("spact"), 2).items()},
            **{f"MoCo cMAP: {k}": v for k, v in within(lambda x: x.cmap("moco") - x.cmap("spact"), 2).items()},
            "RotNet keeps less action": lambda x: x.action("spact") - x.action("rotnet"),
            "RotNet hides less": lambda x: x.cmap("rotnet") - x.cmap("spact"),
        },
    ),
    "K12": Claim(
        "a stronger f_B hides more",
        {
            "trend of cMAP over three f_B negative": lambda x: (
                -trend([x.cmap(m) for m in ("smaller_f_B", "spact", "larger_f_B")])
            )
        },
        expected="inconclusive on mini",
    ),
}
HOLM = ("K1", "K2", "K3", "K4", "K5", "K6")


@dataclass(frozen=True)
class Result:
    """A condition over replicates: mean, 95 % t-interval, one-sided p, and the smallest effect it could resolve."""

    mean: float
    low: float
    high: float
    p: float
    n: int

    @property
    def resolvable(self) -> float:
        """Half the interval: a smaller mean, of either sign, would have been inconclusive."""
        return (self.high - self.low) / 2

    @property
    def verdict(self) -> str:
        return "holds" if self.low > 0 else "fails" if self.high < 0 else "inconclusive"


def measure(condition: Condition, replicates: Sequence[Scores]) -> Result:
    """The mean of ``condition`` over replicates with its t-interval.

    Raises:
        UserError: fewer than two replicates, which give no interval.
    """
    if len(replicates) < 2:
        raise UserError(f"{len(replicates)} replicate gives no interval; a claim needs at least 2 (the design: 3 or 5)")
    values = np.array([condition(scores) for scores in replicates])
    n, mean, error = len(values), values.mean(), values.std(ddof=1) / len(values) ** 0.5
    if error == 0:
        return Result(mean, mean, mean, 0.0 if mean > 0 else 1.0, n)
    reach = stats.t.ppf(1 - LEVEL / 2, n - 1) * error
    return Result(mean, mean - reach, mean + reach, float(stats.t.sf(mean / error, n - 1)), n)


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
