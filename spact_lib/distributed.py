"""Many processes that train one network together, started by Accelerate: who this one is, what it asks of the others.

Under ``accelerate launch`` or ``notebook_launcher`` every process runs the whole program, takes its part of each batch
and ends each step with the same weights; the main one (rank 0) alone writes. Alone, nothing here does or costs
anything. All processes must come to ``on_main``, ``mean``, ``gather`` and ``gathered`` in the same order, or they wait
for each other for ever.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from accelerate import PartialState

PATIENCE = timedelta(days=30)  # the others wait while the main process decodes, or waits for a lock
T = TypeVar("T")


def state() -> "PartialState | None":
    """Accelerate's view of the processes; None where this one is alone."""
    # Asked for every time: notebook_launcher forks processes that were alone before.
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import PartialState

    cpu = os.environ.get("SPACT_DEVICE") == "cpu" or not torch.cuda.is_available()
    return PartialState(cpu=cpu, timeout=PATIENCE)


def which() -> tuple[int, int]:
    """Number of this process (rank; 0: the main one), and how many there are."""
    now = state()
    return (now.process_index, now.num_processes) if now else (0, 1)


def is_main() -> bool:
    """Whether this process writes: the first of many, or the only one."""
    return which()[0] == 0


def own_part(n: int) -> slice:
    """Which of ``n`` items in order are this process's."""
    rank, ranks = which()
    return slice(n * rank // ranks, n * (rank + 1) // ranks)


def on_main(function: Callable[[], T]) -> T:
    """What ``function()`` returns, or raises, in the main process; the others wait, then return or raise the same."""
    if state() is None:
        return function()
    from accelerate.utils import broadcast_object_list

    outcome: list = [None, None]
    if is_main():
        try:
            outcome[0] = function()
        except Exception as error:
            outcome[1] = error
    value, error = broadcast_object_list(outcome)
    if error is not None:
        raise error
    return value


def together(modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> None:
    """Let networks learn as one: BatchNorm over all parts of a batch (GPUs), gradients averaged before every step.

    Args:
        optimizers: under the names of their networks.

    Neither DistributedDataParallel nor ``Accelerator.prepare``: in step 1 f_T and f_B are frozen and only f_A's
    gradient is asked for, in step 2 the reverse; f_B is asked for more than ``forward`` (MoCo's queue), f_T three times
    a step for features (TeD-SPAD). DDP reduces what its own ``forward`` saw, all parameters that needed a gradient when
    it was built. Here the bare networks compute, and an optimizer's step averages the gradients it is about to use.
    What DDP would gain, the exchange beside the backward pass, is small: 4 bytes for each weight in an iteration.
    """
    now = state()
    if now is None:
        return
    if now.device.type == "cuda":  # on a CPU it raises: there each process normalises its own part
        for module in modules.values():
            synchronised(module)
    for name, optimizer in optimizers.items():
        optimizer.register_step_pre_hook(lambda *_, module=modules[name]: _average(module))


def synchronised(module: nn.Module) -> nn.Module:
    """The same module, its BatchNorm layers replaced by ones that are one over all processes.

    By timm, because torch's own conversion loses the activation inside of timm's ``BatchNormAct2d`` (MobileNetV1).
    """
    return convert_sync_batchnorm(module)


@torch.no_grad()
def _average(module: nn.Module) -> None:
    # The parts of a batch are of one size, so the mean of their gradients is the gradient of the whole batch's mean.
    # The running statistics of BatchNorm, which differ on CPUs, are averaged too, so that all stay the same network.
    from accelerate.utils import reduce

    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    tensors = gradients + [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    averaged = reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean")  # one exchange, not hundreds
    for tensor, part in zip(tensors, averaged.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def mean(values: dict[str, float]) -> dict[str, float]:
    """Each value's mean over the processes: of the parts of a batch, the batch's. Scalar tensors stay tensors, so that
    nobody waits for a GPU here."""
    now = state()
    if now is None:
        return values
    from accelerate.utils import reduce

    own = [torch.as_tensor(value, dtype=torch.float64, device=now.device) for value in values.values()]
    means = reduce(torch.stack(own), "mean")
    tensors = any(isinstance(value, Tensor) for value in values.values())
    return dict(zip(values, means if tensors else means.tolist(), strict=True))


def gather(x: Tensor, dim: int) -> Tensor:
    """The parts of all processes, in the batch's order: (..., n, ...) -> (..., n * processes, ...).

    For losses that compare the samples of a batch: every process computes the whole loss. Its gradient with respect to
    a process's own part is then complete there without a word from the others, who count that part as constant; times
    the number of processes, because gradients are averaged and each sample's comes from one process alone.
    """
    now = state()
    if now is None:
        return x
    from accelerate import utils

    parts = list(utils.gather(x.detach().contiguous()).chunk(now.num_processes))  # along dimension 0
    parts[now.process_index] = own = x.view_as(x)
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * now.num_processes)
    return torch.cat(parts, dim)


def gathered(items: list) -> list:
    """The items of all processes, in their order; any that can be pickled, tensors on the CPU."""
    if state() is None:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)
