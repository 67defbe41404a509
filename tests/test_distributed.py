"""Two processes (gloo, CPU) do what one does: started once, by the notebook's launcher, for all tests of this file.

BatchNorm stays in eval mode: SyncBatchNorm, which makes it one over all processes, exists on GPUs only.
"""

import json
import math
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import notebook_launcher
from torch import Tensor, nn

from spact_lib import cli, distributed, training
from spact_lib.action_losses import build_action_loss
from spact_lib.branches import build_branch
from spact_lib.config import ActionLossSpec, BranchSpec, Schedule, View
from spact_lib.data import ClipDataset, StepSampler
from spact_lib.errors import UserError
from spact_lib.losses import nt_xent
from spact_lib.minimax import Game, anonymizer_step, auxiliary_step, play
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.networks.privacy import PrivacyNetwork
from spact_lib.reconstruction import quality
from spact_lib.training import NonFiniteError, Run, adam

VIDEOS, IMAGES, STEPS = 4, 6, 4
GAMES = {
    "nt_xent": {"network": "slim4"},
    "nt_xent, two encoders": {"network": "slim4+slim8"},
    "nt_xent, clips": {"network": "r3d_slim", "n_frames": 2},
    "nt_xent_stills": {"network": "slim4"},
    # At tau = 0.1 the first softmax is saturated: rounding errors grow to percents in three steps.
    "moco": {"network": "slim4", "queue": 6, "momentum": 0.9, "temperature": 1.0},
    "rotnet": {"network": "slim4"},
    "supervised": {"network": "slim4"},
    "tedspad": {"network": "slim4"},
}


def batch(step: int, branch: BranchSpec) -> dict[str, Tensor]:
    """This process's part of the batch of a step."""
    generator = torch.Generator().manual_seed(step)

    def draw(n: int, frames: int) -> Tensor:
        return torch.rand(n, frames, 3, 16, 16, generator=generator)

    whole = {"clip": draw(VIDEOS, 4), "further": draw(VIDEOS, 8), "pair": draw(VIDEOS, 2 * branch.n_frames)}
    whole |= {"label": torch.randint(0, 3, (VIDEOS,), generator=generator)}
    whole |= {"image": draw(IMAGES, 1), "image_further": draw(IMAGES, 1)}
    whole |= {"image_label": torch.randint(0, 2, (IMAGES, 5), generator=generator)}
    return {name: values[distributed.own_part(len(values))] for name, values in whole.items()}


def make_game(name: str, lr: float) -> Game:
    loss = "nt_xent" if name == "tedspad" else name.split(",")[0]
    branch = build_branch(BranchSpec(loss=loss, **GAMES[name]), 5)
    action = {"loss": "temporally_distinct", "weight": 0.5, "margin": 1.0} if name == "tedspad" else {}
    torch.manual_seed(0)
    networks = Anonymizer(2), build_action_network("r3d_slim", 3), branch.build()
    for layer in (layer for network in networks for layer in network.modules()):
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.eval().train = lambda mode=True, layer=layer: layer
            layer.running_var.fill_(0.1)  # or little of a frame reaches the last layer
    optimizers = (adam(network, Schedule(steps=STEPS, batch=VIDEOS, lr=lr)) for network in networks)
    return Game(*networks, branch, 0.7, *optimizers, action=build_action_loss(ActionLossSpec(**action)))


def run_of(game: Game, folder: Path) -> Run:
    networks = {"f_A": game.f_A, "f_T": game.f_T, "f_B": game.f_B}
    return Run(folder, networks, {"f_A": game.optimizer_A, "f_T": game.optimizer_T, "f_B": game.optimizer_B})


def gradients(name: str, folder: Path) -> dict[str, Tensor]:
    """Of each network in the step in which it learns, all parameters in a row; next to nothing moves."""
    game = make_game(name, lr=1e-12)
    run_of(game, folder)
    found = {}
    for step, learning in enumerate([anonymizer_step, auxiliary_step]):
        learning(game, batch(step, game.branch.spec))
        for network in ("f_A",) if step == 0 else ("f_T", "f_B"):
            parameters = getattr(game, network).parameters()
            found[network] = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    return found


def curve(name: str, folder: Path, steps: int = STEPS) -> Tensor:
    """All that is logged in the first steps, (steps, losses); continues what lies in the folder."""
    game = make_game(name, lr=1e-3)
    run = run_of(game, folder)
    schedule = Schedule(steps=steps, batch=VIDEOS, lr=1e-3)
    play(game, run, schedule, lambda first, last: (batch(k, game.branch.spec) for k in range(first, last)))
    names = sorted(set(run.rows[0]) - {"step", "spread"})  # spread: of a process's own frames, then a mean
    return torch.tensor([[row[name] for name in names] for row in run.rows])


class Drawn:
    """Stills of noise, raw and released (``reconstruction.Pairs``)."""

    def __len__(self) -> int:
        return 140

    def n_frames(self, row: int) -> int:
        return 1

    def read(self, row: int, indices: np.ndarray) -> np.ndarray:
        return np.random.default_rng(row).integers(0, 255, (len(indices), 16, 16, 6), dtype=np.uint8)


def inverted_quality() -> dict[str, float]:
    """Of a g that changes nothing. Two batches of train rows, one of test rows: a process of two has none of these."""
    view = View(stored_side=16, size=16, n_frames=1, stride=1, crop=(1, 1), test_crop=1.0, flip=0.0, test_clips=1)
    train, test = (ClipDataset(Drawn(), rows, None, view) for rows in (np.arange(130), np.arange(130, 140)))
    return quality(nn.Identity(), train, test, "float32", torch.device("cpu"))


def everything(folder: Path) -> dict[str, object]:
    """What a process finds; the tests compare two with one."""
    found = {f"gradients {name}": gradients(name, folder / f"gradients-{name}") for name in GAMES}
    found |= {f"curve {name}": curve(name, folder / f"curve-{name}") for name in GAMES}
    found["quality"] = inverted_quality()
    found["keys"] = list(StepSampler(10, VIDEOS, 3, 1, 6))
    return found


def of_two(folder: Path, csv: Path) -> None:
    """Runs in both processes."""
    torch.set_num_threads(1)
    os.environ |= {"SPACT_RUNS": str(folder / "runs"), "TQDM_DISABLE": "1"}
    found = everything(folder / "two")
    found["half a batch"] = nt_xent(*batch(0, BranchSpec(loss="nt_xent", network="slim4"))["pair"].flatten(2).unbind(1))
    found["begun by one"] = curve("nt_xent", folder / "begun by one")
    curve("nt_xent", folder / "begun by two", steps=2)
    rank, _ = distributed.which()
    with pytest.MonkeyPatch.context() as patch:  # as on GPUs, where rows are looked at later; checkpoints by own clocks
        patch.setattr(training, "_waits", lambda value: isinstance(value, Tensor))
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0 if rank == 0 else math.inf)
        found["by own clocks"] = curve("nt_xent", folder / "by own clocks")

    def refused(function: Callable[[], object]) -> str:
        with pytest.raises(UserError) as error:
            function()
        return f"{type(error.value).__name__}: {error.value}"

    def fail() -> None:
        raise UserError(f"found by process {rank}")

    run = Run(folder / "non-finite", {}, {}, "toy")
    found["NaN in one"] = refused(lambda: run.log(3, L_B=math.nan if rank == 1 else 1.0))
    found["on main"] = distributed.on_main(lambda: rank), refused(lambda: distributed.on_main(fail))
    found["odd"] = refused(lambda: StepSampler(10, 3, 0, 0, 1))
    found["gathered"] = distributed.gathered([f"item {k} of {rank}" for k in range(2 - rank)])
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "spact", "--profile=smoke", f"--protocol={csv}:action/attributes"])
    found["trained"] = ended.value.code
    torch.save(found, folder / f"{rank}.pt")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


Found = dict[str, object]
# The gradients agree to 1e-5; then Adam makes steps of one size of all of them, also of those near zero, where
# the order of a sum decides the sign.
CURVE = 5e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_csv: Path) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    curve("nt_xent", folder / "begun by one", steps=2)
    notebook_launcher(of_two, (folder, tiny_csv), num_processes=2, use_port=free_port())
    return folder


@pytest.fixture(scope="module")
def two(folder: Path) -> list[Found]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return everything(tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v1", "resnet50+mobilenet_v1"])
def test_synchronised_batchnorm_keeps_the_network(name: str) -> None:
    """Of torch's own conversion MobileNetV1 would come out without its activations."""
    torch.manual_seed(0)
    before = PrivacyNetwork(name).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = before(x)
        after = distributed.synchronised(before)
        assert torch.equal(after(x), expected)
    norms = [layer for layer in after.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(layer, nn.SyncBatchNorm) for layer in norms)


@pytest.mark.parametrize("name", GAMES)
def test_gradients_of_two_halves_are_those_of_the_whole_batch(one: Found, two: list[Found], name: str) -> None:
    for network, expected in one[f"gradients {name}"].items():
        assert expected.norm() > 1e-4  # or the comparison below says nothing
        for process in two:
            error = (process[f"gradients {name}"][network] - expected).norm() / expected.norm()
            assert error < 1e-5, f"{network}: {error:.1e}"


@pytest.mark.parametrize("name", GAMES)
def test_two_processes_log_the_losses_of_one(one: Found, two: list[Found], name: str) -> None:
    for process in two:
        torch.testing.assert_close(process[f"curve {name}"], one[f"curve {name}"], rtol=CURVE, atol=0)
    log = (two[0][f"curve {name}"], two[1][f"curve {name}"])
    assert torch.equal(*log)  # what they stop by must be the same number in both
    assert not torch.allclose(one[f"curve {name}"][0], one[f"curve {name}"][-1], rtol=4 * CURVE)  # they learn


def test_two_processes_measure_all_rows_of_a_reconstruction(one: Found, two: list[Found]) -> None:
    assert {process["quality"]["n_test"] for process in two} == {10}
    for process in two:
        assert process["quality"] == pytest.approx(one["quality"], rel=1e-5)


def test_half_a_batch_alone_has_another_nt_xent(two: list[Found]) -> None:
    whole = nt_xent(*batch(0, BranchSpec(loss="nt_xent", network="slim4"))["pair"].flatten(2).unbind(1))
    assert abs(sum(process["half a batch"] for process in two) / 2 - whole) > 0.1


def test_a_run_continues_in_another_number_of_processes(one: Found, two: list[Found], folder: Path) -> None:
    whole = one["curve nt_xent"]
    for process in two:
        torch.testing.assert_close(process["begun by one"], whole, rtol=CURVE, atol=0)
    torch.testing.assert_close(curve("nt_xent", folder / "begun by two"), whole, rtol=CURVE, atol=0)


def test_two_processes_share_the_batches_of_one(one: Found, two: list[Found]) -> None:
    halves = zip(*(process["keys"] for process in two), strict=True)
    assert [first + second for first, second in halves] == one["keys"]
    assert two[0]["odd"] == two[1]["odd"]
    assert "UserError: 2 processes cannot share a batch of 3 evenly; start a number that divides it" == two[0]["odd"]


def test_both_learn_of_an_error_or_a_number_that_one_finds(two: list[Found]) -> None:
    for process in two:
        assert process["on main"] == (0, "UserError: found by process 0")
        assert process["NaN in one"].startswith(f"{NonFiniteError.__name__}: L_B became nan at step 3 of toy")
        assert process["gathered"] == ["item 0 of 0", "item 1 of 0", "item 0 of 1"]


def test_two_processes_make_each_artifact_once(two: list[Found], folder: Path) -> None:
    assert [process["trained"] for process in two] == [0, 0]
    check_store(folder / "runs")


def check_store(runs: Path) -> None:
    """A learned row on the tiny data: every artifact has a record of both processes, and nothing is doubled or left."""
    records = [json.loads(path.read_text()) for path in runs.glob("store/*/*/record.json")]
    made = ["anonymizer", "frames", "init_f_A", "init_f_B", "init_f_T", "release"]
    assert sorted(record["kind"] for record in records) == [*made, "target", "target", "target"]
    assert {record["environment"]["processes"] for record in records} == {2}
    (game,) = runs.glob("store/anonymizer/*/metrics.jsonl")
    assert [json.loads(line)["step"] for line in game.read_text().splitlines()] == [0, 1, 2, 3]
    names = [path.name for path in runs.glob("store/*/*/*")]
    assert not [name for name in names if ".tmp" in name or name == "checkpoint.pt"]
