"""SPACT_PLAIN=1: every optimisation off, the same results but for rounding, in a folder of their own."""

import argparse
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from test_minimax import make_batch, make_game

from spact_lib import ahead, verbs
from spact_lib.device import autocast, layout
from spact_lib.errors import UserError
from spact_lib.minimax import anonymizer_step, auxiliary_step
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.paths import runs_root


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_PLAIN", "1")


def test_float32_default_layouts_and_one_process(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with autocast(torch.device("cpu"), "bfloat16", dims=2):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert layout(2) == layout(3) == torch.contiguous_format
    assert Anonymizer(2).stem[0].weight.is_contiguous()
    monkeypatch.delenv("SPACT_DEVICE", raising=False)
    monkeypatch.setattr(ahead, "cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert ahead.spread(None)[0] == 1 and ahead.spread(3)[0] == 3


def test_results_lie_apart_and_are_never_committed(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    assert runs_root() == tmp_path / "plain"
    monkeypatch.setenv("SPACT_RUNS", str(runs_root()))  # as notebooks are given it
    assert runs_root() == tmp_path / "plain"
    with pytest.raises(UserError, match="SPACT_PLAIN=1: plain runs .* are never committed"):
        verbs.promote(argparse.Namespace())


def test_an_iteration_learns_the_same_and_computes_what_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = make_game("nt_xent")
    monkeypatch.setenv("SPACT_PLAIN", "1")
    plain = make_game("nt_xent")
    assert not plain.optimizer_A.param_groups[0]["fused"]
    start = deepcopy(plain.f_A)
    found = {}
    for name, game in (("plain", plain), ("ours", ours)):
        monkeypatch.setenv("SPACT_PLAIN", "1" if name == "plain" else "0")
        first = anonymizer_step(game, make_batch(0))
        unused = [p.grad is not None for net in (game.f_T, game.f_B) for p in net.parameters()]
        assert all(unused) if name == "plain" else not any(unused)
        game.f_A.load_state_dict(start.state_dict())  # the update magnifies rounding where a gradient is nearly 0
        game.optimizer_A.zero_grad()
        second = auxiliary_step(game, make_batch(1))
        unused = [p.grad is not None for p in game.f_A.parameters()]
        assert all(unused) if name == "plain" else not any(unused)
        grads = [p.grad.flatten() for net in (game.f_T, game.f_B) for p in net.parameters() if p.dim() > 1]
        found[name] = ({k: float(v) for k, v in (first | second).items()}, torch.cat(grads))
    assert found["ours"][0] == pytest.approx(found["plain"][0], rel=1e-4)
    assert (found["ours"][1] - found["plain"][1]).norm() < 1e-3 * found["plain"][1].norm()
