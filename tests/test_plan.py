"""The plan of a reproduction: it trains nothing, lists what a run then makes, and counts FLOP as published."""

from pathlib import Path

import pandas as pd
import pytest
import torch

import data_prep
from spact_lib import cli, conditions, flop, paper, plan, plan_text, tables
from spact_lib.branches import build_branch
from spact_lib.config import Schedule, View, profile
from spact_lib.methods import CHOICES, extra_rows, paper_rows
from spact_lib.networks.privacy import PrivacyNetwork
from spact_lib.protocols import PROTOCOLS, protocol
from spact_lib.store import Store
from spact_lib.study import Study

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
    assert flop.forward_flop(kind, network, frames, 112, 64) / 1e9 == pytest.approx(giga, rel=0.01)


def test_the_game_costs_what_its_steps_do() -> None:
    """By hand, from the published numbers: 24 clips of 16 frames and 48 frames of pairs."""
    paper = profile("paper")
    spec = plan._planned_study(paper, "ucf101_vispr1").anonymizer("spact", 0.5)
    u, r, b = 15.3e9, 86.3e9, 2.16e9
    once = (3 + 1) * (24 * 16 + 48) * u + (2 + 3) * (24 * r + 48 * b)
    assert flop.cost(spec) == pytest.approx(150 * 397 * once, rel=0.01)
    assert flop.cost(spec.f_A) == pytest.approx(3 * 20 * 625 * 32 * u, rel=0.01)
    assert flop.cost(spec.f_T) == pytest.approx(50 * 397 * 24 * (16 * u + 3 * r), rel=0.01)


@pytest.mark.parametrize(
    ("method", "frames", "learned", "others"),  # of each video or image: for f_A, and passes of f_B
    [("spact", 2, 2, 0), ("moco", 2, 1, 1), ("rotnet", 1, 4, 0), ("spact_stills", 2, 2, 0), ("supervised", 1, 1, 0)],
)
def test_each_loss_costs_the_passes_that_it_makes(method: str, frames: int, learned: int, others: int) -> None:
    mini = profile("mini")
    spec = plan._planned_study(mini, "ucf101_vispr1").anonymizer(method, 0.5)
    n = 64 if method in ("spact_stills", "supervised") else 16
    branch = build_branch(spec.f_B.branch, 5)
    kinds = {"image": 1, "image_further": 1, "pair": 2}
    batch = {kind: torch.rand(n, k, 3, 32, 32) for kind, k in kinds.items()} | {"image_label": torch.zeros(n, 5)}
    assert branch.frames(batch).shape[:2] == (n, frames)
    f_B, passes = branch.build().eval(), {True: 0, False: 0}

    def count(network: PrivacyNetwork, given: object, seen: torch.Tensor) -> None:
        passes[seen.requires_grad] += seen.shape[1]

    for network in (module for module in f_B.modules() if isinstance(module, PrivacyNetwork)):
        network.register_forward_hook(count)
    branch.loss(f_B, branch.frames(batch), batch)
    assert passes == {True: n * learned, False: n * others}
    u, b = flop.forward_flop("f_A", "", 1, 32, mini.width), flop.forward_flop("f_B", mini.f_B, 1, 32)
    t = flop.forward_flop("target", mini.f_T, 8, 32)
    step1 = 3 * (16 * 8 + n * frames) * u + 2 * 16 * t + n * (2 * learned + others) * b
    step2 = (16 * 8 + n * frames) * u + 3 * 16 * t + n * (3 * learned + others) * b
    assert flop.cost(spec) == pytest.approx(mini.minimax.steps * (step1 + step2))


def test_the_plan_is_what_a_run_makes(tiny_csv: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{tiny_csv}:action/attributes"
    monkeypatch.setattr(plan, "TABLES", {"table1": ROWS})
    monkeypatch.setattr(plan, "TABLE_PROTOCOLS", {"table1": (name,)})
    monkeypatch.setattr(plan, "tables", lambda: [("table1", name)])
    monkeypatch.setattr(plan, "KNOWN", name)

    def of_table1(full: bool = False) -> list[plan.PlannedRun]:
        runs, unknown = plan.plan(TINY, full)
        assert unknown == []
        return [run for run in runs if {"table1", "C1 and C2"} & set(run.items)]

    runs = of_table1()
    assert not place.exists()  # nothing was made
    assert all(run.flop is not None and not run.done for run in runs)
    planned = [run.spec.key() for run in runs]
    told = set(plan_text.as_table(runs)[["run", "method"]].itertuples(index=False, name=None))
    score, omega = (
        f"score f'_B attributes, {TINY.target_f_B}, seed 0, learned on",
        f"spact omega {TINY.omegas[0]:g}",
    )
    assert {(f"{score} raw", omega), (f"{score} {omega}", "raw")} <= told  # C1 and C2
    study = Study(TINY, protocol(name), Store(place / "store", read_only=False))
    tables.table("table1", study, methods=ROWS)
    conditions.c1_c2(study, "spact")
    made = {path.parent.name for path in (place / "store").glob("*/*/record.json")}
    assert set(planned) == made and len(planned) == len(made)
    for k, run in enumerate(runs):  # in an order in which they can be made
        needed = {part.key() for part in plan.parts_of(run.spec)} & made
        assert needed <= set(planned[: k + 1])
    assert all(run.done for run in of_table1())
    further = [run for run in of_table1(full=True) if not run.done]
    assert {run.method for run in further} == set(extra_rows("table1")) | set(CHOICES)
    free = {"frames", "init_f_A", "init_f_T", "baseline"}
    learned = [run for run in further if run.spec.kind not in ("release", *free)]
    assert all(run.flop > 0 for run in learned) and all(run.flop is not None for run in further)
    assert "To be computed: 0 EFLOP" in plan_text.text(TINY, of_table1(), [], full=False)


def test_what_is_not_run_takes_as_long_for_its_flop_as_its_like() -> None:
    study = plan._planned_study(profile("mini"), "ucf101_vispr1")
    raw, spact = study.method("raw"), study.anonymizer("spact", 0.5)
    f_B, f_T = study.target_spec(raw, "privacy", 0), study.target_spec(raw, "action", 0)
    twice = f_B.model_copy(update={"schedule": f_B.schedule.model_copy(update={"steps": 2 * f_B.schedule.steps})})
    runs = [
        plan.PlannedRun(f_B, "raw", 100.0, 60.0),
        plan.PlannedRun(twice, "raw", 200.0, None),
        plan.PlannedRun(f_T, "raw", 100.0, None),  # on clips: another speed, of which nothing is known
        plan.PlannedRun(spact.f_A, "spact", 0.0, 7.0),
        plan.PlannedRun(spact.f_A.model_copy(update={"seed": 1}), "spact", 0.0, None),  # without FLOP: the median
    ]
    assert list(plan.seconds_by_flop(runs).values()) == [60, 120, None, 7, 7]
    [said] = plan_text._told_minutes(runs)
    assert "took 1; the others need about 2," in said and "Not in it: 1 runs" in said
    assert plan_text._told_minutes(runs[1:3]) == []


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
        "frames of these runs, about: unknown until the datasets are prepared.\n",
    ):
        assert part in out
    assert "0 TB" not in out
    inputs, rows = out.index("## Inputs"), out.index("## Runs")
    assert inputs < out.index("`spact doctor --profile paper`") < rows < out.index("| f_A*, minimax")
    rows = pd.read_csv(place / "plan-paper.csv", dtype=str, keep_default_na=False)
    games = rows[(rows["run"] == "f_A*, minimax") & rows["method"].str.match("spact omega") & (rows["data"] != "phvu")]
    # The whole grid, once for each pair of datasets that f_A learns from, whatever tables share it; the omegas of
    # Figure 4's curve that are not in it; and the grid for each replicate of the claims.
    of = games.groupby(["data", games["method"].str.extract("seed (.*)", expand=False).fillna("0")]).size().to_dict()
    assert of.pop(("hmdb51_without_pa, vispr", "0")) == of.pop(("vp_ucf101", "0")) == 5
    assert of == {("ucf101, vispr", str(seed)): 8 if seed == 0 else 5 for seed in range(6)}
    of_known = games[games["data"] == "ucf101, vispr"].set_index("method")["for"]
    assert of_known["spact omega 0.1"] == "1, 2, 3, 4, 5, 6, C1 and C2, Fig. 4, other targets, attackers"
    assert of_known["spact omega 0.75"] == "Fig. 4" and of_known["spact omega 0.1, f_A's seed 5"] == "claims"


def test_a_plan_ends_with_the_last_notebook(place: Path, capsys: pytest.CaptureFixture) -> None:
    def told(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["reproduce", "--profile", "smoke", *options])
        return stop.value.code, *capsys.readouterr()

    def items(until: str | None) -> set[str]:
        return {item for run in plan.plan(TINY, until=until)[0] for item in run.items}

    assert items("04") == items("00") == {"table1", "C1 and C2"} and items("05_table2") == items("04") | {"table2"}
    assert items("06") == items("05") | {"Fig. 4"} and items("14") == items(None) > items("06")
    code, out, _ = told("--plan", "--until", "04")
    assert code == 0 and out.startswith("# Plan of profile smoke until notebook 04: ") and "Fig. 4" not in out
    unknown = told("--plan", "--until", "99")
    assert unknown == told("--until", "99") and unknown[0] == 2 and "no notebook '99'" in unknown[2]
    code, _, said = told("--plan", "--until", "04", "--full")
    assert code == 2 and "the runs of --full or those --until 04; leave out one of the two" in said


def test_every_number_of_the_paper_is_reproduced_by_full() -> None:
    asked = set()
    for table, named, methods in plan.planned_rows(full=True):
        columns = [column.paper for target in PROTOCOLS[named].targets.values() for column in target.columns]
        rows = paper_rows(table)
        asked |= {(table, rows[method], column) for method in methods if method in rows for column in columns}
    printed = pd.read_csv(paper.CSV, dtype=str)
    assert len(printed) == 172
    assert not set(printed[["table", "row", "dataset"]].itertuples(index=False, name=None)) - asked


def test_the_draws_of_the_claims_are_among_the_inputs() -> None:
    runs, unknown = plan.plan(TINY, full=True)
    lines = plan_text.missing(TINY, runs)
    for draw in (TINY.draw, 105):
        assert (
            f"mini-smoke-draw{draw}/vispr: not prepared; run `spact prepare mini --draw {draw} --scale smoke`" in lines
        )
    assert unknown == [] and {item for run in runs for item in run.items} >= {"claims", "attackers", "other targets"}


def test_annotations_without_media(shared_data: Path, place: Path) -> None:
    paper = profile("paper")
    before = {run.spec.key() for run in plan.plan(paper)[0]}
    assert {data.name for run in plan.plan(paper)[0] for data in plan_text._data(run.spec)} == {
        "ucf101",
        "vispr",
        "hmdb51",
    }
    folder = shared_data / "annotations" / "ucf101"
    data_prep.prepare("ucf101", place / "empty", place / "data" / "official", lists=folder)
    runs = plan.plan(paper)[0]
    assert len(runs) == len(before)
    [line] = [line for line in plan_text.missing(paper, runs) if line.startswith("ucf101:")]
    assert "13,320 rows, 13,320 of 13,320 files missing under" in line
    releases = [run for run in runs if run.spec.kind == "release" and run.spec.frames.data.name == "ucf101"]
    learned = [run for run in releases if run.spec.method.kind == "anonymizer"]
    # 13,320 videos of 200 frames of 171 x 128 pixels.
    expected = 13_320 * 200 * 15.3e9 * (128 * 128 * 4 / 3) / 112**2
    assert learned and all(run.flop == pytest.approx(expected, rel=0.01) for run in learned)
    for run in releases:
        smaller = {"downsample_2x": 4, "downsample_4x": 16}.get(run.method, 1)
        assert plan_text.disk(run) == pytest.approx(13_320 * 200 * 3 * 128 * 171 / smaller, rel=0.01)
    assert f"{sum(map(plan_text.disk, runs)) / 1e12:.3g} TB. Not in it: those " in plan_text.text(
        paper, runs, [], full=False
    )
