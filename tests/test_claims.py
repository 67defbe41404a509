"""Claims: verdicts on made-up replicates, the paper's own numbers, statistics against scipy."""

import numpy as np
import pytest
from scipy import stats

from spact_lib.claims import CLAIMS, HOLM, Result, Scores, claim_verdict, holm, measure, trade_off, trend, within
from spact_lib.errors import UserError
from spact_lib.paper import reported
from spact_lib.study import METHODS, TABLES


def known(**rows: tuple[float, float]) -> Scores:
    return Scores({("known", name): cells for name, cells in rows.items()})


def test_an_interval_is_scipys() -> None:
    values = [3.1, -0.2, 1.7, 2.4, 0.9]
    result = measure(lambda x: x.action("raw"), [known(raw=(v, 0.0)) for v in values])
    test = stats.ttest_1samp(values, 0, alternative="greater")
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.mean, result.p) == pytest.approx((np.mean(values), test.pvalue))
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))
    assert result.n == 5 and result.resolvable == pytest.approx((interval.high - interval.low) / 2)
    with pytest.raises(UserError, match="1 replicate gives no interval"):
        measure(lambda x: x.action("raw"), [known(raw=(1.0, 0.0))])


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


def test_equivalence_needs_both_sides() -> None:
    conditions = within(lambda x: x.cmap("spact") - x.cmap("raw"), 2)
    inside, above = known(raw=(0, 50), spact=(0, 51.5)), known(raw=(0, 50), spact=(0, 53))
    assert [c(inside) > 0 for c in conditions.values()] == [True, True]
    assert [c(above) > 0 for c in conditions.values()] == [True, False]


def test_trade_off_is_beaten_only_on_both_axes() -> None:
    rows = {"spact": (60, 57), "identity": (62, 60)}
    assert trade_off(known(**rows), ["identity"]) == 3  # better action, worse privacy
    assert trade_off(known(**rows, supervised=(61, 55)), ["identity", "supervised"]) == -1


def test_trend_is_a_slope() -> None:
    assert trend([1, 3, 5]) == pytest.approx(2) and trend([5, 3, 1]) == pytest.approx(-2)


def test_the_claims_are_true_of_the_papers_own_numbers() -> None:
    """Where the paper prints what a claim needs, it fulfils it; so a condition's sign is right."""
    cells = {}
    for table in ("table1", "table3", "table4", "table5", "table6"):
        for method, row in TABLES[table].items():
            if row:
                pair = [reported(table, row, d, m) for d, m in (("ucf101", "top1"), ("vispr1", "cmap"))]
                cells.setdefault(("known", method), tuple(pair))
    for row in ("raw", "supervised", "spact"):
        novel = [("ucf101_to_hmdb51", "top1"), ("vispr1_to_vispr2", "cmap")]
        cells["novel", row] = tuple(reported("table2", row, d, m) for d, m in novel)
        moved = [("phvu_action", "cmap"), ("phvu_scene_to_object", "cmap")]
        cells["scene_object", row] = tuple(reported("table2", row, d, m) for d, m in moved)
    paper = Scores(cells)
    for name in ("K1", "K2", "K3", "K4", "K5", "K8", "K9", "K10", "K11", "K12"):
        assert all(condition(paper) > 0 for condition in CLAIMS[name].conditions.values()), name


def test_claims_speak_of_methods_that_exist() -> None:
    asked = set()

    class Everything(dict):
        def __getitem__(self, key: tuple[str, str]) -> tuple[float, float]:
            asked.add(key)
            return (1.0, 1.0)

    for claim in CLAIMS.values():
        for condition in claim.conditions.values():
            condition(Scores(Everything()))
    assert {method for _, method in asked} <= set(METHODS) and set(HOLM) <= set(CLAIMS)
    assert {protocol for protocol, _ in asked} == {"known", "novel", "scene_object"}
