"""What every training loop needs and none should repeat: checkpoints, the log, the finite check, who learns."""

import errno
import json
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from tqdm import tqdm

from spact_lib import distributed
from spact_lib.config import Schedule
from spact_lib.data import waited
from spact_lib.device import environment, out_of_memory
from spact_lib.errors import UserError
from spact_lib.files import atomic_path
from spact_lib.plain import plain

CHECKPOINT_SECONDS = 30.0
SAVING_SECONDS = 0.6  # what takes longer to save, large networks on a slow disk, is saved as much less often,
AT_MOST = 20.0  # times less often, so every ten minutes
MEAN_WINDOW = 50  # steps
LOOK_EVERY = 50  # steps, at values on a GPU


class NonFiniteError(UserError):
    """A loss, a gradient or a weight became NaN or infinite; names it and the step."""


class Run:
    """A resumable training run in a folder: ``checkpoint.pt`` and ``metrics.jsonl``, of one process or many.

    Args:
        folder: of this run; an earlier checkpoint in it is loaded, by however many processes it was written.
        modules: all networks whose weights or BatchNorm statistics change.
        optimizers: all optimizers, under the names of their networks.
        label: for the progress bar.

    The loop stays with the caller::

        run = Run(folder, {"f_A": f_A}, {"f_A": optimizer})
        for step in run.steps(total):
            ...
            run.log(step, L1=loss.detach())

    Raises:
        NonFiniteError: from ``log``, ``rows`` or ``save``, so that no later checkpoint replaces the last good one.
    """

    def __init__(self, folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], label: str = ""):
        self.folder, self.modules, self.optimizers, self.label = folder, modules, optimizers, label
        self.step, self.saved, self.seconds, self.stopped = 0, 0, 0.0, False
        self._waited, self._waited_before = 0.0, waited()
        self._environments = [environment()]  # of this process, and of those before it that another one differs from
        self._rows: list[dict[str, float]] = []
        self._queued: list[dict[str, float | Tensor]] = []
        self._log, self._checkpoint = folder / "metrics.jsonl", folder / "checkpoint.pt"
        folder.mkdir(parents=True, exist_ok=True)
        distributed.together(modules, optimizers)
        if self._checkpoint.exists():
            try:
                self._continue()
            except Exception as error:  # of many kinds, the unpickler's among them
                # EINVAL: torch looks for the end of a file that was cut before its beginning.
                unread = isinstance(error, OSError) and error.errno != errno.EINVAL
                if unread or out_of_memory(error):  # no fault of what it holds
                    raise
                raise UserError(
                    f"{self._checkpoint} cannot be continued from ({type(error).__name__}: it is damaged or of other "
                    "networks); remove it, and the same command starts this training again"
                ) from error
        # The log lies beside the checkpoint for readers; a killed run may have logged steps that it will repeat.
        if distributed.is_main():
            self._log.write_text("".join(json.dumps(row) + "\n" for row in self._rows))
        self._clock = time.monotonic()

    def _continue(self) -> None:
        state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        for name, part in (self.modules | {f"optimizer.{k}": v for k, v in self.optimizers.items()}).items():
            part.load_state_dict(state[name])
        self.step, self.seconds, self._rows = state["step"], state["seconds"], json.loads(state["rows"])
        self.saved, self.stopped = self.step, state["stopped"]
        self._waited = state.get("waited", 0.0)
        earlier = json.loads(state.get("environments", "[]"))
        self._environments += [each for each in earlier if each not in self._environments]

    def steps(self, total: int) -> Iterator[int]:
        """The steps still to do; a checkpoint every half minute (less often where saving takes long) and at the end.

        Leave the loop early by ``stop``, not by ``break``, which would skip the last checkpoint.
        """
        if self.stopped:
            return
        saved, pause = time.monotonic(), CHECKPOINT_SECONDS
        silent = None if distributed.is_main() else True
        for step in tqdm(range(self.step, total), self.label, total, initial=self.step, disable=silent):
            yield step
            self.step = step + 1
            if self.stopped:
                break
            if (began := time.monotonic()) - saved > pause:
                self.save()
                saved = time.monotonic()
                pause = CHECKPOINT_SECONDS * min(max(1.0, (saved - began) / SAVING_SECONDS), AT_MOST)
        self.save()

    def stop(self) -> None:
        """This step is the last one."""
        self.stopped = True

    @property
    def course(self) -> dict[str, object]:
        """``seconds`` of all parts of this run up to the last checkpoint, ``waited`` of them for data; ``elsewhere``,
        where it was begun with another commit, library, device or number of threads or processes: their
        ``environment``."""
        times = {"seconds": self.seconds, "waited": self._waited + waited() - self._waited_before}
        return times | ({"elsewhere": self._environments[1:]} if self._environments[1:] else {})

    def log(self, step: int, **values: float | Tensor) -> None:
        """Append a row; refuse non-finite values by name. Of many processes, the means over them are logged.

        Tensors (scalars without a graph) that lie on a GPU are looked at ``LOOK_EVERY`` steps together, or when
        somebody asks for ``rows``: each look waits until the GPU has done all that it was given.
        """
        # Here all processes are at the same step; they look, and save, when their own clocks say.
        self._queued.append({"step": step, **distributed.mean(values)})
        if len(self._queued) >= LOOK_EVERY or not any(map(_waits, values.values())):
            self._look()

    @property
    def rows(self) -> list[dict[str, float]]:
        """All logged rows."""
        self._look()
        return self._rows

    def _look(self) -> None:
        rows, self._queued = self._queued, []
        waiting = [value for row in rows for value in row.values() if isinstance(value, Tensor)]
        known = iter(torch.stack([value.double() for value in waiting]).tolist() if waiting else ())
        new = []
        for row in rows:
            row = {name: next(known) if isinstance(value, Tensor) else value for name, value in row.items()}
            for name, value in row.items():
                if not math.isfinite(value):
                    # A gradient that overflows spoils its weight at once and the loss one step later: name it, too.
                    cause = f" ({found} is not finite)" if (found := _not_finite(self.modules)) else ""
                    self._refuse(f"{name} became {value} at step {row['step']}", cause)
            new.append(row)
        self._rows += new
        if distributed.is_main() and new:
            with open(self._log, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in new)

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            NonFiniteError: a logged value, a weight or the last gradient is not finite; the checkpoint before is kept.
        """
        self._look()
        if found := _not_finite(self.modules):
            self._refuse(f"{found} is not finite after {self.step} steps")
        if not distributed.is_main():  # all have the same weights
            return
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        state = {name: module.state_dict() for name, module in self.modules.items()}
        state |= {f"optimizer.{name}": optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        state |= {"step": self.step, "seconds": self.seconds, "rows": json.dumps(self._rows)}
        state |= {"stopped": self.stopped, "waited": self.course["waited"]}
        state |= {"environments": json.dumps(self._environments)}
        with atomic_path(self._checkpoint) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)  # not to a path: then the reason of a failure would be lost
        self.saved = self.step

    def _refuse(self, what: str, cause: str = "") -> None:
        raise NonFiniteError(
            f"{what} of {self.label or self.folder.name}{cause}; the checkpoint after {self.saved} steps is kept: "
            "a lower learning rate may help, in a game also a lower omega; with either it starts anew"
        )


def _waits(value: float | Tensor) -> bool:
    return isinstance(value, Tensor) and value.is_cuda


def _not_finite(modules: dict[str, nn.Module]) -> str | None:
    """The first last gradient, else the first weight or statistic, with a NaN or an infinity in it."""
    for name, module in modules.items():
        for key, parameter in module.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                return f"the gradient of {key} in {name}"
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            if not torch.isfinite(value).all():
                return f"{key} of {name}"
    return None


def running_mean(rows: list[dict[str, float]], name: str) -> float:
    """Mean of the last ``MEAN_WINDOW`` logged values of ``name``; NaN before there are any."""
    values = [row[name] for row in rows[-MEAN_WINDOW:] if name in row]
    return sum(values) / len(values) if values else math.nan


def settled_mean(rows: list[dict[str, float]], name: str) -> float:
    """``running_mean`` of a full window, to be compared with a threshold; NaN before: one lucky step meets none."""
    return running_mean(rows, name) if len(rows) >= MEAN_WINDOW else math.nan


def adam(module: nn.Module, schedule: Schedule) -> Optimizer:
    """Adam, as the paper's code uses for all networks; one pass over memory for all that it does to a weight."""
    return Adam(module.parameters(), lr=schedule.lr, fused=not plain())


def set_learning_rate(optimizer: Optimizer, schedule: Schedule, step: int) -> None:
    """Constant, or one cycle: linear rise over the first tenth, cosine fall to 0. A function of the step alone."""
    rate = schedule.lr
    if schedule.one_cycle:
        rise = max(1, schedule.steps // 10)
        rate *= (
            (step + 1) / rise
            if step < rise
            else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, schedule.steps - rise)))
        )
    for group in optimizer.param_groups:
        group["lr"] = rate


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Within: eval mode (BatchNorm statistics stay) and no gradients for parameters; gradients still flow through."""
    for module in modules:
        module.eval().requires_grad_(plain())
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


def without_graph() -> AbstractContextManager:
    """Within: no gradient at all, not even through."""
    return nullcontext() if plain() else torch.no_grad()


def set_norm_momentum(module: nn.Module, momentum: float) -> None:
    """Weight of the newest batch in the running statistics of every BatchNorm."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.momentum = momentum


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a network's weights and BatchNorm statistics as safetensors; of many processes, the main one does."""
    if distributed.is_main():
        with atomic_path(path) as temporary:
            save_model(module, temporary)


def seed_weights(*seed: int) -> None:
    """Seed torch's global generator before networks are built: the only random act left to it."""
    state = 0
    for part in seed:
        state = (state * 1_000_003 + part + 1) % 2**63
    torch.manual_seed(state)
