"""What making a result costs in FLOP (2 per multiply-add), counted from the networks themselves.

A network that learns costs three forward passes per sample (forward, gradients of activations and of weights), a frozen
one that only passes the gradient on two, one without gradient a single pass. Not counted: decoding, augmentation,
optimizers, the search of a detector.
"""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from spact_lib.action_losses import ACTION_LOSSES
from spact_lib.branches import BRANCHES
from spact_lib.config import (
    AnonymizerSpec,
    DataSpec,
    InitActionSpec,
    InitAnonymizerSpec,
    InitPrivacySpec,
    NoiseFeaturesSpec,
    ReconstructionSpec,
    ReleaseSpec,
    Spec,
    TargetSpec,
    TestSpec,
)
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.networks.privacy import PrivacyNetwork
from spact_lib.store import manifest_of
from spact_lib.target import build_target

FRAMES_PER_VIDEO = 200  # assumed where a manifest does not say: UCF101's videos have about 180, HMDB51's about 90
FRAME_SHAPE = 4 / 3  # assumed width of a stored frame over its height
STILLS = (".jpg", ".jpeg", ".png")
NOT_PREPARED = ""  # in place of a dataset's fingerprint


@cache
def forward_flop(kind: str, network: str, n_frames: int, size: int, width: int = 0) -> float:
    """FLOP of one sample through f_A (a frame), an f_B (a frame or clip) or a target (a clip)."""
    with torch.device("meta"):  # shapes without numbers
        frames = torch.empty(1, n_frames, 3, size, size)
        if kind == "f_A":
            net, x = Anonymizer(width), frames[:, 0]
        elif kind == "f_B":
            net, x = PrivacyNetwork(network), frames if n_frames > 1 else frames[:, 0]
        else:
            net, x = build_target(network, 100)[0], frames
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(x)
    return float(counter.get_total_flops())


def _f_A(spec: InitAnonymizerSpec | ReconstructionSpec) -> float:
    return forward_flop("f_A", "", 1, spec.view.size, spec.width)


def _f_T(spec: InitActionSpec) -> float:
    return forward_flop("target", spec.network, spec.f_A.view.n_frames, spec.f_A.view.size)


def _privacy_branch(spec: InitPrivacySpec, videos: int) -> tuple[float, float, float]:
    """Frames for f_A in a step, and FLOP of the forward passes of f_B: of those with a gradient, and of the others."""
    branch, kind = spec.branch, BRANCHES[spec.branch.loss]
    once = forward_flop("f_B", branch.network, branch.n_frames, spec.f_A.view.size)
    views, learned, others = kind.passes()
    n = branch.batch if kind.needs_images else videos
    return n * views * branch.n_frames, n * learned * once, n * others * once


def learning(spec: TargetSpec) -> float:
    """FLOP of training a target, without the rows that it looks at to choose its checkpoint and to be tested."""
    once = forward_flop("target", spec.network, spec.view.n_frames, spec.view.size)
    return 3 * spec.schedule.steps * spec.schedule.batch * once


def cost(spec: Spec) -> float | None:
    """FLOP of making a spec, without what it is made from.

    Of a dataset that is not prepared nobody knows the size: a release and a score have None then, a target its training
    alone.
    """
    if isinstance(spec, InitAnonymizerSpec | ReconstructionSpec):
        return 3 * spec.schedule.steps * spec.schedule.batch * _f_A(spec)
    if isinstance(spec, InitActionSpec):
        clips = spec.schedule.steps * spec.schedule.batch
        through_f_A = 0 if spec.on_raw else spec.f_A.view.n_frames * _f_A(spec.f_A)
        return clips * (through_f_A + 3 * _f_T(spec))
    if isinstance(spec, InitPrivacySpec):
        frames, f_B, keys = _privacy_branch(spec, spec.schedule.batch)
        return spec.schedule.steps * ((0 if spec.on_raw else frames * _f_A(spec.f_A)) + 3 * f_B + keys)
    if isinstance(spec, AnonymizerSpec):
        videos = spec.schedule.batch
        frames, f_B, keys = _privacy_branch(spec.f_B, videos)
        clips = videos * (1 + len(ACTION_LOSSES[spec.action_loss.loss].further))
        of_frames, f_T = frames * _f_A(spec.f_A), clips * _f_T(spec.f_T)
        f_A = clips * spec.f_A.view.n_frames * _f_A(spec.f_A) + of_frames
        step1 = 3 * f_A + 2 * (f_T + f_B) + keys
        step2 = f_A + 3 * f_T + (3 if spec.update_f_B else 1) * f_B + keys
        return spec.schedule.steps * (step1 + step2 + (spec.f_B_steps - 1) * (of_frames + 3 * f_B + keys))
    if isinstance(spec, NoiseFeaturesSpec):
        once = spec.f_A.view.n_frames * _f_A(spec.f_A) + _f_T(spec.f_T)
        return 3 * spec.schedule.steps * spec.schedule.batch * once
    if isinstance(spec, ReleaseSpec):
        if not isinstance(spec.method, InitAnonymizerSpec | AnonymizerSpec | NoiseFeaturesSpec | ReconstructionSpec):
            return 0.0
        start = spec.method if isinstance(spec.method, InitAnonymizerSpec | ReconstructionSpec) else spec.method.f_A
        side, frames = spec.frames.stored_side, n_frames(spec.frames.data)
        return frames and frames * _f_A(start) * FRAME_SHAPE * (side / start.view.size) ** 2
    if isinstance(spec, TargetSpec):
        if spec.data.fingerprint == NOT_PREPARED:
            return learning(spec)
        rows, view = manifest_of(spec.data).rows["split"].value_counts(), spec.view
        looked_at = spec.evaluations * rows.get("val", 0) + rows.get("test", 0)
        once = forward_flop("target", spec.network, view.n_frames, view.size)
        return learning(spec) + looked_at * view.test_clips * once
    if isinstance(spec, TestSpec):
        view = spec.target.view
        once = forward_flop("target", spec.target.network, view.n_frames, view.size)
        if spec.data.fingerprint == NOT_PREPARED:
            return None
        clips = (manifest_of(spec.data).rows["split"] == "test").sum() * view.test_clips
        kinds = {score.per == "row" for score in spec.scores}
        return once * sum(clips if by_row else n_frames(spec.data, "test") for by_row in kinds)
    return 0.0


def n_frames(data: DataSpec, split: str = "") -> float | None:
    """Frames of all rows in use, or of a split."""
    if data.fingerprint == NOT_PREPARED:
        return None
    rows = manifest_of(data).rows
    rows = rows[rows["split"] == split] if split else rows[rows["split"] != "unused"]
    known = (rows["end"] - rows["start"].fillna(0)).astype("Float64")
    still = rows["path"].str.lower().str.endswith(STILLS)
    return float(known.fillna(FRAMES_PER_VIDEO).where(~still, 1).sum())
