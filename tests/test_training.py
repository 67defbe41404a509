import errno
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spact_lib import training
from spact_lib.config import Schedule
from spact_lib.errors import UserError
from spact_lib.training import (
    NonFiniteError,
    Run,
    adam,
    frozen,
    running_mean,
    seed_weights,
    set_learning_rate,
    settled_mean,
)

CONSTANT = Schedule(steps=6, batch=1, lr=0.1)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)


def descend(folder: Path, *, kill_at: int | None = None, stop_at: int | None = None) -> tuple[Run, Tensor]:
    """Adam towards the step's number; everything but the batch comes out of the folder."""
    torch.manual_seed(0)
    module = nn.Linear(1, 1, bias=False)
    optimizer = adam(module, CONSTANT)
    run = Run(folder, {"net": module}, {"net": optimizer}, "toy")
    for step in run.steps(6):
        loss = (module.weight - step).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step, loss=loss.item())
        if step == kill_at:
            raise KeyboardInterrupt
        if step == stop_at:
            run.stop()
    return run, module.weight.detach().clone()


@pytest.mark.parametrize("kill_at", [0, 3, 5])
def test_a_killed_run_continues_as_if_nothing_had_happened(tmp_path: Path, every_step: None, kill_at: int) -> None:
    expected, weight = descend(tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        descend(tmp_path / "killed", kill_at=kill_at)
    run, again = descend(tmp_path / "killed")
    assert torch.equal(again, weight) and run.rows == expected.rows and run.step == 6
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.rows


def test_a_run_continued_elsewhere_says_where_it_was_before(
    tmp_path: Path, every_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for commit in ("first", "first", "second", "third"):
        monkeypatch.setattr(training, "environment", lambda commit=commit: {"commit": commit})
        with pytest.raises(KeyboardInterrupt) if commit != "third" else nullcontext():
            run, _ = descend(tmp_path, kill_at={"first": 1, "second": 3}.get(commit))
    assert run.course["elsewhere"] == [{"commit": "second"}, {"commit": "first"}]
    assert "elsewhere" not in descend(tmp_path / "undisturbed")[0].course


def test_a_damaged_checkpoint_is_to_be_removed_and_a_sound_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descend(tmp_path)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for damaged in (b"", b"no checkpoint", whole[:100], whole[:-30], whole[:-1], bytes(len(whole))):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="checkpoint.pt cannot be continued from .*; remove it, and the same"):
            descend(tmp_path)
    path.write_bytes(whole)
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
    ):

        def met(*_: object, error: Exception = error, **how: object) -> None:
            raise error

        with monkeypatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(torch, "load", met)
            descend(tmp_path)
    assert descend(tmp_path)[0].step == 6


def test_what_takes_long_to_save_is_saved_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 10 seconds: every fourth is the first one more than 30 after; saving for 3 seconds makes that 150, and
    nothing more than 600."""
    clock = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    for took, steps, expected in (
        (0.1, 24, [4, 8, 12, 16, 20, 24, 24]),
        (3.0, 24, [4, 20, 24]),
        (99.0, 70, [4, 65, 70]),
    ):
        module, saved = nn.Linear(1, 1), []
        run = Run(tmp_path / str(took), {"net": module}, {"net": adam(module, CONSTANT)}, "toy")

        def save(took: float = took, saved: list[int] = saved, run: Run = run) -> None:
            clock[0] += took
            saved.append(run.step)

        monkeypatch.setattr(run, "save", save)
        for _ in run.steps(steps):
            clock[0] += 10
        assert saved == expected


def test_a_finished_and_a_stopped_run_stay_as_they_are(tmp_path: Path) -> None:
    for name, stop_at, steps in [("finished", None, 6), ("stopped", 2, 3)]:
        run, weight = descend(tmp_path / name, stop_at=stop_at)
        again, same = descend(tmp_path / name)
        assert run.step == again.step == steps and torch.equal(weight, same) and again.rows == run.rows


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_value_is_named_and_leaves_the_checkpoint(tmp_path: Path, every_step: None, value: float) -> None:
    run = Run(tmp_path, {"net": nn.Linear(1, 1)}, {}, "toy")
    with pytest.raises(NonFiniteError, match=rf"L_B became {value} at step 2 of toy; the checkpoint after 2 steps"):
        for step in run.steps(5):
            run.log(step, L_T=1.0, L_B=value if step == 2 else 0.5)
    assert Run(tmp_path, {"net": nn.Linear(1, 1)}, {}).step == 2
    assert len(run.rows) == 2  # the bad row is not kept


def diverging(folder: Path, bad_step: int, spoil: Callable[[nn.Module], None]) -> None:
    net = nn.Linear(2, 1)
    run, optimizer = Run(folder, {"f_T": net}, {}, "toy"), adam(net, CONSTANT)
    for step in run.steps(5):
        loss = net(torch.ones(1, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if step == bad_step:
            spoil(net)
        optimizer.step()
        run.log(step, L_T=loss.item())


def spoil_gradient(net: nn.Module) -> None:
    net.bias.grad.fill_(torch.inf)


def spoil_weight(net: nn.Module) -> None:
    with torch.no_grad():
        net.weight[0, 1] = torch.nan
    net.zero_grad()


@pytest.mark.parametrize(
    ("spoil", "culprit"), [(spoil_gradient, "the gradient of bias in f_T"), (spoil_weight, "weight of f_T")]
)
def test_a_non_finite_gradient_or_weight_is_named_and_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[nn.Module], None], culprit: str
) -> None:
    kept = "of toy; the checkpoint after {} steps is kept: a lower learning rate"
    with pytest.raises(NonFiniteError, match=f"^{culprit} is not finite after 5 steps {kept.format(0)}"):
        diverging(tmp_path / "last", 4, spoil)  # no later loss shows it
    assert not (tmp_path / "last" / "checkpoint.pt").exists()
    # Between two checkpoints it is the next loss that shows it; its cause is looked for.
    named = rf"^L_T became nan at step 3 of toy \(.* of (weight in|bias in|weight of) f_T is not finite\)|{culprit}"
    with pytest.raises(NonFiniteError, match=named):
        diverging(tmp_path / "between", 2, spoil)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(NonFiniteError, match=f"^{culprit} is not finite after 3 steps {kept.format(2)}"):
        diverging(tmp_path / "each", 2, spoil)
    assert Run(tmp_path / "each", {"f_T": nn.Linear(2, 1)}, {}).step == 2


def test_frozen_lets_gradients_through_and_restores_even_after_an_error() -> None:
    net, x = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), torch.randn(3, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="inside"), frozen(net):
        assert not net.training and not any(p.requires_grad for p in net.parameters())
        net(x).square().sum().backward()
        raise RuntimeError("inside")
    assert x.grad is not None and all(p.requires_grad and p.grad is None for p in net.parameters())


def test_the_learning_rate_is_a_function_of_the_step() -> None:
    schedule = Schedule(steps=40, batch=1, lr=0.2, one_cycle=True)
    optimizer = adam(nn.Linear(1, 1), schedule)

    def rate(schedule: Schedule, step: int) -> float:
        set_learning_rate(optimizer, schedule, step)
        return optimizer.param_groups[0]["lr"]

    rates = [rate(schedule, step) for step in range(40)]
    assert rates[:5] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2])  # a tenth to rise
    assert rates[22] == pytest.approx(0.1) and rates[4:] == sorted(rates[4:], reverse=True)  # then half a cosine
    assert 0 < rates[-1] < 0.001
    assert {rate(CONSTANT, step) for step in range(6)} == {0.1}


def test_the_running_mean_sees_the_last_values_only() -> None:
    rows = [{"step": k, "L_B": float(k)} for k in range(100)]
    assert running_mean(rows, "L_B") == pytest.approx(74.5)
    assert settled_mean(rows, "L_B") == running_mean(rows, "L_B")
    assert math.isnan(settled_mean(rows[:49], "L_B"))  # one lucky step meets no threshold
    assert math.isnan(running_mean([], "L_B")) and math.isnan(running_mean(rows, "val"))


def test_seeds_give_different_weights_for_different_roles() -> None:
    def first(*seed: int) -> float:
        seed_weights(*seed)
        return torch.rand(1).item()

    assert first(0, 1) == first(0, 1)
    assert len({first(*seed) for seed in [(0, 0), (0, 1), (1, 0), (1, 1), (0,), (1,)]}) == 6


def test_values_on_a_gpu_are_looked_at_together_and_named_as_if_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_waits", lambda value: isinstance(value, Tensor))  # as if they lay there
    monkeypatch.setattr(training, "LOOK_EVERY", 3)
    run, logged = Run(tmp_path, {"net": nn.Linear(1, 1)}, {}, "toy"), tmp_path / "metrics.jsonl"
    seen = []
    for step in run.steps(5):
        run.log(step, L_T=torch.tensor(step / 3), L_B=0.5)
        seen.append(len(logged.read_text().splitlines()))
    assert seen == [0, 0, 3, 3, 3] and len(logged.read_text().splitlines()) == 5  # the end looks, too
    assert run.rows == [{"step": k, "L_T": torch.tensor(k / 3).item(), "L_B": 0.5} for k in range(5)]
    for step in run.steps(9):
        run.log(step, L_T=torch.tensor(torch.nan if step == 6 else 1.0))
        if step == 6:  # two of three are queued
            with pytest.raises(NonFiniteError, match="L_T became nan at step 6 of toy; the checkpoint after 5 steps"):
                run.save()
            break
    assert Run(tmp_path, {"net": nn.Linear(1, 1)}, {}).step == 5


def test_fused_adam_is_adam_in_any_layout_and_after_a_restart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).to(
        memory_format=torch.channels_last
    )
    reference = deepcopy(ours).to(memory_format=torch.contiguous_format)
    slow = torch.optim.Adam(reference.parameters(), lr=CONSTANT.lr, foreach=False)
    x = torch.rand(2, 3, 8, 8)
    for _ in range(3):  # each time from the checkpoint of the time before
        optimizer = adam(ours, CONSTANT)
        run = Run(tmp_path, {"net": ours}, {"net": optimizer})
        for step in run.steps(run.step + 2):
            for network, how, given in (
                (ours, optimizer, x.to(memory_format=torch.channels_last)),
                (reference, slow, x),
            ):
                how.zero_grad()
                network(given).square().sum().backward()
                how.step()
            run.log(step)
    assert optimizer.param_groups[0]["fused"]
    for own, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other.contiguous(), rtol=1e-3, atol=1e-4)
