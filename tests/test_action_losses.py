"""L_T with a further term (TeD-SPAD): closed forms, whose gradient it is, which clips it sees; SPAct's stays."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_data import CPU, VIEW, Arrays, noise, numbered, numbers
from test_minimax import OMEGA, assert_gradients, make_batch, make_game, moved, networks
from torch import Tensor, nn

from spact_lib.action_losses import build_action_loss
from spact_lib.config import ActionLossSpec
from spact_lib.data import ClipDataset, apply_colours, other_start, to_float, training_batches
from spact_lib.losses import classification_loss, nt_xent, triplet_margin
from spact_lib.minimax import Game, anonymizer_step, auxiliary_step
from spact_lib.networks.action import ACTION_NETWORKS, build_action_network

TRIPLETS = ActionLossSpec(loss="temporally_distinct", weight=0.1, margin=1.0)


# --- the loss ---


def test_triplets_closed_forms() -> None:
    zero = torch.zeros(4, 2)
    at = [torch.tensor([[x, 0.0]]).expand(4, 2) for x in (3.0, 5.0)]
    assert triplet_margin(zero, zero, zero, 1.0) == pytest.approx(1.0)  # nothing told apart: the margin
    assert triplet_margin(zero, *at, 1.0) == 0  # the other moment is further away by more than the margin
    assert triplet_margin(zero, *at, 2.5) == pytest.approx(0.5)
    assert triplet_margin(zero, *at[::-1], 1.0) == pytest.approx(3.0)
    mixed = torch.stack([torch.tensor([3.0, 4.0]), torch.zeros(2)])  # distances 5 and 0, the mean over the batch
    assert triplet_margin(torch.zeros(2, 2), mixed, torch.zeros(2, 2), 1.0) == pytest.approx((6 + 1) / 2, rel=1e-5)


@pytest.mark.parametrize("name", ACTION_NETWORKS)
def test_features_are_what_the_last_layer_reads(name: str) -> None:
    torch.manual_seed(0)
    f_T, clips = build_action_network(name, 3).eval(), torch.rand(2, 4, 3, 16, 16)
    with torch.no_grad():
        logits, features = f_T.features(clips)
        assert features.dim() == 2 and len(features) == 2
        assert torch.equal(logits, f_T(clips)) and torch.equal(logits, f_T.body.fc(features))


# --- the game ---


def make_triplet_game() -> Game:
    game = make_game("nt_xent")
    game.action = build_action_loss(TRIPLETS)
    return game


def with_further(seed: int) -> dict[str, Tensor]:
    further = torch.rand(3, 8, 3, 16, 16, generator=torch.Generator().manual_seed(seed + 50))
    return make_batch(seed) | {"further": further}


def naive_losses(f_A: nn.Module, f_T: nn.Module, f_B: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """L_T with triplets and L_B, every network in the graph, from the formula."""
    parts = [batch["clip"], batch["further"][:, :4], batch["further"][:, 4:], batch["pair"]]
    out = f_A(torch.cat([torch.cat([video for video in group]) for group in parts]))
    *clips, frames = out.split([12, 12, 12, 6])
    pooled: list[Tensor] = []
    hook = f_T.body.avgpool.register_forward_hook(lambda layer, given, out: pooled.append(out.flatten(1)))
    logits = [f_T(clip.unflatten(0, (3, 4))) for clip in clips]
    hook.remove()
    near, far = ((pooled[0] - other + 1e-6).pow(2).sum(1).sqrt() for other in pooled[1:])
    distinct = torch.stack([max(n - f + 1.0, torch.zeros(())) for n, f in zip(near, far, strict=True)]).mean()
    z = f_B(frames)[0]
    return F.cross_entropy(logits[0], batch["label"]) + 0.1 * distinct, nt_xent(z[0::2], z[1::2], 0.1)


def test_triplets_reach_f_A_in_step_1_and_f_T_in_step_2() -> None:
    game, batch = make_triplet_game(), with_further(0)
    nets = deepcopy(networks(game))
    for name, net in nets.items():
        net.train(name == "f_A")
    loss_T, loss_B = naive_losses(*nets.values(), batch)
    before = deepcopy(networks(game))
    values = anonymizer_step(game, batch)
    assert values["L_T_step1"] == pytest.approx(loss_T.item(), rel=1e-5)
    assert_gradients(game.f_A, loss_T - OMEGA * loss_B, nets["f_A"])
    assert moved(game, before) == {"f_A": (True, True), "f_T": (False, False), "f_B": (False, False)}

    game, batch = make_triplet_game(), with_further(1)
    nets = deepcopy(networks(game))
    for name, net in nets.items():
        net.train(name != "f_A")
    loss_T, loss_B = naive_losses(*nets.values(), batch)
    values = auxiliary_step(game, batch)
    assert values == pytest.approx({"L_T": loss_T.item(), "L_B": loss_B.item()}, rel=1e-5)
    assert_gradients(game.f_T, loss_T, nets["f_T"])
    assert_gradients(game.f_B, loss_B, nets["f_B"])
    assert all(p.grad is None for p in game.f_A.parameters())


def test_the_term_is_not_idle() -> None:
    """Without it f_A would get another gradient: the test above would not notice a weight of 0 on both sides."""
    gradients = []
    for weight in (0.0, 0.1):
        game = make_game("nt_xent")
        game.action = build_action_loss(TRIPLETS.model_copy(update={"weight": weight}))
        anonymizer_step(game, with_further(0))
        gradients.append(game.f_A.to_rgb.weight.grad)
    assert not torch.allclose(*gradients)


def test_SPActs_own_L_T_is_classification_bit_for_bit() -> None:
    game, batch = make_game("nt_xent"), with_further(0)
    assert torch.equal(game.action.frames(batch), batch["clip"]) and game.action.further == ()
    game.f_T.eval()
    clip, budget = game.anonymize(batch)
    loss, _ = game.losses(clip, budget, batch)
    expected = classification_loss(game.f_T(clip).float(), batch["label"])
    assert torch.equal(loss, expected)
    ours, plain = (
        torch.autograd.grad(each, list(game.f_T.parameters()), retain_graph=True) for each in (loss, expected)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


# --- the clips ---


def test_further_clips_are_the_same_moment_and_one_that_does_not_overlap() -> None:
    dataset = ClipDataset(Arrays(numbered(25)), [0], None, VIEW, further=("same", "other"))
    samples = [dataset[0, step, 0] for step in range(200)]
    starts = set()
    for sample in samples:
        clip, same, other = numbers(sample["clip"]), *(numbers(part) for part in sample["further"].split(4))
        assert same == clip and other == list(range(other[0], other[0] + 7, 2))
        assert abs(other[0] - clip[0]) >= 7  # frames 0 to 6 of a clip
        starts.add(other[0])
    assert starts == set(range(19))
    rng = np.random.default_rng(0)
    assert {other_start(10, VIEW, 1, rng) for _ in range(20)} == {3}  # too short: as far away as it goes
    assert other_start(4, VIEW, 0, rng) == 0  # one moment only


def test_further_clips_leave_clip_and_pair_as_they_are() -> None:
    options = {"seed": 3, "sampler": "no_constraint"}
    plain, more = (
        ClipDataset(Arrays(noise(25)), [0], None, VIEW, further=f, **options) for f in ((), ("same", "other"))
    )
    for step in range(5):
        one, other = plain[0, step, 0], more[0, step, 0]
        assert set(other) - set(one) == {"further", "further_colours"}
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert "further" not in more[0, 0]  # a test clip


def test_every_further_clip_has_an_augmentation_of_its_own() -> None:
    still = np.repeat(noise(1), 25, axis=0)
    dataset = ClipDataset(Arrays(still, still), [0, 1], None, VIEW, further=("same", "other"))
    (batch,) = training_batches(dataset, 2, 0, 1)
    given, own = batch["further"].clone(), batch["further_colours"]
    batch = to_float(batch, CPU)
    assert set(batch) == {"clip", "further"} and batch["further"].shape == (2, 8, 3, 12, 12)
    for video in range(2):
        for k in range(2):
            part = slice(4 * k, 4 * k + 4)
            expected = apply_colours(given[video, part][None].float() / 255, own[video, k][None])[0]
            assert torch.equal(batch["further"][video, part], expected)
            assert torch.equal(expected[0], expected[3])  # all frames of a clip alike
        clips = [batch["clip"][video, 0], batch["further"][video, 0], batch["further"][video, 4]]
        assert not any(torch.allclose(clips[a], clips[b], atol=0.01) for a, b in ((0, 1), (0, 2), (1, 2)))
