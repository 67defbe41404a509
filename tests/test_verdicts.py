"""Verdicts: the paper's own numbers, made-up replicates, and replicates of which records are missing."""

import math

import pytest

from spact_lib import verdicts
from spact_lib.claims import CLAIMS, HOLM, Scores
from spact_lib.config import profile
from spact_lib.experiments import Artifact, NotTrainedError
from spact_lib.study import METHODS, Study


def replicates(n: int, shift: float = 0.01, **changes: tuple[float, float]) -> list[Scores]:
    """n replicates that differ by ``shift``: the paper's numbers, where it has none SPAct's, and ``changes``."""
    cells = {cell: verdicts.paper_scores().cells.get(cell, (62.1, 57.4)) for cell in verdicts.wanted(0)}
    cells |= {("known", "identity"): (62.3, 64.1)}
    cells |= {("other_targets", name): cells["known", name] for setting, name in cells if setting == "other_targets"}
    cells |= {("known", name): pair for name, pair in changes.items()}
    return [Scores({cell: (a + k * shift, b) for cell, (a, b) in cells.items()}) for k in range(n)]


def test_the_claims_are_true_of_the_papers_own_numbers() -> None:
    """Where the paper prints what a claim needs, it fulfils it; so a condition's sign is right."""
    table = verdicts.verdicts([])
    for name in ("K1", "K2", "K3", "K4", "K5", "K8", "K9", "K10", "K11", "K12"):
        rows = table.loc[name]
        assert rows["paper"].notna().all(), name
        for row in rows.itertuples():
            assert row.paper < row.margin if row.below else row.paper > row.margin, (name, row)
    assert table.loc[("K1", "a - a_raw > -3"), "paper"] == pytest.approx(62.03 - 62.33)


def test_claims_speak_of_methods_that_exist() -> None:
    asked = {cell for k in range(5) for cell in verdicts.wanted(k)}
    assert {method for _, method in asked} <= set(METHODS)
    assert {setting for setting, _ in asked} == set(verdicts.SETTINGS) and set(HOLM) <= set(CLAIMS)
    assert set(CLAIMS) == {f"K{k}" for k in range(1, 15)}
    # The ablations cost three replicates, K1 to K6 five.
    assert ("known", "rotnet") in verdicts.wanted(2) and ("known", "rotnet") not in verdicts.wanted(3)
    assert ("novel", "supervised") in verdicts.wanted(4) and verdicts.wanted(5) == []


def test_verdicts_of_enough_replicates() -> None:
    table = verdicts.verdicts(replicates(5, spatiotemporal_f_B=(61.0, 57.0)))
    verdict = table["verdict"].groupby(level="claim").first()
    assert verdict["K1"] == "holds" and verdict["K9"] == "fails" and "not run" not in set(verdict)
    row = table.loc[("K9", "a - a_st > 2")]
    assert row["effect"] == pytest.approx(62.03 - 61.0) and row["low"] == pytest.approx(row["high"]) and row["n"] == 5
    assert set(table["holm"].dropna().index.get_level_values("claim")) == set(HOLM)


def test_no_verdict_is_invented() -> None:
    """One replicate lacks a score: claims that need it are not run, the others are."""
    some = replicates(5)
    some[4] = Scores({cell: pair for cell, pair in some[4].cells.items() if cell[0] != "novel"})
    table = verdicts.verdicts(some)
    assert set(table.loc["K4", "verdict"]) == {"not run"} and set(table.loc["K4", "n"]) == {4}
    assert table.loc["K4", "effect"].notna().all() and table.loc["K4", "holm"].isna().all()
    assert table.loc[("K6", "Table 1: no label-free row is"), "condition verdict"] != "not run"
    assert set(table.loc["K6", "verdict"]) == {"not run"}  # one of its two conditions is
    assert set(table.loc["K1", "verdict"]) == {"holds"}
    nothing = verdicts.verdicts([])
    assert set(nothing["verdict"]) == {"not run"} and nothing["effect"].isna().all()
    text = verdicts.sentences(nothing)
    assert text.count("not run (0 of ") == 14 and "K1 action is kept: not run (0 of 5 replicates)." in text
    assert "not run" in verdicts.Shown(nothing)._repr_html_() and "nan" not in repr(verdicts.Shown(nothing))


def test_holm_takes_a_verdict_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """K2 alone would hold by a hair; among six tests, five of them not run, it does not."""
    some = [Scores({("known", "raw"): (90, 100), ("known", "spact"): (90, 100 - s)}) for s in (10.2, 11, 12, 13, 14)]
    row = verdicts.verdicts(some).loc["K2"].iloc[0]
    assert row["condition verdict"] == "holds" and row["verdict"] == "inconclusive" and row["holm"] > 0.025
    monkeypatch.setattr(verdicts, "HOLM", ("K2",))
    assert verdicts.verdicts(some).loc["K2"].iloc[0]["verdict"] == "holds"


def test_scores_are_read_through_one_anonymizer(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Mean over target seeds; the f_A* of the known study serves other targets; what has no record is left out."""
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    monkeypatch.setattr(Study, "init_f_A", "the same start")
    monkeypatch.setattr(Study, "method", lambda self, name: f"{name} by {self.profile.target_f_T}")

    def canned(self: Study, method: str, role: str, seed: int) -> Artifact:
        if method.startswith("supervised"):
            raise NotTrainedError("no record")
        assert method == "spact by r3d_slim_motion"
        base = {"r3d_slim_motion": 80.0, "r3d_slim": 70.0}[self.profile.target_f_T] + seed
        return Artifact({"metrics": {"top1": base} if role == "action" else {"cmap": base / 2}}, None)

    monkeypatch.setattr(Study, "target", canned)
    monkeypatch.setenv("SPACT_READ_ONLY", "1")
    found = verdicts.studies(profile("mini"), 1, 0, (0, 1), ("r3d_slim", "slim32"))
    assert found["other_targets"].profile.target_f_B == "slim32"
    asked = [(s, m) for s in ("known", "other_targets", "none") for m in ("spact", "supervised")]
    scores = verdicts.collect(found, asked)
    assert scores.cells == {("known", "spact"): (80.5, 40.25), ("other_targets", "spact"): (70.5, 35.25)}


def test_a_replicate_without_data_or_records_has_no_study(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    found = verdicts.gather(profile("smoke"), [[101, 1]], (0,), ("r3d_slim", "slim4"))
    assert [(studies, dict(scores.cells)) for studies, scores in found] == [({}, {})]
    assert math.isnan(verdicts.verdicts([found[0][1]])["effect"].iloc[0])
