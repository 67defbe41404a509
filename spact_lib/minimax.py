"""The minimax game (Sec. 3.3): one iteration is step 1 (Eq. 9) on a batch, then step 2 (Eq. 7, 8) on the next one."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spact_lib.action_losses import ActionLoss, Classification
from spact_lib.branches import Branch
from spact_lib.config import ActionLossSpec, Schedule
from spact_lib.device import autocast
from spact_lib.initialize import update_privacy
from spact_lib.training import Run, frozen, set_learning_rate, settled_mean, without_graph

COLLAPSED = 0.01  # mean standard deviation of a pixel over the frames of a batch: below it, f_A shows all the same

log = logging.getLogger(__name__)


@dataclass
class Game:
    """The players and the rules.

    A batch is a dict: ``clip`` (B, T, C, H, W) in [0, 1] and ``label``; ``pair`` (B, 2 * n_frames, C, H, W) for a
    branch that sees the videos; ``image`` (N, 1, C, H, W) for one that sees stills, with ``image_label``, or with a
    second view ``image_further``; ``further`` clips (B, M * T, C, H, W) where L_T asks for them.
    """

    f_A: nn.Module
    f_T: nn.Module
    f_B: nn.Module
    branch: Branch
    omega: float
    optimizer_A: Optimizer
    optimizer_T: Optimizer
    optimizer_B: Optimizer
    precision: str = "float32"
    update_f_B: bool = True  # False: step 2 leaves f_B as it is (Table 3)
    action: ActionLoss = Classification(ActionLossSpec())
    f_B_steps: int = 1  # updates of f_B in an iteration; more than the paper's one: SPAct+
    ceiling: float | None = None  # of L_B in step 1, beyond which f_A gains nothing (ours); None: the paper's Eq. 9

    def anonymize(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clips and budget frames of a batch through f_A, in one pass.

        One pass is part of the method: all frames of an iteration share f_A's BatchNorm batch.

        Returns:
            The anonymized clip (B, T, C, H, W), further clips behind it where L_T asks for them, and budget frames
            (N, V, C, H, W), float32 in [0, 1].
        """
        clip, budget = self.action.frames(batch), self.branch.frames(batch)
        frames = torch.cat([clip.flatten(0, 1), budget.flatten(0, 1)])  # (B*T + N*V, C, H, W)
        with autocast(frames.device, self.precision, dims=2):
            out = self.f_A(frames)
        n = clip.shape[0] * clip.shape[1]
        return out[:n].unflatten(0, clip.shape[:2]), out[n:].unflatten(0, budget.shape[:2])

    def losses(self, clip: Tensor, budget: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(L_T, L_B) of anonymized frames."""
        with autocast(clip.device, self.precision, dims=3):
            loss_T = self.action.loss(self.f_T, clip, batch)
        with autocast(clip.device, self.precision, dims=self.branch.dims):
            loss_B = self.branch.loss(self.f_B, budget, batch)
        return loss_T, loss_B


def anonymizer_step(game: Game, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Step 1, Eq. 9: f_A learns to minimise L_T - omega * L_B, that is, to keep the action and to defeat f_B.

    Values of this and the other steps are scalars that nobody has looked at yet: a look would wait for the GPU.

    f_A: train mode, gets the gradient. f_T, f_B: eval mode, frozen; the gradient passes through them to f_A.
    """
    game.f_A.train()
    with frozen(game.f_T, game.f_B):
        clip, budget = game.anonymize(batch)
        loss_T, loss_B = game.losses(clip, budget, batch)
        gain = loss_B if game.ceiling is None else loss_B.clamp(max=game.ceiling)
        game.optimizer_A.zero_grad(set_to_none=True)
        (loss_T - game.omega * gain).backward()
    game.optimizer_A.step()
    # Collapse shows here: 0 when f_A gives every frame of the batch the same pixels.
    spread = clip.detach().flatten(0, 1).std(0).mean()
    return {"L_T_step1": loss_T.detach(), "L_B_step1": loss_B.detach(), "spread": spread}


def auxiliary_step(game: Game, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Step 2, Eq. 7 and 8: f_T minimises L_T, f_B minimises L_B, on the next batch, so that both stay strong.

    f_A: eval mode, frozen, and no graph at all: its gradient would be thrown away. f_T, f_B: train mode.
    """
    game.f_T.train()
    game.f_B.train(game.update_f_B)
    with frozen(game.f_A), without_graph():
        clip, budget = game.anonymize(batch)
    loss_T, loss_B = game.losses(clip, budget, batch)
    game.optimizer_T.zero_grad(set_to_none=True)
    game.optimizer_B.zero_grad(set_to_none=True)
    if game.update_f_B:
        (loss_T + loss_B).backward()  # they share no parameter, so each network gets the gradient of its own loss
        game.optimizer_B.step()
    else:
        loss_T.backward()
    game.optimizer_T.step()
    return {"L_T": loss_T.detach(), "L_B": loss_B.detach()}


def privacy_step(game: Game, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Step 2 for f_B alone (Eq. 8), on one more batch: SPAct+, not the paper's."""
    whose = game.f_B, game.branch, game.optimizer_B
    return {"L_B": update_privacy(*whose, batch, f_A=game.f_A, precision=game.precision)}


def play(
    game: Game, run: Run, schedule: Schedule, batches: Callable[[int, int], Iterator[dict[str, Tensor]]], *,
    threshold: float | None = None, on_step: Callable[[int], None] = lambda step: None,
) -> None:  # fmt: skip
    """The loop: step 1 and step 2 in turn, each on a batch of its own, until the budget ends or L_B reaches th_Bmax.

    Args:
        run: of the three networks and their optimizers.
        batches: (first, last) -> iterator over batches ``first`` to ``last`` - 1; iteration k uses 2k and 2k + 1, with
            n steps of f_B those from (1 + n)k on.
        threshold: th_Bmax, compared with the running mean of step 2's L_B, that is, against the updated f_B.
        on_step: called after each iteration, for pictures.
    """
    used = 1 + game.f_B_steps  # batches of an iteration
    stream = batches(used * run.step, used * schedule.steps)
    for step in run.steps(schedule.steps):
        for optimizer in (game.optimizer_A, game.optimizer_T, game.optimizer_B):
            set_learning_rate(optimizer, schedule, step)
        values = anonymizer_step(game, next(stream)) | auxiliary_step(game, next(stream))
        for _ in range(game.f_B_steps - 1):
            values |= privacy_step(game, next(stream))
        run.log(step, **values)
        on_step(step)
        if threshold is not None and settled_mean(run.rows, "L_B") >= threshold:
            run.stop()


def collapsed(spread: float, label: str) -> bool:
    """Whether f_A ended with one picture for everything; if so, it is logged.

    Args:
        spread: as ``anonymizer_step`` logs it, a mean over the last steps.
        label: of the run.
    """
    if found := spread < COLLAPSED:
        log.warning(
            "f_A of %s has collapsed: it gives all frames nearly the same pixels (spread %.4f), and hides everything, "
            "the action too; lower omega (of noise features: sigma) or the learning rate",
            label,
            spread,
        )
    return found
