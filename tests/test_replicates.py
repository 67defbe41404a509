"""Replicates of the claims: their scores from records, what is missing, and the command that makes one of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from spact_lib import ahead, replicates, reproduce, results
from spact_lib.claims import CLAIMS
from spact_lib.config import DataSpec, Schedule, profile
from spact_lib.errors import UserError
from spact_lib.methods import TABLES
from spact_lib.protocols import protocol
from spact_lib.store import Artifact, NotTrainedError, Store
from spact_lib.study import Study
from spact_lib.tables import table

QUICK = Schedule(steps=2, batch=4, lr=1e-3)
TINY = profile(
    "smoke", target_seeds=(0, 1), evaluations=1, omegas=(0.5, 0.25),
    **dict.fromkeys(("init_f_A", "init_f_T", "init_f_B", "minimax", "target_action", "target_privacy"), QUICK),
)  # fmt: skip


def test_scores_are_read_through_one_anonymizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mean over target seeds; the f_A* of the known study serves other targets; what has no record is left out."""
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    monkeypatch.setattr(Study, "init_f_A", "the same start")
    monkeypatch.setattr(Study, "method", lambda self, name: f"{name} by {self.profile.target_f_T}")
    monkeypatch.setattr(Study, "target_spec", lambda self, *asked: (self.profile.target_f_T, *asked))
    monkeypatch.setattr(replicates, "trained_parts", lambda spec: {})

    def canned(self: Store, spec: tuple[str, str, str, int]) -> Artifact:
        network, method, target, seed = spec
        if method.startswith("supervised"):
            raise NotTrainedError("no record")
        assert method == "spact by r3d_slim_motion"
        base = {"r3d_slim_motion": 80.0, "mc3_slim_motion": 70.0}[network] + seed
        action, privacy = {"top1": base, "top1_chance": 10.0}, {"cmap": base / 2, "cmap_chance": 25.0}
        return Artifact({"metrics": action if target == "action" else privacy}, None)

    monkeypatch.setattr(Store, "run", canned)
    monkeypatch.setenv("SPACT_READ_ONLY", "1")
    found = replicates.studies(profile("mini"), 1, 0)
    assert found["other_targets"].profile.target_f_B == "slim8"
    settings = ("known", "other_targets", "none")
    asked = [(s, m, role) for s in settings for m in ("spact", "supervised") for role in ("action", "privacy")]
    scores = replicates.collect(found, asked)
    assert scores.chance["known", "action"] == 10.0 and scores.chance["other_targets", "privacy"] == 25.0
    assert scores.cells == {
        ("known", "spact", "action"): 80.5,
        ("known", "spact", "privacy"): 40.25,
        ("other_targets", "spact", "action"): 70.5,
        ("other_targets", "spact", "privacy"): 35.25,
    }


def test_what_collapsed_on_official_data_is_named_by_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicates, "trained_parts", lambda spec: {"f_A": spec})
    monkeypatch.setattr(replicates, "faults", lambda made, text: {"set_aside": "", "collapsed": text})
    monkeypatch.setattr(Study, "init_f_A", "the same start")
    monkeypatch.setattr(Study, "method", lambda self, name: name)
    monkeypatch.setattr(Study, "target_spec", lambda self, *asked: asked)
    monkeypatch.setattr(
        Store, "run", lambda self, spec: Artifact({"metrics": {"top1": 50.0, "top1_chance": 10.0}}, None)
    )
    study = Study(profile("paper"), protocol("ucf101_vispr1"), Store(Path("none"), read_only=True), 3)
    assert replicates.collect({"known": study}, [("known", "spact", "action")]).collapsed == "SPAct of seed 3"


def test_a_setting_is_read_where_the_known_one_has_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Store, spec: object) -> None:
        raise NotTrainedError("no record")

    monkeypatch.setattr(Store, "run", nothing)
    listed = {"phvu": DataSpec(name="phvu", folder=Path("none"), fingerprint="phvu")}
    study = Study(profile("mini"), protocol("phvu_scene_to_object"), Store(Path("none"), read_only=True), _data=listed)
    assert replicates.collect({"scene_object": study}, [("scene_object", "raw", "action")]).cells == {}


def test_a_replicate_without_data_or_records_has_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    found = replicates.gather(profile("smoke"), [[101, 1]])
    assert [(studies, dict(scores.cells)) for studies, scores in found] == [({}, {})]
    assert replicates.keep({}) is None
    with pytest.raises(UserError, match="draw 7 is no replicate of the claims; choose from: 101, 102, 103, 104, 105"):
        replicates.chosen([101, 7])


def test_only_the_claims_own_replicates_get_the_plain_name() -> None:
    own = [*replicates.REPLICATES], [0, 1]
    others = (own[0][:3], own[1]), (own[0], [0])
    assert replicates.suffix(*own) == "" and len({"", *(replicates.suffix(*other) for other in others)}) == 3


def test_one_draw_is_made_alone_and_its_records_are_a_file(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims K1 and K7 on tiny data, as ``spact claims --draw 103`` makes them; a second time nothing is made."""
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    own = f"{tiny_csv}:action/attributes"
    made, executed = [], []

    def opened(name: str, *, draw: int, seed: int, protocol: str, **changes: object) -> Study:
        assert (draw, seed) == (103, 3) and protocol == own
        settings = TINY.model_copy(update={"draw": draw} | changes)
        return Study(settings, known, Store(tmp_path / "store"), seed)

    known = protocol(own)
    monkeypatch.setattr(replicates, "SETTINGS", {"known": (own, {"action": "action", "privacy": "privacy"})})
    monkeypatch.setattr(replicates, "ORDER", ("K1", "K7"))
    monkeypatch.setattr(replicates, "tables", lambda: [("table3", own)])
    monkeypatch.setitem(TABLES, "table3", {"raw": "", "spact": ""})
    monkeypatch.setattr("spact_lib.study.KEEP_ACTION", -1000)  # no omega keeps that much: all are tried
    monkeypatch.setattr(replicates, "open_study", opened)
    monkeypatch.setattr(reproduce, "draw_data", lambda *which: made.append(which))
    monkeypatch.setattr(reproduce, "run_notebook", lambda path, copy, *rest, **how: executed.append(copy))
    monkeypatch.setattr(ahead, "rows", lambda: [])
    times = []
    for _ in range(2):
        reproduce.run_claims(TINY, [103], jobs=1, tell=lambda line: None)
        records = sorted((tmp_path / "store").glob("*/*/record.json"))
        times.append([path.stat().st_mtime_ns for path in records])
    assert times[0] == times[1]
    assert made == [("smoke", 103)] * 2 and executed[0] == tmp_path / "notebooks" / "smoke" / "12_claims.ipynb"
    # Two seeds: f'_T of raw and SPAct, the choice of an omega among them; f'_B of identity and of the row without f_B.
    # For the table, which shows both of a row: f'_B of raw and SPAct. One: f'_T of the omega that was not chosen.
    assert len([path for path in records if path.parts[-3] == "target"]) == 13
    ((studies, scores),) = replicates.gather(TINY, [[103, 3]])
    assert set(scores.cells) == set(replicates.wanted(profile("mini"), [103, 3])) and len(scores.cells) == 4
    for condition in (each for name in ("K1", "K7") for each in CLAIMS[name].conditions.values()):
        assert isinstance(condition.effect(scores), float)
    assert replicates.took_the_largest([(studies, scores)]).startswith("SPAct in 0 of 1 replicates: the largest omega")
    monkeypatch.setattr("spact_lib.study.KEEP_ACTION", 1000)  # any omega would do: the first that is tried is taken
    again = {name: replace(one) for name, one in studies.items()}  # which has chosen nothing yet
    assert replicates.took_the_largest([(again, scores)]).startswith("SPAct in 1 of 1 replicates: the largest omega")
    monkeypatch.setattr("spact_lib.study.KEEP_ACTION", -1000)
    kept = replicates.keep(studies)
    assert kept == tmp_path / "records" / "smoke" / "claims_draw103.jsonl"
    # From the records alone, without the store.
    monkeypatch.setattr(results, "RECORDS", kept.parent)
    elsewhere = {name: replace(s, store=Store(tmp_path / "none", read_only=True)) for name, s in studies.items()}
    assert replicates.collect(elsewhere, replicates.wanted(profile("mini"), [103, 3])).cells == scores.cells
    shown = table("table3", elsewhere["table3"])  # which counts the game of the other omega, too
    assert set(shown.index.get_level_values("method")) == {"raw", "spact"} and set(shown["omega"]) == {"", "0.25"}
