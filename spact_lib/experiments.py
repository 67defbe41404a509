"""How each kind of spec is made: a builder takes a spec, its folder and the store, writes files, returns metrics."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from spact_lib import distributed
from spact_lib.action_losses import build_action_loss
from spact_lib.baselines import baseline
from spact_lib.branches import BRANCHES, build_branch
from spact_lib.channel import through_h264
from spact_lib.config import (
    AnonymizerSpec,
    BaselineSpec,
    DataSpec,
    FramesSpec,
    InitActionSpec,
    InitAnonymizerSpec,
    InitPrivacySpec,
    LearnedSpec,
    NoiseFeaturesSpec,
    ObfuscationSpec,
    ReconstructionSpec,
    ReleaseSpec,
    Spec,
    TargetSpec,
    TestSpec,
)
from spact_lib.data import (
    FrameSource,
    all_frames,
    halved,
    rows_of,
    to_float,
    training_batches,
)
from spact_lib.device import autocast, pick_device
from spact_lib.distributed import on_main
from spact_lib.errors import UserError, missing_left_out
from spact_lib.files import atomic_path
from spact_lib.initialize import initialize_action, initialize_anonymizer, initialize_privacy, part
from spact_lib.manifest import Manifest, rows_set_aside
from spact_lib.minimax import Game, collapsed, play
from spact_lib.networks.action import build_action_network
from spact_lib.noise_features import RELEASE, generator, train_noise_features, with_noise
from spact_lib.obfuscation import detector, mask, obfuscation
from spact_lib.packed import Group, pack, write_packed
from spact_lib.plain import plain
from spact_lib.reconstruction import Pairs, enlarged, train_inverse
from spact_lib.store import Store, branch_of, manifest_of, unfolded
from spact_lib.target import score_target, train_target
from spact_lib.training import Run, adam, running_mean, save_weights, set_norm_momentum
from spact_lib.video import letterbox

SNAPSHOTS = 6  # strips of anonymized frames kept over a minimax run
SNAPSHOT_FRAMES = 8
RELEASED_AT_ONCE = 256  # frames, so that stills do not pass one by one


def _make_frames(spec: FramesSpec, folder: Path, store: Store) -> dict:
    manifest = manifest_of(spec.data)
    return {"rows": len(manifest)} | on_main(lambda: pack(manifest, spec.stored_side, folder))


def _make_init_anonymizer(spec: InitAnonymizerSpec, folder: Path, store: Store) -> dict:
    sides = [store.raw(data, spec.view.stored_side) for data in (spec.action, spec.privacy)]
    f_A, metrics = initialize_anonymizer(spec, *sides, folder, pick_device(), store.workers)
    save_weights(f_A, folder / "f_A.safetensors")
    # f_T, f_B and the game learn from these rows, too.
    away = {data.name: rows_set_aside(manifest_of(data)) for data in (spec.action, spec.privacy)}
    return metrics | ({"set_aside_of": away} if any(away.values()) else {})


def _require_identity(f_A: InitAnonymizerSpec, store: Store) -> None:
    reached = store.run(f_A).metrics["val_l1"]
    if not reached <= f_A.threshold:  # NaN too
        raise UserError(
            f"f_A reconstructs validation frames with a mean L1 of {reached:.4f}, above th_A0 = {f_A.threshold}: "
            "minimax would start from an f_A that removes privacy by being blurred; give init_f_A more steps"
        )


def _make_init_action(spec: InitActionSpec, folder: Path, store: Store) -> dict:
    _require_identity(spec.f_A, store)
    action = store.raw(spec.f_A.action, spec.f_A.view.stored_side)
    f_A = store.load_anonymizer(spec.f_A)
    f_T, metrics = initialize_action(spec, f_A, action, folder, pick_device(), store.workers)
    save_weights(f_T, folder / "f_T.safetensors")
    return metrics


def _game_batches(
    f_B: InitPrivacySpec, task: str | None, batch: int, seed: int, store: Store, further: Sequence[str] = ()
) -> Callable[[int, int], Iterator[dict[str, Tensor]]]:
    """(first, last) -> batches as ``minimax.Game`` takes them; without ``task`` only what f_B learns from."""
    f_A, branch, device = f_B.f_A, f_B.branch, pick_device()
    side = f_A.view.stored_side
    needs_images = BRANCHES[branch.loss].needs_images
    clips = images = None
    if task is not None or not needs_images:
        clips = part(
            *store.raw(f_A.action, side), "train", task, f_A.view, seed=seed,
            sampler=None if needs_images else branch.sampler, pair_frames=branch.n_frames, further=further,
            clips=task is not None,
        )  # fmt: skip
    if needs_images:
        view = f_A.view.frames()
        of_image = BRANCHES[branch.loss].further
        images = part(*store.raw(f_A.privacy, side), "train", branch.task, view, seed=seed + 1, further=of_image)

    def batches(first: int, last: int) -> Iterator[dict[str, Tensor]]:
        workers = store.workers if clips is None or images is None else halved(store.workers)
        of_clips, of_images = (
            None if data is None else iter(training_batches(data, size, first, last, workers))
            for data, size in ((clips, batch), (images, branch.batch))
        )
        for _ in range(first, last):
            each = {} if of_clips is None else to_float(next(of_clips), device)
            if of_images is not None:
                image = to_float(next(of_images), device)
                each |= {"image": image.pop("clip")} | {f"image_{k}": v for k, v in image.items()}
            yield each

    return batches


def _make_init_privacy(spec: InitPrivacySpec, folder: Path, store: Store) -> dict:
    _require_identity(spec.f_A, store)
    batches = _game_batches(spec, None, spec.schedule.batch, spec.seed, store)
    f_A = store.load_anonymizer(spec.f_A)
    f_B, metrics = initialize_privacy(spec, f_A, branch_of(spec), batches, folder, pick_device())
    save_weights(f_B, folder / "f_B.safetensors")
    return metrics


def open_game(spec: AnonymizerSpec, store: Store) -> tuple[Game, Callable[[int, int], Iterator[dict[str, Tensor]]]]:
    """The minimax game of a spec before its first iteration, and its batches as ``minimax.play`` takes them."""
    device = pick_device()
    f_A = store.load_anonymizer(spec.f_A)
    branch = branch_of(spec.f_B)
    f_T = build_action_network(spec.f_T.network, manifest_of(spec.f_A.action).tasks[spec.f_T.task].n_classes)
    f_B = branch.build()
    load_model(f_T, store.files(spec.f_T) / "f_T.safetensors")
    load_model(f_B, store.files(spec.f_B) / "f_B.safetensors")
    f_T, f_B = f_T.to(device), f_B.to(device)
    for auxiliary in (f_T, f_B):
        set_norm_momentum(auxiliary, spec.norm_momentum)
    optimizers = (adam(net, spec.schedule) for net in (f_A, f_T, f_B))
    action = build_action_loss(spec.action_loss)
    ceiling = uninformative_loss(spec.f_B, spec.schedule.batch) if spec.clamp_L_B else None
    game = Game(
        f_A, f_T, f_B, branch, spec.omega, *optimizers, spec.f_A.precision, spec.update_f_B, action, spec.f_B_steps,
        ceiling,
    )  # fmt: skip
    return game, _game_batches(spec.f_B, spec.f_T.task, spec.schedule.batch, spec.seed, store, action.further)


def _make_anonymizer(spec: AnonymizerSpec, folder: Path, store: Store) -> dict:
    game, batches = open_game(spec, store)
    networks = {"f_A": game.f_A, "f_T": game.f_T, "f_B": game.f_B}
    optimizers = {"f_A": game.optimizer_A, "f_T": game.optimizer_T, "f_B": game.optimizer_B}
    run = Run(folder, networks, optimizers, f"minimax {spec.f_B.branch.loss}")
    shown = snapshot_frames(spec, store)
    at = {round((spec.schedule.steps - 1) * k / (SNAPSHOTS - 1)) for k in range(SNAPSHOTS)}

    def snapshot(step: int) -> None:
        if step in at and distributed.is_main():
            with atomic_path(folder / f"frames-{step + 1:06d}.npy") as temporary:
                anonymized = [anonymize_uint8(game.f_A, frame[None], spec.f_A.precision)[0] for frame in shown]
                np.save(temporary, letterbox(anonymized))

    play(game, run, spec.schedule, batches, threshold=spec.threshold, on_step=snapshot)
    for name, network in networks.items():
        save_weights(network, folder / f"{name}.safetensors")
    means = {name: running_mean(run.rows, name) for name in run.rows[-1] if name != "step"}
    return {
        **means,
        "steps": run.step,
        "L_B_uninformative": uninformative_loss(spec.f_B, spec.schedule.batch),
        "collapsed": collapsed(means["spread"], run.label),
        **run.course,
    }


def _make_noise_features(spec: NoiseFeaturesSpec, folder: Path, store: Store) -> dict:
    f_A = store.load_anonymizer(spec.f_A)
    action = store.raw(spec.f_A.action, spec.f_A.view.stored_side)
    f_T = build_action_network(spec.f_T.network, action[1].tasks[spec.f_T.task].n_classes)
    load_model(f_T, store.files(spec.f_T) / "f_T.safetensors")
    device = pick_device()
    metrics = train_noise_features(spec, f_A, f_T.to(device), action, folder, device, store.workers)
    save_weights(f_A, folder / "f_A.safetensors")
    return metrics


def uninformative_loss(f_B: InitPrivacySpec, batch: int) -> float | None:
    """L_B of an f_B that sees nothing, at ``batch`` videos; None where it is not known.

    A batch is never larger than the data; where they are not here (of committed records) it is taken to be smaller.
    """
    images = BRANCHES[f_B.branch.loss].needs_images
    seen, data = (f_B.branch.batch, f_B.f_A.privacy) if images else (batch, f_B.f_A.action)
    with missing_left_out():
        return branch_of(f_B).uninformative(min(seen, len(rows_of(manifest_of(data), "train"))))
    return build_branch(f_B.branch, 0).uninformative(seen)


def snapshot_frames(spec: AnonymizerSpec, store: Store) -> list[np.ndarray]:
    """The middle frames of some test videos (training ones where none is tested), at most ``SNAPSHOT_FRAMES``: uint8
    (h, w, 3) each; shapes may differ."""
    source, manifest = store.raw(spec.f_A.action, spec.f_A.view.stored_side)
    split = "test" if (manifest.rows["split"] == "test").any() else "train"
    rows = rows_of(manifest, split)[:: max(1, len(manifest) // 40)][:SNAPSHOT_FRAMES]
    return [source.read(row, np.array([source.n_frames(row) // 2]))[0] for row in rows]


def anonymize_uint8(f_A: nn.Module, frames: np.ndarray, precision: str) -> np.ndarray:
    """uint8 RGB (n, h, w, 3) -> uint8 RGB (n, h, w, 3), rounded to the nearest: what would be released."""
    return to_uint8(anonymized(f_A, frames, precision))


@torch.no_grad()
def anonymized(f_A: nn.Module, frames: np.ndarray, precision: str) -> Tensor:
    """uint8 RGB (n, h, w, 3) -> (n, 3, h, w) in [0, 1], on the device of f_A."""
    was_training = f_A.training
    f_A.eval()
    device = next(f_A.parameters()).device
    with autocast(device, precision, dims=2):
        out = f_A(to_tensor(frames, device))
    f_A.train(was_training)
    return out


def to_tensor(frames: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (n, h, w, 3) -> (n, 3, h, w) in [0, 1]; bytes travel to the device, not floats."""
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float() / 255


def to_uint8(frames: Tensor) -> np.ndarray:
    """(n, 3, h, w) in [0, 1] -> uint8 (n, h, w, 3)."""
    return (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _releaser(
    spec: ReleaseSpec, manifest: Manifest, store: Store
) -> Callable[[list[tuple[int, np.ndarray]], np.ndarray], Tensor]:
    """(pieces (row, frame numbers), their frames uint8 (n, h, w, 3)) -> the frames (n, 3, h, w) in [0, 1] as the
    method gives them."""
    method = spec.method
    if isinstance(method, BaselineSpec):
        transform = baseline(method.name)
        return lambda pieces, frames: transform(to_tensor(frames))
    if isinstance(method, ObfuscationSpec):
        obfuscate, find = obfuscation(method.name), detector(method.boxes, spec.frames.data.folder, manifest)

        def release(pieces: list[tuple[int, np.ndarray]], frames: np.ndarray) -> Tensor:
            ends = np.cumsum([len(numbers) for _, numbers in pieces])
            each = zip(pieces, np.split(frames, ends[:-1]), strict=True)
            boxes = [box for (row, numbers), part in each for box in find(row, numbers, part)]
            return obfuscate(to_tensor(frames), mask(boxes, *frames.shape[1:3]))

        return release
    if isinstance(method, ReconstructionSpec):
        g, victim = store.load_inverse(method), store.release(ReleaseSpec(method=method.victim, frames=spec.frames))

        def reconstruct(pieces: list[tuple[int, np.ndarray]], frames: np.ndarray) -> Tensor:
            seen = np.concatenate([victim.read(row, numbers) for row, numbers in pieces])
            return anonymized(g, enlarged(seen, *frames.shape[1:3]), method.precision)

        return reconstruct
    f_A, precision = store.load_anonymizer(method), _precision(method)
    if isinstance(method, NoiseFeaturesSpec):

        @torch.no_grad()
        def release_noisy(pieces: list[tuple[int, np.ndarray]], frames: np.ndarray) -> Tensor:
            device = next(f_A.parameters()).device
            numbers = [(row, int(number)) for row, of_row in pieces for number in of_row]
            of_frames = [generator(device, method.seed, RELEASE, *number) for number in numbers]
            with autocast(device, precision, dims=2):
                return with_noise(f_A, to_tensor(frames, device), method.sigma, of_frames)

        return release_noisy
    return lambda pieces, frames: anonymized(f_A, frames, precision)


def _pieces(
    source: FrameSource, rows: np.ndarray, workers: int
) -> Iterator[tuple[list[tuple[int, np.ndarray]], np.ndarray]]:
    """All frames of ``rows`` in order: lists of (row, frame numbers) and their frames, of one shape, together few."""
    pieces, frames, size = [], [], 0
    for row, numbers, read in all_frames(source, rows, RELEASED_AT_ONCE, workers):
        full = plain() or size + len(numbers) > RELEASED_AT_ONCE
        if pieces and (full or read.shape[1:] != frames[0].shape[1:]):
            yield pieces, np.concatenate(frames)
            pieces, frames, size = [], [], 0
        pieces, frames, size = [*pieces, (row, numbers)], [*frames, read], size + len(numbers)
    if pieces:
        yield pieces, np.concatenate(frames)


def _make_release(spec: ReleaseSpec, folder: Path, store: Store) -> dict:
    source, manifest = store.frames(spec.frames)
    used = np.flatnonzero(manifest.rows["split"] != "unused")
    as_float = spec.channel == "float"
    if spec.channel == "h264":
        sent = store.release(spec.in_8_bits)

        def groups(first: int) -> Iterator[Group]:
            blocks = all_frames(sent, used[used >= first], RELEASED_AT_ONCE, store.workers)
            for row, of_row in groupby(blocks, itemgetter(0)):
                frames = (frame for *_, block in of_row for frame in block)
                yield from ([(row, frame[None])] for frame in through_h264(frames, spec.crf))

    else:
        release = _releaser(spec, manifest, store)

        def groups(first: int) -> Iterator[Group]:
            for pieces, frames in _pieces(source, used[used >= first], store.workers):
                out = release(pieces, frames)
                released = (255 * out.clamp(0, 1)).permute(0, 2, 3, 1).cpu().numpy() if as_float else to_uint8(out)
                ends = np.cumsum([len(numbers) for _, numbers in pieces])
                yield [(row, part) for (row, _), part in zip(pieces, np.split(released, ends[:-1]), strict=True)]

    label, name = f"release {manifest.name}", "frames.f32" if as_float else "frames.bin"
    return {"rows": len(manifest)} | on_main(lambda: write_packed(folder, len(manifest), groups, label, name))


def _make_reconstruction(spec: ReconstructionSpec, folder: Path, store: Store) -> dict:
    frames = FramesSpec(data=unfolded(spec.data), stored_side=spec.view.stored_side)
    pairs = Pairs(store.frames(frames)[0], store.release(ReleaseSpec(method=spec.victim, frames=frames)))
    g, metrics = train_inverse(spec, pairs, manifest_of(spec.data), folder, pick_device(), store.workers)
    save_weights(g, folder / "g.safetensors")
    return metrics


def _precision(method: LearnedSpec) -> str:
    return method.precision if isinstance(method, InitAnonymizerSpec) else method.f_A.precision


def predictions(store: Store, spec: TargetSpec) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (rows, K) and targets of the test rows of a trained target, in the manifest's order.

    Raises:
        NotTrainedError: as ``Store.files``.
    """
    with np.load(store.files(spec) / "predictions.npz", allow_pickle=False) as saved:
        return saved["probabilities"], saved["targets"]


def _make_target(spec: TargetSpec, folder: Path, store: Store) -> dict:
    source = store.release(spec.release)
    metrics = train_target(spec, source, manifest_of(spec.data), folder, pick_device(), store.workers)
    return metrics | _boxes(spec.release) | _set_aside(spec.data)


def _boxes(spec: ReleaseSpec) -> dict[str, str]:
    # The committed record leaves the spec out, and "oracle" must be named wherever a result uses it.
    return {"boxes": spec.method.boxes} if isinstance(spec.method, ObfuscationSpec) else {}


def _set_aside(data: DataSpec) -> dict[str, dict[str, int]]:
    # What a score was not measured on is part of it: split -> rows whose files are missing or unreadable.
    found = rows_set_aside(manifest_of(data))
    return {"set_aside": found} if found else {}


def _make_test(spec: TestSpec, folder: Path, store: Store) -> dict:
    weights, learned = store.files(spec.target) / "network.safetensors", manifest_of(spec.target.data)
    source = store.release(spec.release)
    began = time.monotonic()  # what it needs has seconds of its own
    metrics = score_target(spec, learned, weights, source, manifest_of(spec.data), pick_device(), store.workers)
    return metrics | _boxes(spec.release) | _set_aside(spec.data) | {"seconds": time.monotonic() - began}


BUILDERS: dict[type[Spec], Callable[..., dict]] = {
    FramesSpec: _make_frames,
    InitAnonymizerSpec: _make_init_anonymizer,
    InitActionSpec: _make_init_action,
    InitPrivacySpec: _make_init_privacy,
    AnonymizerSpec: _make_anonymizer,
    NoiseFeaturesSpec: _make_noise_features,
    ReleaseSpec: _make_release,
    ReconstructionSpec: _make_reconstruction,
    TargetSpec: _make_target,
    TestSpec: _make_test,
}
