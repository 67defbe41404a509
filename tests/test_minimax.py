from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spact_lib import device, minimax, training
from spact_lib.branches import build_branch
from spact_lib.config import BranchSpec, Schedule
from spact_lib.losses import nt_xent
from spact_lib.minimax import Game, anonymizer_step, auxiliary_step, play
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.training import NonFiniteError, Run, adam

OMEGA = 0.7
SCHEDULE = Schedule(steps=4, batch=3, lr=1e-3)
LOSSES = ["nt_xent", "supervised"]
Batch = dict[str, Tensor]


def make_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "clip": torch.rand(3, 4, 3, 16, 16, generator=generator),
        "label": torch.tensor([2, 0, 1]),
        "pair": torch.rand(3, 2, 3, 16, 16, generator=generator),
        "image": torch.rand(5, 1, 3, 16, 16, generator=generator),
        "image_label": torch.randint(0, 2, (5, 4), generator=generator),
    }


def make_game(loss: str, network: str = "slim8", **options: object) -> Game:
    torch.manual_seed(0)
    branch = build_branch(BranchSpec(loss=loss, network=network, **options), 4)
    f_A, f_T, f_B = Anonymizer(2), build_action_network("r3d_slim", 3), branch.build()
    return Game(f_A, f_T, f_B, branch, OMEGA, *(adam(net, SCHEDULE) for net in (f_A, f_T, f_B)))


def networks(game: Game) -> dict[str, nn.Module]:
    return {"f_A": game.f_A, "f_T": game.f_T, "f_B": game.f_B}


def moved(game: Game, before: dict[str, nn.Module]) -> dict[str, tuple[bool, bool]]:
    """Of each network: did its parameters move, did its BatchNorm statistics? (All or none, or this fails.)"""
    result = {}
    for name, net in networks(game).items():
        kinds = []
        # A bias before a BatchNorm has no gradient worth the name; weights tell.
        weights = {key for key, _ in net.named_parameters() if key.endswith("weight")}
        statistics = {key for key, _ in net.named_buffers() if "running" in key or "num_batches" in key}
        old, new = before[name].state_dict(), net.state_dict()
        for keys in (weights, statistics):
            changed = {key for key in keys if not torch.equal(old[key], new[key])}
            assert changed in (set(), keys), f"{name}: only some moved: {sorted(changed)}"
            kinds.append(bool(changed))
        rest = set(old) - weights - statistics
        assert kinds[0] or all(torch.equal(old[key], new[key]) for key in rest)
        result[name] = tuple(kinds)
    return result


@pytest.mark.parametrize("loss", LOSSES)
def test_who_learns_in_which_step(loss: str) -> None:
    game = make_game(loss)
    for round_ in range(2):  # the second one starts from what the first one left behind
        before = deepcopy(networks(game))
        values = anonymizer_step(game, make_batch(2 * round_))
        assert moved(game, before) == {"f_A": (True, True), "f_T": (False, False), "f_B": (False, False)}
        assert set(values) == {"L_T_step1", "L_B_step1", "spread"}
        before = deepcopy(networks(game))
        values = auxiliary_step(game, make_batch(2 * round_ + 1))
        assert moved(game, before) == {"f_A": (False, False), "f_T": (True, True), "f_B": (True, True)}
        assert set(values) == {"L_T", "L_B"}
        assert all(p.requires_grad for net in networks(game).values() for p in net.parameters())


def test_a_frozen_f_B_stays_as_it_is_while_f_A_and_f_T_learn() -> None:
    game = make_game("nt_xent")
    game.update_f_B = False
    before = deepcopy(networks(game))
    anonymizer_step(game, make_batch(0))
    values = auxiliary_step(game, make_batch(1))
    assert moved(game, before) == {"f_A": (True, True), "f_T": (True, True), "f_B": (False, False)}
    assert set(values) == {"L_T", "L_B"} and all(p.grad is None for p in game.f_B.parameters())


def test_omega_0_gives_f_A_the_gradient_of_L_T_alone() -> None:
    game, batch = make_game("nt_xent"), make_batch(0)
    game.omega = 0.0
    nets = deepcopy(networks(game))
    for name, net in nets.items():
        net.train(name == "f_A")
    loss_T, _ = naive_losses(*nets.values(), "nt_xent", batch)
    anonymizer_step(game, batch)
    assert_gradients(game.f_A, loss_T, nets["f_A"])


@pytest.mark.parametrize("beyond", [True, False])
def test_beyond_the_ceiling_of_L_B_f_A_gets_the_gradient_of_L_T_alone(beyond: bool) -> None:
    game, batch = make_game("nt_xent"), make_batch(0)
    nets = deepcopy(networks(game))
    for name, net in nets.items():
        net.train(name == "f_A")
    loss_T, loss_B = naive_losses(*nets.values(), "nt_xent", batch)
    game.ceiling = loss_B.item() + (-0.01 if beyond else 0.01)
    values = anonymizer_step(game, batch)
    assert values["L_B_step1"] == pytest.approx(loss_B.item(), rel=1e-5)  # told as it is
    assert_gradients(game.f_A, loss_T if beyond else loss_T - OMEGA * loss_B, nets["f_A"])


# --- other self-supervised losses (Table 5), and a 3-D f_B (Table 3) ---

MOCO = {"queue": 8, "momentum": 0.9}


def test_moco_judges_in_step_1_and_learns_in_step_2() -> None:
    game = make_game("moco", **MOCO)
    before = deepcopy(game.f_B.state_dict())
    anonymizer_step(game, make_batch(0))
    assert all(torch.equal(value, before[key]) for key, value in game.f_B.state_dict().items())
    auxiliary_step(game, make_batch(1))
    after = game.f_B.state_dict()
    assert after["at"] == 3 and (after["queue"] != before["queue"]).any(1).tolist() == [True] * 3 + [False] * 5
    torch.testing.assert_close(after["queue"][:3].norm(dim=1), torch.ones(3))
    # The key network follows the query network of before this step, which was still its copy; then the query moves.
    assert torch.equal(after["key.members.0.0.0.weight"], before["key.members.0.0.0.weight"])
    assert not torch.equal(after["query.members.0.0.0.weight"], before["query.members.0.0.0.weight"])
    old_key, query = deepcopy(game.f_B.key.state_dict()), deepcopy(game.f_B.query.state_dict())
    auxiliary_step(game, make_batch(2))
    name = "members.0.0.0.weight"
    torch.testing.assert_close(game.f_B.key.state_dict()[name], 0.9 * old_key[name] + 0.1 * query[name])
    assert all(p.grad is None for p in game.f_B.key.parameters())


def test_moco_of_the_queue_wraps_around_and_keeps_the_newest_keys() -> None:
    game = make_game("moco", **MOCO)
    for k in range(3):
        auxiliary_step(game, make_batch(k))
    assert game.f_B.at == 1  # nine keys in a queue of eight


def test_of_more_keys_than_the_queue_of_moco_holds_the_newest_stay() -> None:
    f_B = make_game("moco", queue=2, momentum=0.9).f_B
    keys = F.normalize(torch.randn(3, f_B.queue.shape[1], generator=torch.Generator().manual_seed(0)), dim=1)
    f_B.enqueue(keys)
    assert {*map(tuple, f_B.queue.tolist())} == {*map(tuple, keys[1:].tolist())}


def test_rotations_are_told_apart_by_the_right_labels() -> None:
    game, batch = make_game("rotnet"), make_batch(0)
    frames = game.branch.frames(batch)
    assert frames.shape == (3, 1, 3, 16, 16)
    f_B = game.f_B.eval()
    expected = [
        F.cross_entropy(f_B(torch.rot90(frame, k, (1, 2))[None])[0], torch.tensor([k]))
        for k in range(4)
        for frame in frames[:, 0]
    ]
    assert torch.isclose(game.branch.loss(f_B, frames, batch), sum(expected) / 12, rtol=1e-5)


def test_stills_contrast_two_views_of_each_image() -> None:
    game, batch = make_game("nt_xent_stills"), make_batch(0)
    batch["image_further"] = torch.rand(5, 1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    del batch["pair"], batch["image_label"]
    before = deepcopy(networks(game))
    anonymizer_step(game, batch)
    assert moved(game, before) == {"f_A": (True, True), "f_T": (False, False), "f_B": (False, False)}
    auxiliary_step(game, batch)
    assert moved(game, before) == {name: (True, True) for name in before}
    f_B, frames = game.f_B.eval(), game.branch.frames(batch)
    first, second = (f_B(batch[key][:, 0])[0] for key in ("image", "image_further"))
    assert torch.isclose(game.branch.loss(f_B, frames, batch), nt_xent(first, second, 0.1), rtol=1e-4)


def test_a_spatio_temporal_f_B_contrasts_two_clips_of_a_video() -> None:
    game, batch = make_game("nt_xent", "r3d_slim", n_frames=4), make_batch(0)
    batch["pair"] = torch.rand(3, 8, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    before = deepcopy(networks(game))
    anonymizer_step(game, batch)
    assert moved(game, before) == {"f_A": (True, True), "f_T": (False, False), "f_B": (False, False)}
    auxiliary_step(game, batch)
    assert moved(game, before) == {name: (True, True) for name in before}
    f_B = game.f_B.eval()
    first, second = (f_B(batch["pair"][:, 4 * k : 4 * k + 4])[0] for k in range(2))
    assert torch.isclose(game.branch.loss(f_B, batch["pair"], batch), nt_xent(first, second, 0.1), rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_modes_during_the_steps(loss: str) -> None:
    game, seen = make_game(loss), []
    for name, net in networks(game).items():
        net.register_forward_pre_hook(
            lambda module, given, name=name: seen.append(
                (name, module.training, all(p.requires_grad for p in module.parameters()), torch.is_grad_enabled())
            )
        )
    anonymizer_step(game, make_batch(0))
    assert seen == [("f_A", True, True, True), ("f_T", False, False, True), ("f_B", False, False, True)]
    seen.clear()
    auxiliary_step(game, make_batch(1))
    assert seen == [("f_A", False, False, False), ("f_T", True, True, True), ("f_B", True, True, True)]


def naive_losses(f_A: nn.Module, f_T: nn.Module, f_B: nn.Module, loss: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """L_T and L_B with every network in the graph, frame by frame in the layout of the paper."""
    clip, budget = batch["clip"], batch["pair" if loss == "nt_xent" else "image"]
    frames = [frame for video in clip for frame in video] + [frame for video in budget for frame in video]
    out = f_A(torch.stack(frames))
    clips = torch.stack([out[4 * b : 4 * b + 4] for b in range(3)])
    out = out[12:]
    loss_T = F.cross_entropy(f_T(clips), batch["label"])
    if loss == "supervised":
        return loss_T, F.binary_cross_entropy_with_logits(f_B(out)[0], batch["image_label"].float())
    z = f_B(out)[0]
    return loss_T, nt_xent(z[0::2], z[1::2], 0.1)


def assert_gradients(net: nn.Module, loss: Tensor, naive: nn.Module) -> None:
    expected = torch.autograd.grad(loss, list(naive.parameters()), retain_graph=True)
    scale = max(g.abs().max() for g in expected)
    for (name, parameter), gradient in zip(net.named_parameters(), expected, strict=True):
        torch.testing.assert_close(
            parameter.grad / scale, gradient / scale, rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_f_A_gets_the_gradient_of_L_T_minus_omega_L_B(loss: str) -> None:
    game, batch = make_game(loss), make_batch(0)
    nets = deepcopy(networks(game))
    for name, net in nets.items():
        net.train(name == "f_A")
    loss_T, loss_B = naive_losses(*nets.values(), loss, batch)
    values = anonymizer_step(game, batch)
    assert values["L_T_step1"] == pytest.approx(loss_T.item(), rel=1e-5)
    assert values["L_B_step1"] == pytest.approx(loss_B.item(), rel=1e-5)
    assert_gradients(game.f_A, loss_T - OMEGA * loss_B, nets["f_A"])
    assert all(p.grad is None for net in (game.f_T, game.f_B) for p in net.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_skipping_the_gradient_of_f_A_changes_nothing_in_step_2(loss: str) -> None:
    game, batch = make_game(loss), make_batch(1)
    nets = deepcopy(networks(game))
    for name, net in nets.items():
        net.train(name != "f_A")
    loss_T, loss_B = naive_losses(*nets.values(), loss, batch)
    assert torch.autograd.grad(loss_T, list(nets["f_A"].parameters()), retain_graph=True)  # it is in the graph
    values = auxiliary_step(game, batch)
    assert values == pytest.approx({"L_T": loss_T.item(), "L_B": loss_B.item()}, rel=1e-5)
    assert_gradients(game.f_T, loss_T, nets["f_T"])
    assert_gradients(game.f_B, loss_B, nets["f_B"])
    assert all(p.grad is None for p in game.f_A.parameters())
    for name in ("f_T", "f_B"):  # the same BatchNorm statistics, too
        for key, value in nets[name].named_buffers():
            torch.testing.assert_close(networks(game)[name].get_buffer(key), value)


def test_all_frames_share_one_batch_norm_batch_of_f_A() -> None:
    game, batches = make_game("nt_xent"), []
    game.f_A.register_forward_pre_hook(lambda module, given: batches.append(given[0]))
    clip, budget = game.anonymize(make_batch(0))
    assert [len(frames) for frames in batches] == [3 * 4 + 3 * 2]
    assert clip.shape == (3, 4, 3, 16, 16) and budget.shape == (3, 2, 3, 16, 16)


@pytest.mark.parametrize("able", [True, False])
def test_f_A_and_f_B_run_in_bfloat16_where_the_cpu_can_but_f_T_stays_in_float32_and_values_have_no_graph(
    able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda device_type: able)
    game, seen = make_game("nt_xent"), {}
    game.precision = "bfloat16"
    for name, net in networks(game).items():
        first = next(module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
        first.register_forward_hook(lambda module, given, out, name=name: seen.update({name: out.dtype}))
    for step in (anonymizer_step, auxiliary_step, minimax.privacy_step):
        seen.clear()
        assert not any(value.requires_grad for value in step(game, make_batch(0)).values())  # no graph is kept alive
        f_T = {} if step is minimax.privacy_step else {"f_T": torch.float32}
        assert seen == dict.fromkeys(("f_A", "f_B"), torch.bfloat16 if able else torch.float32) | f_T


def test_an_ensemble_averages_its_losses() -> None:
    game, batch = make_game("nt_xent", "slim8+slim8"), make_batch(0)
    z = game.f_B.eval()(batch["pair"].flatten(0, 1))
    expected = [nt_xent(member[0::2], member[1::2], 0.1) for member in z]
    assert torch.isclose(game.branch.loss(game.f_B, batch["pair"], batch), sum(expected) / 2)


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Steps that note which batch they were given; L_B of step 2 is the batch's number."""
    used: list[tuple[str, int]] = []

    def step(name: str, values: Callable[[int], dict[str, float]]) -> Callable[[Game, int], dict[str, float]]:
        return lambda game, batch: used.append((name, batch)) or values(batch)

    monkeypatch.setattr(minimax, "anonymizer_step", step("f_A", lambda k: {"L_B_step1": 1000.0}))
    monkeypatch.setattr(minimax, "auxiliary_step", step("f_T, f_B", lambda k: {"L_B": float(k)}))
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    return used


def play_in(folder: Path, steps: int, *, f_B_steps: int = 1, **options: object) -> Run:
    game = make_game("nt_xent")
    game.f_B_steps = f_B_steps
    run = Run(folder, networks(game), {"f_A": game.optimizer_A}, "minimax")

    def batches(first: int, last: int) -> Iterator[int]:
        return iter(range(first, last))

    play(game, run, SCHEDULE.model_copy(update={"steps": steps}), batches, **options)
    return run


def test_each_step_takes_the_next_batch_also_after_a_restart(tmp_path: Path, canned: list[tuple[str, int]]) -> None:
    assert play_in(tmp_path, 2).step == 2
    assert canned == [("f_A", 0), ("f_T, f_B", 1), ("f_A", 2), ("f_T, f_B", 3)]
    canned.clear()
    seen: list[int] = []
    assert play_in(tmp_path, 4, on_step=seen.append).step == 4
    assert canned == [("f_A", 4), ("f_T, f_B", 5), ("f_A", 6), ("f_T, f_B", 7)]
    assert seen == [2, 3]


def test_more_steps_of_f_B_take_more_batches_also_after_a_restart(
    tmp_path: Path, canned: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minimax, "privacy_step", lambda game, k: canned.append(("f_B", k)) or {"L_B": float(k)})
    iteration = [("f_A", 0), ("f_T, f_B", 1), ("f_B", 2), ("f_B", 3)]
    for first in (0, 1):
        canned.clear()
        run = play_in(tmp_path, first + 1, f_B_steps=3)
        assert canned == [(who, k + 4 * first) for who, k in iteration]
        assert run.rows[-1]["L_B"] == 4 * first + 3  # against the f_B that was updated most


def test_a_step_of_f_B_alone_moves_f_B_alone_down_the_gradient_of_L_B() -> None:
    game, batch = make_game("nt_xent"), make_batch(1)
    nets, before = deepcopy(networks(game)), deepcopy(networks(game))
    for name, net in nets.items():
        net.train(name != "f_A")
    game.f_B.eval()  # whoever had it before
    _, loss_B = naive_losses(*nets.values(), "nt_xent", batch)
    assert minimax.privacy_step(game, batch) == pytest.approx({"L_B": loss_B.item()}, rel=1e-5)
    assert_gradients(game.f_B, loss_B, nets["f_B"])
    assert moved(game, before) == {"f_A": (False, False), "f_T": (False, False), "f_B": (True, True)}


def test_th_Bmax_is_compared_with_the_mean_of_step_2s_L_B(
    tmp_path: Path, canned: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Step 2 sees L_B 1, 3, 5, 7, ...: means of two 2, 4, 6. Step 1's L_B of 1000 must not count.
    monkeypatch.setattr(training, "MEAN_WINDOW", 2)
    assert play_in(tmp_path / "3", 9, threshold=4.0).step == 3
    assert play_in(tmp_path / "3", 9, threshold=4.0).step == 3  # asked again, it stays stopped
    assert play_in(tmp_path / "full", 9, threshold=1.0).step == 2  # not before the window is full
    assert play_in(tmp_path / "never", 9, threshold=16.5).step == 9


def test_a_non_finite_loss_stops_with_its_name_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    game = make_game("nt_xent")
    run = Run(tmp_path, networks(game), {}, "minimax")

    def batches(first: int, last: int) -> Iterator[Batch]:
        for k in range(first, last):
            if k == 3:  # step 2 of the second iteration
                game.f_B.members[0][1][2].bias.data.fill_(torch.nan)
            yield make_batch(k)

    with pytest.raises(NonFiniteError, match="^L_B became nan at step 1 of minimax"):
        play(game, run, SCHEDULE, batches)
    kept = make_game("nt_xent")
    assert Run(tmp_path, networks(kept), {}).step == 1
    assert all(torch.isfinite(p).all() for net in networks(kept).values() for p in net.parameters())


def test_gradients_of_two_steps_do_not_add_up() -> None:
    game, batch = make_game("nt_xent"), make_batch(0)
    for optimizer in (game.optimizer_A, game.optimizer_T, game.optimizer_B):
        optimizer.param_groups[0]["lr"] = 0.0  # the second step starts where the first one did
    steps = {anonymizer_step: ("f_A",), auxiliary_step: ("f_T", "f_B"), minimax.privacy_step: ("f_B",)}
    for step, learning in steps.items():
        step(game, batch)
        first = {name: [p.grad.clone() for p in networks(game)[name].parameters()] for name in learning}
        step(game, batch)
        for name, gradients in first.items():
            for parameter, gradient in zip(networks(game)[name].parameters(), gradients, strict=True):
                torch.testing.assert_close(parameter.grad, gradient)


def test_all_three_learn_at_the_rate_of_the_step(tmp_path: Path, canned: list[tuple[str, int]]) -> None:
    game, schedule, rates = make_game("nt_xent"), SCHEDULE.model_copy(update={"one_cycle": True}), []
    optimizers = (game.optimizer_A, game.optimizer_T, game.optimizer_B)
    run = Run(tmp_path, networks(game), {}, "minimax")
    play(
        game, run, schedule, lambda first, last: iter(range(first, last)),
        on_step=lambda step: rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers]),
    )  # fmt: skip
    expected = []
    for step in range(schedule.steps):
        training.set_learning_rate(optimizers[0], schedule, step)
        expected.append([optimizers[0].param_groups[0]["lr"]] * 3)
    assert rates == expected and len({rate for [rate, *_] in rates}) == 3  # up in one step, then down


class Scaled(nn.Module):
    """An f_A of one parameter: frames times a factor, plus a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor, self.shade = factor, nn.Parameter(torch.tensor(0.3))

    def forward(self, frames: Tensor) -> Tensor:
        return self.factor * frames + self.shade


def test_the_spread_is_that_of_pixels_over_frames_and_0_for_a_constant_f_A() -> None:
    game, batch = make_game("nt_xent"), make_batch(0)
    for factor in (0.0, 0.5):
        game.f_A = Scaled(factor)
        game.optimizer_A = adam(game.f_A, SCHEDULE)
        frames = batch["clip"].flatten(0, 1)
        by_hand = factor * (frames - frames.mean(0)).square().sum(0).div(len(frames) - 1).sqrt().mean()
        assert float(anonymizer_step(game, batch)["spread"]) == pytest.approx(by_hand.item(), rel=1e-5, abs=1e-7)
