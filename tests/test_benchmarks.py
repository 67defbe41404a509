import json
import re
from copy import deepcopy
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import anonymize, end_to_end, frames, growth, harness, minimax, scaling
from benchmarks.plain import PlainGame
from spact_lib.branches import build_branch
from spact_lib.config import BranchSpec, Schedule, profile
from spact_lib.errors import UserError
from spact_lib.files import write_json, write_text
from spact_lib.flop import forward_flop
from spact_lib.minimax import Game, anonymizer_step, auxiliary_step
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.paths import runs_root
from spact_lib.training import adam, seed_weights

METRICS = ("action top-1", "privacy cMAP")
LR = (1e-2, 1e-3, 1e-3)  # of f_A, f_T, f_B


def test_a_round_runs_each_variant_once_and_the_next_one_goes_another_way() -> None:
    seen: list[str] = []
    seconds = harness.interleaved({name: lambda name=name: seen.append(name) for name in "abc"}, rounds=2, warmup=1)
    assert seen == list("abc" + "acb" + "cab")
    assert {name: len(own) for name, own in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_rows_tell_the_median_and_the_median_ratio_of_the_rounds() -> None:
    seconds = {"plain": [2.0, 9.0, 4.0], "ours": [1.0, 3.0, 4.0]}  # ratios 2, 3, 1; the ratio of the medians is 4 / 3
    plain, ours = harness.rows("a case", seconds, "plain", peak_MB={"ours": 7})
    assert (plain["ms"], plain["times faster"], "peak MB" in plain) == (4000.0, 1.0, False)
    assert (ours["ms"], ours["times faster"], ours["peak MB"]) == (3000.0, 2.0, 7)


def test_peak_memory_is_of_the_child_alone() -> None:
    ballast = np.ones(1200 * 10**6, dtype=np.uint8)  # of this process; must not count
    assert 300 < harness.peak_memory(np.ones, 300 * 10**6, np.uint8) < 1200 < ballast.nbytes / 10**6 + 1


def test_a_run_writes_records_from_which_the_tables_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "FOLDER", tmp_path)
    assert harness.text().startswith("No benchmark is committed yet")
    made = harness.rows("a case", {"plain": [0.002], "ours": [0.001]}, "plain")
    monkeypatch.setattr(harness, "import_module", lambda name: type("Module", (), {"run": staticmethod(lambda: made)}))
    said: list[str] = []
    (path,) = harness.run(["minimax"], tell=said.append)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["variant"] for row in records] == ["plain", "ours"] and records[0]["environment"]["cores"] > 0
    assert re.search(r"\| a case \| ours +\| 1\.0 +\| 2\.0 ", harness.text()) and said[0] in harness.text()
    with pytest.raises(UserError, match="unknown benchmark 'mini'; choose one of: .*minimax"):
        harness.run(["mini"])


# --- the plain iteration: the same losses and gradients as ours, from the same weights ---


def batch(seed: int) -> dict[str, Tensor]:
    """Clips whose label is their brightness, pairs of smooth pictures: something to learn in a few steps."""
    generator = torch.Generator().manual_seed(seed)

    def pictures(n: int, frames: int) -> Tensor:
        smooth = F.interpolate(torch.rand(n, 3, 4, 4, generator=generator), size=16, mode="bilinear")
        return 0.6 * smooth[:, None] + 0.1 * torch.rand(n, frames, 3, 16, 16, generator=generator)

    label = torch.arange(6) % 3
    return {"clip": pictures(6, 4) + 0.15 * label.view(-1, 1, 1, 1, 1), "label": label, "pair": pictures(8, 2)}


@pytest.fixture(scope="module")
def started() -> Game:
    """A game after a short initialisation: without it f_A's gradient is nearly 0, and rounding all there is to see."""
    seed_weights(0)
    branch = build_branch(BranchSpec(loss="nt_xent", network="slim8"), 0)
    networks = (Anonymizer(4), build_action_network("r3d_slim", 3), branch.build())
    f_A, f_T, f_B = (adam(network, Schedule(steps=1, batch=6, lr=lr)) for network, lr in zip(networks, LR, strict=True))
    game = Game(*networks, branch, 0.7, f_A, f_T, f_B)
    for seed in range(30):
        frames = batch(seed)["clip"].flatten(0, 1)
        f_A.zero_grad()
        F.l1_loss(game.f_A.train()(frames), frames).backward()
        f_A.step()
    for seed in range(30, 40):
        auxiliary_step(game, batch(seed))
    f_A.zero_grad()
    return game


def copies(game: Game, precision: str) -> tuple[PlainGame, Game]:
    ours = deepcopy(game)
    ours.precision = precision
    return PlainGame(ours, LR[1]), ours


def distance(network: nn.Module, other: nn.Module) -> float:
    """Of the gradients, relative; without biases: before a BatchNorm theirs is nothing but rounding.

    Rounding turns a gradient a little; one that is too long or too short is another error.
    """
    own, others = (torch.cat([p.grad.flatten() for p in net.parameters() if p.dim() > 1]) for net in (network, other))
    assert float(others.norm() / own.norm()) == pytest.approx(1, abs=0.06)
    return float((own - others).norm() / own.norm())


@pytest.mark.parametrize(
    ("precision", "of_losses", "of_f_A", "of_f_T", "of_f_B"),
    [("float32", 1e-4, 0.01, 0.01, 0.01), ("bfloat16", 0.1, 0.05, 0.12, 0.45)],
)
def test_plain_and_ours_have_the_same_losses_and_gradients(
    started: Game, precision: str, of_losses: float, of_f_A: float, of_f_T: float, of_f_B: float
) -> None:
    def compared(expected: dict[str, float], values: dict[str, Tensor]) -> None:
        seen = {name: float(values[name]) for name in expected}
        assert seen == pytest.approx(expected, rel=of_losses, abs=1e-3)

    plain, ours = copies(started, precision)
    compared(plain.anonymizer_step(batch(100)), anonymizer_step(ours, batch(100)))
    assert distance(plain.f_A, ours.f_A) < of_f_A
    plain, ours = copies(started, precision)  # step 2 from the start, too: step 1's updates magnify rounding
    compared(plain.auxiliary_step(batch(101)), auxiliary_step(ours, batch(101)))
    assert distance(plain.f_T, ours.f_T) < of_f_T and distance(plain.f_B, ours.f_B) < of_f_B
    assert (
        plain.f_A.ours.to_rgb.weight.grad is not None and ours.f_A.to_rgb.weight.grad is None
    )  # thrown away; not made


def test_ours_is_less_work_than_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    small = profile("smoke", f_T="r3d_slim", width=8)
    for name, value in (("PAPER", small), ("ROUNDS", {"cpu": 1}), ("peak", lambda dtype: 1e9)):
        monkeypatch.setattr(minimax, name, value)
    monkeypatch.setattr(minimax, "peak_memory", lambda function, variant: 1.0)  # its child would not be small
    plain, ours32, ours = minimax.run()
    frames, view = 2 * small.action_view.n_frames + 12, small.action_view
    f_A = frames * forward_flop("f_A", "", 1, view.size, 8) / 1e9
    f_T = 2 * forward_flop("target", "r3d_slim", view.n_frames, view.size) / 1e9
    f_B = 12 * forward_flop("f_B", small.f_B, 1, view.size) / 1e9
    # Forward, gradient of the input, gradient of the weights, in two steps; the first layer's input needs none.
    assert plain["GFLOP"] == pytest.approx(6 * (f_A + f_T + f_B), rel=0.05)
    assert ours["GFLOP"] == ours32["GFLOP"] == pytest.approx(4 * f_A + 5 * (f_T + f_B), rel=0.05)
    assert minimax.bound("ours", 10.0, 4.0, torch.device("cpu")) == pytest.approx(1e-8)
    assert all(row["times faster"] > 0 and row["% of peak"] > 0 for row in (plain, ours32, ours))


def test_table_1_is_read_where_each_variant_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))

    def reproduce(command: list[str], env: dict[str, str], cwd: Path) -> CompletedProcess:
        with pytest.MonkeyPatch.context() as child:
            for name in ("SPACT_RUNS", "SPACT_PLAIN"):
                child.setenv(name, env[name])
            lines = [f"{m},{r},{env['SPACT_PLAIN']}" for m in METRICS for r in ("Raw data", "Supervised [41]", "SPAct")]
            text = "\n".join(["metric,method,here", *lines])
            write_text(runs_root() / "tables" / end_to_end.PROFILE / "table1.csv", text)
            for number, record in enumerate([{"seconds": 6.0, "waited": 1.0}, {"seconds": 2.0, "waited": 1.0}, {}]):
                write_json(runs_root() / "store" / "anonymizer" / f"{number}" / "record.json", record)
        return CompletedProcess(command, 0)

    cells = pd.MultiIndex.from_product([METRICS, end_to_end.METHODS])
    monkeypatch.setattr(end_to_end, "at_hand", lambda *asked, **how: [60.0, 75.0])  # two replicates, by what they read
    monkeypatch.setattr(end_to_end, "table", lambda name, here, **how: pd.DataFrame({"here": here}, index=cells))
    monkeypatch.setattr(end_to_end.subprocess, "run", reproduce)
    plain, ours, seeds = end_to_end.run()
    assert seeds["variant"] == "range of 2 replicates" and seeds["privacy cMAP SPAct"] == 15
    assert plain["% waiting"] == ours["% waiting"] == 25
    assert plain["privacy cMAP SPAct"] == 1 and ours["privacy cMAP SPAct"] == 0
    assert (plain["variant"], ours["variant"]) == ("plain", "ours") and "min" in ours


def test_releasing_a_video_counts_its_frames_and_the_anonymizers_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymize, "FRAMES", 6)
    monkeypatch.setattr(anonymize, "SCALES", (1,))
    monkeypatch.setattr(anonymize, "PAPER", profile("smoke"))
    found = {row["variant"]: row for row in anonymize.run()}
    assert list(found) == ["no anonymizer", "downsample_4x", "f_A, mini", "f_A, paper"]
    for row in found.values():
        assert row["frames per s"] == pytest.approx(6 / np.median(row["rounds"]), rel=0.01)
    assert found["no anonymizer"]["% in the anonymizer"] < 5 < found["f_A, mini"]["% in the anonymizer"] < 100


def test_an_epoch_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="run `spact bench frames`"):
        scaling.run()
    measured = [
        {"case": f"{codec}, {case}", "variant": variant, "ms per clip": ms if case == frames.PAIR else -1}
        for codec in ("MPEG-4", "H.264")
        for case in ("1 thread", frames.PAIR)
        for variant, ms in (("decord", -1), (frames.FIRST, 30.0), (frames.CACHED_FIRST, 7.5))
    ]
    harness.place("frames").write_text("".join(json.dumps(row) + "\n" for row in measured))
    one, _, _, eight, *_ = rows = scaling.run()
    assert [row["variant"] for row in rows] == [f"{n} x H200" for n in (1, 2, 4, 8)] * 2
    # issue 5: 15.3 GFLOP a frame, 86.3 a clip, 2.16 an image
    expected = [9_537 * n / (0.25 * 989e12) for n in (2 * 18 * 15.3e9, 2.5 * 86.3e9, 2.5 * 2 * 2.16e9)]
    assert [one["f_A s"], one["f_T s"], one["f_B s"]] == pytest.approx(expected, abs=0.1)
    assert one["decoding s"] == pytest.approx(9_537 * 0.03 / 15, abs=0.1)
    assert rows[4]["cached decoding s"] == pytest.approx(245_212 * 0.0075 / 15, abs=0.1)
    assert eight["f_A s"] == pytest.approx(one["f_A s"] / 8, abs=0.1)
    assert (one["gradients s"], eight["gradients s"]) == pytest.approx((0, 9_537 / 48 * 7 / 4 * 0.0063), abs=0.1)


def test_what_grows_is_told_from_what_varies() -> None:
    noise = np.random.default_rng(0).normal(0, 2, 17)
    assert not growth.is_growing("MB", 1130 + noise) and growth.is_growing("MB", 1130 + noise + np.arange(17))
    assert not growth.is_growing("MB", 1136 - 0.7 * np.arange(17))
    assert not growth.is_growing("files", [16] * 17) and not growth.is_growing("threads", [2, 2, 3, 2, 2, 3, 2])
    assert growth.is_growing("files", [16 + k // 8 for k in range(17)])


def test_the_script_ends_with_what_it_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(growth, "one_round", lambda runs: None)
    monkeypatch.setattr(growth.os, "environ", dict(growth.os.environ))
    for leak, status in ((0, 0), (1, 1)):
        monkeypatch.setattr(growth.tempfile, "tempdir", None)
        rounds = iter(range(99))
        monkeypatch.setattr(growth, "now", lambda *_, leak=leak, n=rounds: (900.0, 16 + leak * next(n), 2, 0, 80.0, 3))
        assert growth.main(growth.FEWEST) == status
        assert ("GROWS" in capsys.readouterr().out) == bool(leak)
