"""The plan of a reproduction: it trains nothing, lists what a run then makes, and counts FLOP as published."""

from pathlib import Path

import pandas as pd
import pytest

import data_prep
from spact_lib import cli, plan, tables
from spact_lib.config import Schedule, View, profile
from spact_lib.protocols import protocol
from spact_lib.store import Store
from spact_lib.study import CHOICES, TABLE_EXTRAS, Study

VIEW = View(stored_side=16, size=16, n_frames=4, stride=1, crop=(0.8, 1.0), test_crop=1.0, flip=0.0, test_clips=2)
TWO = Schedule(steps=2, batch=4, lr=1e-3)
TINY = profile(
    "smoke", action_view=VIEW, privacy_view=VIEW.frames(), width=2, privacy_batch=3, evaluations=1,
    **dict.fromkeys(("init_f_A", "init_f_T", "init_f_B", "minimax", "target_action", "target_privacy"), TWO),
)  # fmt: skip
ROWS = ["raw", "identity", "downsample_2x", "supervised", "spact", "frozen_f_B"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SPACT_DEVICE", "cpu")
    monkeypatch.delenv("SPACT_DATA", raising=False)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("kind", "network", "frames", "giga"),
    [
        ("f_A", "", 1, 15.3),
        ("target", "r3d18", 16, 81.4),
        ("target", "r3d18_dilated", 16, 86.3),
        ("target", "resnet50", 1, 2.16),
        ("f_B", "resnet50", 1, 2.16),
    ],
)
def test_networks_cost_what_is_known(kind: str, network: str, frames: int, giga: float) -> None:
    assert plan.forward_flop(kind, network, frames, 112, 64) / 1e9 == pytest.approx(giga, rel=0.01)


def test_the_game_costs_what_its_steps_do() -> None:
    """By hand, from the published numbers: 24 clips of 16 frames and 48 frames of pairs."""
    paper = profile("paper")
    spec = plan._planned_study(paper, protocol("ucf101_vispr1")).anonymizer("spact", 0.5)
    u, r, b = 15.3e9, 86.3e9, 2.16e9
    once = (3 + 1) * (24 * 16 + 48) * u + (2 + 3) * (24 * r + 48 * b)
    assert plan.cost(spec) == pytest.approx(300 * 397 * once, rel=0.01)
    assert plan.cost(spec.f_A) == pytest.approx(3 * 20 * 313 * 32 * u, rel=0.01)
    assert plan.cost(spec.f_T) == pytest.approx(50 * 397 * 24 * (16 * u + 3 * r), rel=0.01)


def test_the_plan_is_what_a_run_makes(tiny_csv: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{tiny_csv}:action/attributes"
    monkeypatch.setattr(plan, "TABLES", {"table1": ROWS})
    monkeypatch.setattr(plan, "TABLE_PROTOCOLS", {"table1": (name,)})
    monkeypatch.setattr(plan, "tables", lambda: [("table1", name)])
    runs, unknown = plan.plan(TINY)
    assert not place.exists() and unknown == []  # nothing was made
    assert all(run.flop is not None and not run.done for run in runs)
    planned = [run.spec.key() for run in runs]
    store = Store(place / "store", read_only=False)
    tables.table("table1", Study(TINY, protocol(name), store), methods=ROWS)
    made = {path.parent.name for path in (place / "store").glob("*/*/record.json")}
    assert set(planned) == made and len(planned) == len(made)
    for k, run in enumerate(runs):  # in an order in which they can be made
        needed = {part.key() for part in plan._parts(run.spec)} & made
        assert needed <= set(planned[: k + 1])
    assert all(run.done for run in plan.plan(TINY)[0])
    further = [run for run in plan.plan(TINY, full=True)[0] if not run.done]
    assert {run.method for run in further} == set(TABLE_EXTRAS["table1"]) | set(CHOICES)
    free = {"frames", "init_f_A", "init_f_T", "baseline"}
    learned = [run for run in further if run.spec.kind not in ("release", *free)]
    assert all(run.flop > 0 for run in learned) and all(run.flop is not None for run in further)
    assert "0 EFLOP" in plan.text(TINY)[0]


def test_nothing_is_there(place: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", "--profile", "paper", "--plan", "--full"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and [path.name for path in place.iterdir()] == ["plan-paper.csv"]
    for part in (
        "| f_A*, minimax",
        "spact omega 0.1",
        "pa_hmdb51_videos: not prepared; run `spact prepare pa_hmdb51 --root DIR`",
        "hmdb51_without_pa: not prepared; run `spact prepare hmdb51 --root DIR --without-pa DIR`",
    ):
        assert part in out
    rows = pd.read_csv(place / "plan-paper.csv", dtype=str, keep_default_na=False)
    games = rows[(rows["run"] == "f_A*, minimax") & rows["method"].str.match("spact omega") & (rows["data"] != "phvu")]
    # The whole grid, once for each pair of datasets that f_A learns from, whatever tables share it.
    assert games.groupby("data").size().to_dict() == {"ucf101, vispr": 5, "hmdb51_without_pa, vispr": 5}
    assert set(games.loc[games["data"] == "ucf101, vispr", "tables"]) == {"1, 2, 3, 4, 5, 6"}


def test_annotations_without_media(shared_data: Path, place: Path) -> None:
    paper = profile("paper")
    before = {run.spec.key() for run in plan.plan(paper)[0]}
    assert {data.name for run in plan.plan(paper)[0] for data in plan._data(run.spec)} == {"ucf101", "vispr", "hmdb51"}
    folder = shared_data / "annotations" / "ucf101"
    data_prep.prepare("ucf101", place / "empty", place / "data" / "official", lists=folder)
    runs = plan.plan(paper)[0]
    assert len(runs) == len(before)
    [line] = [line for line in plan.missing(paper, runs) if line.startswith("ucf101:")]
    assert "13,320 rows, 13,320 of 13,320 files missing under" in line
    releases = [run for run in runs if run.spec.kind == "release" and run.spec.frames.data.name == "ucf101"]
    learned = [run for run in releases if run.spec.method.kind == "anonymizer"]
    # 13,320 videos of 200 frames of 171 x 128 pixels.
    expected = 13_320 * 200 * 15.3e9 * (128 * 128 * 4 / 3) / 112**2
    assert learned and all(run.flop == pytest.approx(expected, rel=0.01) for run in learned)
