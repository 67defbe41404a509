import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import harness, scaling
from benchmarks.plain import PlainGame
from spact_lib.branches import build_branch
from spact_lib.config import BranchSpec, Schedule
from spact_lib.errors import UserError
from spact_lib.minimax import Game, anonymizer_step, auxiliary_step
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.training import adam, seed_weights


def test_a_round_runs_each_variant_once_and_the_next_one_begins_with_another() -> None:
    seen: list[str] = []
    seconds = harness.interleaved({name: lambda name=name: seen.append(name) for name in "abc"}, rounds=2, warmup=1)
    assert seen == list("abc" + "bca" + "cab")
    assert {name: len(own) for name, own in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_rows_tell_the_median_and_the_median_ratio_of_the_rounds() -> None:
    seconds = {"plain": [2.0, 9.0, 4.0], "ours": [1.0, 3.0, 4.0]}  # ratios 2, 3, 1; the ratio of the medians is 4 / 3
    plain, ours = harness.rows("a case", seconds, "plain", peak_MB={"ours": 7})
    assert (plain["ms"], plain["times faster"], "peak MB" in plain) == (4000.0, 1.0, False)
    assert (ours["ms"], ours["times faster"], ours["peak MB"]) == (3000.0, 2.0, 7)


def fill(megabytes: int) -> None:
    np.ones(megabytes * 10**6, dtype=np.uint8)


def test_peak_memory_is_of_the_child_alone() -> None:
    ballast = np.ones(600 * 10**6, dtype=np.uint8)  # of this process; must not count
    less, more = harness.peak_memory(fill, 1), harness.peak_memory(fill, 301)
    assert ballast[-1] and 290 < more - less < 310


def test_a_run_writes_records_from_which_the_readme_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

BATCHES = [
    {
        "clip": torch.rand(3, 4, 3, 16, 16, generator=generator),
        "label": torch.tensor([2, 0, 1]),
        "pair": torch.rand(4, 2, 3, 16, 16, generator=generator),
    }
    for generator in (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
]


def games(precision: str) -> tuple[PlainGame, Game]:
    seed_weights(0)
    branch = build_branch(BranchSpec(loss="nt_xent", network="slim8"), 0)
    networks = (Anonymizer(4), build_action_network("r3d_slim", 3), branch.build())
    optimizers = (adam(network, Schedule(steps=1, batch=3, lr=1e-3)) for network in networks)
    game = Game(*networks, branch, 0.7, *optimizers, precision)
    return PlainGame(game, 1e-3), game


def distance(network: nn.Module, other: nn.Module) -> float:
    """Of the gradients, relative; without biases: before a BatchNorm theirs is nothing but rounding."""
    own, others = (torch.cat([p.grad.flatten() for p in net.parameters() if p.dim() > 1]) for net in (network, other))
    return float((own - others).norm() / own.norm())


@pytest.mark.parametrize(("precision", "of_losses", "of_gradients"), [("float32", 1e-5, 1e-4), ("bfloat16", 0.03, 0.1)])
def test_plain_and_ours_have_the_same_losses_and_gradients(
    precision: str, of_losses: float, of_gradients: float
) -> None:
    plain, ours = games(precision)
    expected, values = plain.anonymizer_step(BATCHES[0]), anonymizer_step(ours, BATCHES[0])
    assert plain.f_T.fc.weight.grad is not None and ours.f_T.body.fc.weight.grad is None  # thrown away, not computed
    assert {name: float(values[name]) for name in expected} == pytest.approx(expected, rel=of_losses)
    assert distance(plain.f_A, ours.f_A) < of_gradients
    plain, ours = games(precision)  # step 2 from the start, too: step 1's updates would differ by rounding
    expected, values = plain.auxiliary_step(BATCHES[1]), auxiliary_step(ours, BATCHES[1])
    assert {name: float(values[name]) for name in expected} == pytest.approx(expected, rel=of_losses)
    assert distance(plain.f_T, ours.f_T) < of_gradients and distance(plain.f_B, ours.f_B) < of_gradients
    assert ours.f_A.to_rgb.weight.grad is None


def test_an_epoch_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="run `spact bench frames`"):
        scaling.run()
    row = {"case": "H.264", "variant": "ours", "ms per clip": 32.0}
    harness.place("frames").write_text(json.dumps(row) + "\n" + json.dumps(row | {"variant": "decord"}) + "\n")
    one, eight, *_ = rows = scaling.run()
    assert [row["variant"] for row in rows] == ["1 x H200", "8 x H200", "24 x H200"] * 2
    # issue 5: 15.3 GFLOP a frame, 86.3 a clip, 2.16 an image
    expected = [9_537 * n / (0.25 * 989e12) for n in (2 * 18 * 15.3e9, 2.5 * 86.3e9, 2.5 * 2 * 2.16e9)]
    assert [one["f_A s"], one["f_T s"], one["f_B s"]] == pytest.approx(expected, abs=0.1)
    assert one["decoding s, H.264"] == pytest.approx(9_537 * 0.032 / 16, abs=0.1)
    assert eight["f_A s"] == pytest.approx(one["f_A s"] / 8, abs=0.1)
    assert (one["gradients s"], eight["gradients s"]) == pytest.approx((0, 9_537 / 48 * 7 / 4 * 0.0063), abs=0.1)
