"""Claims: verdicts on made-up replicates, the paper's own numbers, statistics against scipy."""

import numpy as np
import pytest
from scipy import stats

from spact_lib.claims import (
    Condition,
    Result,
    Scores,
    claim_verdict,
    holm,
    measure,
    order_kept,
    t_interval,
    trade_off,
    trend,
    within,
)


def known(**rows: tuple[float, float]) -> Scores:
    return scores(known=rows)


def scores(**settings: dict[str, tuple[float, float]]) -> Scores:
    """Of rows (a, cMAP) for each setting."""
    roles = ("action", "privacy")
    pairs = [(setting, name, pair) for setting, rows in settings.items() for name, pair in rows.items()]
    return Scores({(s, name, role): value for s, name, pair in pairs for role, value in zip(roles, pair, strict=True)})


def test_an_interval_is_scipys() -> None:
    values = [3.1, -0.2, 1.7, 2.4, 0.9]
    result = measure(lambda x: x.action("raw"), [known(raw=(v, 0.0)) for v in values])
    test = stats.ttest_1samp(values, 0, alternative="greater")
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.mean, result.p) == pytest.approx((np.mean(values), test.pvalue))
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))
    assert result.n == 5
    assert t_interval(values) == pytest.approx((interval.low, interval.high)) and np.isnan(t_interval([1.0])).all()


def test_equal_replicates_are_certain() -> None:
    assert measure(lambda x: 1.0, [known()] * 3).verdict == "holds"
    assert measure(lambda x: -1.0, [known()] * 3).verdict == "fails"


def result(low: float, high: float) -> Result:
    return Result((low + high) / 2, low, high, 0.5, 3)


def test_a_claim_is_the_weakest_of_its_conditions() -> None:
    holds, fails, open_ = result(0.1, 2), result(-2, -0.1), result(-1, 1)
    assert [r.verdict for r in (holds, fails, open_)] == ["holds", "fails", "inconclusive"]
    assert claim_verdict([holds, holds]) == "holds"
    assert claim_verdict([holds, open_]) == "inconclusive"
    assert claim_verdict([holds, open_, fails]) == "fails"


def test_holms_textbook_example() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8})["a"] == 1.0


def test_a_condition_is_a_distance_from_its_margin() -> None:
    low, high = known(raw=(0, 50), spact=(0, 51.5)), known(raw=(0, 50), spact=(0, 53))
    above, below = (Condition(lambda x: x.cmap("spact"), 52, below) for below in (False, True))
    assert [above(low), above(high), below(low), below(high)] == [-0.5, 1, 0.5, -1]


def test_equivalence_needs_both_sides() -> None:
    conditions = within("difference", lambda x: x.cmap("spact") - x.cmap("raw"))
    inside, above = known(raw=(0, 50), spact=(0, 51.5)), known(raw=(0, 50), spact=(0, 53))
    assert list(conditions) == ["difference > -2", "difference < 2"]
    assert [c(inside) > 0 for c in conditions.values()] == [True, True]
    assert [c(above) > 0 for c in conditions.values()] == [True, False]


def test_s_is_a_relative_drop_in_percent() -> None:
    assert known(raw=(0, 80), spact=(0, 60)).s("spact") == pytest.approx(25)


def test_order_is_kept_where_rows_are_apart() -> None:
    """raw and identity are too close to have an order; the two clear pairs keep theirs by 1 point at least."""
    own = {"raw": (90, 0), "identity": (91, 0), "spact": (80, 0)}
    other = {"raw": (70, 0), "identity": (66, 0), "spact": (65, 0)}
    both = scores(known=own, other_targets=other)
    assert order_kept(both.action, list(own)) == 1
    turned = scores(known=own, other_targets=other | {"spact": (68, 0)})
    assert order_kept(turned.action, list(own)) == -2
    assert order_kept(both.cmap, list(own)) == 0  # nothing is apart: no evidence either way


def test_trade_off_is_beaten_only_on_both_axes() -> None:
    rows = {"spact": (60, 57), "identity": (62, 60)}
    assert trade_off(known(**rows), "known", ["identity"]) == 3  # better action, worse privacy
    assert trade_off(known(**rows, supervised=(61, 55)), "known", ["identity", "supervised"]) == -1


def test_trend_is_a_slope() -> None:
    assert trend([1, 3, 5]) == pytest.approx(2) and trend([5, 3, 1]) == pytest.approx(-2)
