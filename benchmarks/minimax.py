"""One minimax iteration with the paper's networks (112x112x16): plain and ours, and their share of the device's peak.

On a CPU 2 clips and 6 pairs, on a GPU 24 of each, the paper's batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Row, interleaved, peak, peak_memory, rows
from benchmarks.plain import PlainGame
from spact_lib.branches import build_branch
from spact_lib.config import PAPER, BranchSpec
from spact_lib.device import has_bfloat16, pick_device
from spact_lib.minimax import Game, anonymizer_step, auxiliary_step
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.training import adam, seed_weights

CLASSES = 101
SIZES = {"cpu": (2, 6), "cuda": (24, 24)}  # clips, pairs
VARIANTS = {"plain": None, "ours, float32": "float32", "ours": "bfloat16"}  # -> precision
ROUNDS = {"cpu": 3, "cuda": 20}

Iteration = Callable[[], object]


def batch(device: torch.device, clips: int, pairs: int) -> dict[str, Tensor]:
    """Noise in the shape of a batch: arithmetic takes as long on it as on videos."""
    view = PAPER.action_view
    return {
        "clip": torch.rand(clips, view.n_frames, 3, view.size, view.size, device=device),
        "label": torch.arange(clips, device=device) % CLASSES,
        "pair": torch.rand(pairs, 2, 3, view.size, view.size, device=device),
    }


def game(device: torch.device, precision: str) -> Game:
    """SPAct's game of the paper profile, from scratch."""
    seed_weights(0)
    branch = build_branch(BranchSpec(loss="nt_xent", network=PAPER.f_B), 0)
    networks = (Anonymizer(PAPER.width), build_action_network(PAPER.f_T, CLASSES), branch.build())
    f_A, f_T, f_B = (network.to(device) for network in networks)
    optimizers = (adam(network, PAPER.minimax) for network in (f_A, f_T, f_B))
    return Game(f_A, f_T, f_B, branch, 0.5, *optimizers, precision)


def iteration(variant: str) -> Iteration:
    """A variant's iteration, ready to be called again and again."""
    device = pick_device()
    batches = [batch(device, *SIZES[device.type]) for _ in range(2)]
    precision = VARIANTS[variant]
    if precision is None:
        plain = PlainGame(game(device, "float32"), PAPER.minimax.lr)
        return lambda: (plain.anonymizer_step(batches[0]), plain.auxiliary_step(batches[1]))
    ours = game(device, precision)
    return lambda: (anonymizer_step(ours, batches[0]), auxiliary_step(ours, batches[1]))


def once(variant: str) -> None:
    """Two iterations, for the memory they take: the first has no state of the optimizers."""
    step = iteration(variant)
    step(), step()


def counted(step: Iteration) -> tuple[float, float]:
    """FLOP (2 per multiply-add) of an iteration, forward and backward: of all networks, and of our f_T alone."""
    with FlopCounterMode(display=False) as counter:
        step()
    of_f_T = counter.get_flop_counts().get("ActionNetwork", {})
    return float(counter.get_total_flops()), float(sum(of_f_T.values()))


def bound(variant: str, total: float, of_f_T: float, device: torch.device) -> float:
    """Seconds of an iteration at this device's peak, each part in the precision it is computed in."""
    if VARIANTS[variant] != "bfloat16" or not has_bfloat16(device.type):
        return total / peak(torch.float32)
    if device.type != "cpu":
        return total / peak(torch.bfloat16)
    return (total - of_f_T) / peak(torch.bfloat16) + of_f_T / peak(torch.float32)


def run() -> list[Row]:
    """The records; the columns: see ``harness.rows``, and peak memory, counted work, share of the device's peak."""
    device = pick_device()
    memory = {name: round(peak_memory(once, name)) for name in VARIANTS}
    steps = {name: iteration(name) for name in VARIANTS}
    work = {name: counted(step) for name, step in steps.items()}
    seconds = interleaved(steps, ROUNDS[device.type])
    clips, pairs = SIZES[device.type]
    share = {name: 100 * bound(name, *work[name], device) / sorted(own)[len(own) // 2] for name, own in seconds.items()}
    return rows(
        f"minimax iteration, {clips} clips, {pairs} pairs", seconds, "plain",
        peak_MB=memory,
        GFLOP={name: round(total / 1e9, 1) for name, (total, _) in work.items()},
        **{"%_of_peak": {name: round(each) for name, each in share.items()}},
    )  # fmt: skip
