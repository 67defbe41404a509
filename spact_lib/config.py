"""Profiles and experiment specs: typed, frozen, validated, hashable. What nobody published is chosen here ("ours")."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from spact_lib.errors import UserError, unknown_name


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


AtLeast0 = Annotated[int, Field(ge=0)]
AtLeast1 = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class View(Frozen):
    """How frames reach the networks. Fractions are of the frame's short side."""

    stored_side: int = Field(gt=0)  # short side that decoded (and released) frames are kept at
    size: int = Field(gt=0)  # input of the networks
    n_frames: int = Field(gt=0)  # T; 1 for the privacy networks
    stride: int = Field(gt=0)
    crop: tuple[Fraction, Fraction]  # training: side of the square crop, uniform in this range
    test_crop: Fraction
    flip: float = Field(ge=0, le=1)
    gray: float = Field(0.1, ge=0, le=1)
    erase: float = Field(18 / 112, ge=0, lt=1)  # largest side of the erased box: 18 of 112 pixels
    test_clips: int = Field(gt=0)

    @field_validator("crop")
    @classmethod
    def _refuse_backwards(cls, crop: tuple[float, float]) -> tuple[float, float]:
        if crop[0] > crop[1]:
            raise ValueError("the smaller fraction comes first")
        return crop

    def frames(self) -> "View":
        """The same view for single frames."""
        return self.model_copy(update={"n_frames": 1, "stride": 1})


class Schedule(Frozen):
    """Adam for a number of steps. ``one_cycle``: rise to ``lr`` and fall to 0 (targets); else constant (the paper)."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    lr: float = Field(gt=0)
    one_cycle: bool = False


class DataSpec(Frozen):
    """A prepared dataset. Its content counts (``fingerprint``), not where it lies."""

    name: str
    folder: Path = Field(exclude=True)
    fingerprint: str
    leave_out: tuple[str, str] | None = None  # (column, value): these rows are the test set, all others train


# Part of every key: raise it with any change of the code that changes results, and nothing older is reused.
RESULTS_VERSION = 3


def later(default: object) -> object:
    """A field added after results existed: at its default it is no part of a key, so that those stay valid."""
    return Field(default, exclude_if=lambda value: value == default)


class Spec(Frozen):
    """Something that is made once and kept in the experiment store, under the hash of its content."""

    def key(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON and ``RESULTS_VERSION``."""
        text = json.dumps([RESULTS_VERSION, self.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class FramesSpec(Spec):
    """All frames of a dataset, decoded once."""

    kind: Literal["frames"] = "frames"
    data: DataSpec
    stored_side: AtLeast1


class InitAnonymizerSpec(Spec):
    """f_A initialised to the identity (Eq. 4, 6). As a method of its own it is the *identity row*."""

    kind: Literal["init_f_A"] = "init_f_A"
    action: DataSpec
    privacy: DataSpec
    view: View
    width: AtLeast1
    schedule: Schedule
    threshold: Amount  # th_A0 on validation frames, mean L1: minimax is refused above it
    precision: Literal["float32", "bfloat16"]
    seed: AtLeast0


class InitActionSpec(Spec):
    """f_T initialised on the output of f_A (Eq. 7). ``threshold``: th_T0, reached when L_T falls below it."""

    kind: Literal["init_f_T"] = "init_f_T"
    f_A: InitAnonymizerSpec
    task: str  # of the action dataset
    network: str
    schedule: Schedule
    threshold: Amount
    seed: AtLeast0
    on_raw: bool = later(False)  # as Fig. 2 draws it; else on the output of f_A


class BranchSpec(Frozen):
    """The privacy branch: f_B and its loss L_B."""

    loss: str  # a name of ``branches.BRANCHES``
    network: str
    sampler: str = "no_constraint"  # S_F, of the self-supervised losses
    temperature: float = Field(0.1, gt=0)
    both_directions: bool = True
    task: str | None = None  # privacy task of the supervised branch
    batch: int = Field(64, gt=0)  # images per step of a branch that sees images
    n_frames: AtLeast1 = later(1)  # that f_B sees at once; more than one with a 3-D f_B
    queue: AtLeast0 = later(0)  # K of MoCo
    momentum: Annotated[float, Field(ge=0, lt=1)] = later(0.0)  # of MoCo's key network

    @model_validator(mode="after")
    def _refuse_two_queues(self) -> "BranchSpec":
        if self.loss == "moco" and "+" in self.network:
            raise UserError(f"MoCo keeps one queue and so takes one encoder, not {self.network!r}; name one of them")
        return self


class ActionLossSpec(Frozen):
    """L_T of the game (``action_losses.ACTION_LOSSES``)."""

    loss: str = "classification"
    weight: float = Field(0.0, ge=0)  # of the term that is added to classification
    margin: float = Field(0.0, ge=0)  # of TeD-SPAD's triplets


class InitPrivacySpec(Spec):
    """f_B initialised on the output of f_A (Eq. 8). ``threshold``: th_B0, reached when L_B falls below it."""

    kind: Literal["init_f_B"] = "init_f_B"
    f_A: InitAnonymizerSpec
    branch: BranchSpec
    schedule: Schedule
    threshold: Amount
    seed: AtLeast0
    on_raw: bool = later(False)  # as ``InitActionSpec``'s


class AnonymizerSpec(Spec):
    """f_A* after the minimax game (Eq. 9, then 7 and 8)."""

    kind: Literal["anonymizer"] = "anonymizer"
    f_T: InitActionSpec
    f_B: InitPrivacySpec
    omega: float = Field(ge=0)  # 0: f_A learns from L_T alone, f_B only watches (Table 3, no f_B)
    schedule: Schedule
    threshold: Amount | None  # th_Bmax, compared with the running mean of step 2's L_B; None: the budget decides
    norm_momentum: Fraction  # of BatchNorm's running statistics in f_T and f_B
    seed: AtLeast0
    update_f_B: bool = later(True)  # False: f_B stays as initialised (Table 3, frozen)
    action_loss: ActionLossSpec = later(ActionLossSpec())
    f_B_steps: AtLeast1 = later(1)  # of f_B per step of f_A; the paper has one (more: SPAct+)
    clamp_L_B: bool = later(False)  # ours: in step 1, at its uninformative value

    @property
    def f_A(self) -> InitAnonymizerSpec:
        """The common start of all three networks."""
        return self.f_T.f_A


class NoiseFeaturesSpec(Spec):
    """An f_A with noise on its features, learned together with f_T and without an adversary (``noise_features``)."""

    kind: Literal["noise_features"] = "noise_features"
    f_T: InitActionSpec
    sigma: Amount
    schedule: Schedule
    seed: AtLeast0

    @property
    def f_A(self) -> InitAnonymizerSpec:
        """The start of f_A."""
        return self.f_T.f_A


class BaselineSpec(Spec):
    """A method that learns nothing (``baselines.BASELINES``)."""

    kind: Literal["baseline"] = "baseline"
    name: str


class ObfuscationSpec(Spec):
    """Persons blackened or blurred (``obfuscation.OBFUSCATIONS``); whose boxes: a COCO
    detector's, stored ones, or those that the table of one's own data marks."""

    kind: Literal["obfuscation"] = "obfuscation"
    name: str
    boxes: Literal["oracle", "coco", "marked"]


LearnedSpec = InitAnonymizerSpec | AnonymizerSpec | NoiseFeaturesSpec  # what has an f_A


class ReconstructionSpec(Spec):
    """An attacker's network that learned raw frames from what ``victim`` makes of them, on the training rows of
    ``data``. As a method: the victim's release, and then this network on it."""

    kind: Literal["reconstruction"] = "reconstruction"
    victim: Annotated[BaselineSpec | ObfuscationSpec | LearnedSpec, Field(discriminator="kind")]
    data: DataSpec
    view: View
    width: AtLeast1
    schedule: Schedule
    precision: Literal["float32", "bfloat16"]
    seed: AtLeast0


Method = Annotated[BaselineSpec | ObfuscationSpec | LearnedSpec | ReconstructionSpec, Field(discriminator="kind")]


class ReleaseSpec(Spec):
    """A dataset as its owner would release it: every frame through the method. Shared by all its targets."""

    kind: Literal["release"] = "release"
    method: Method
    frames: FramesSpec
    # uint8: rounded to 8 bits; float: as the method computes it; h264: the 8-bit frames of each row as a video of its
    # own (``channel.through_h264``).
    channel: Literal["uint8", "float", "h264"] = later("uint8")
    crf: Annotated[int, Field(ge=0, le=51)] = later(23)  # of h264: x264's own default

    @property
    def in_8_bits(self) -> "ReleaseSpec":
        """What an H.264 release is made of."""
        return ReleaseSpec(method=self.method, frames=self.frames)


class TargetSpec(Spec):
    """A fresh f'_T or f'_B, trained on a release, and tested there if it has test rows."""

    kind: Literal["target"] = "target"
    release: ReleaseSpec
    data: DataSpec  # the release's dataset, perhaps with a fold left out
    task: str
    network: str
    view: View
    schedule: Schedule
    evaluations: AtLeast1  # how often validation chooses the checkpoint
    seed: AtLeast0


class ScoreSpec(Frozen):
    """One way to score a target on test rows, see ``protocols.Column``."""

    task: str
    per: Literal["row", "frame", "video"]
    without: tuple[str, ...]


class TestSpec(Spec):
    """A trained target on the test rows of any release, scored in several ways, on tasks of the classes it learned."""

    kind: Literal["test"] = "test"
    target: TargetSpec
    release: ReleaseSpec
    data: DataSpec
    scores: tuple[ScoreSpec, ...]


class Profile(Frozen):
    """One scale of the whole reproduction. Values marked "ours" are nobody's published choice."""

    name: Literal["smoke", "mini", "paper"]
    source: Literal["mini", "official"]
    scale: Literal["smoke", "mini"] | None  # of the built-in data
    decode_once: bool  # keep raw frames as pixels on the disk: for data that fits there
    action_view: View
    privacy_view: View
    width: AtLeast1  # of f_A
    f_T: str
    r2plus1d_f_T: str  # f_T of other architectures (claim K13)
    mc3_f_T: str
    other_stage_f_T: str  # its last stage dilated in time where f_T's is not, and the other way round
    f_B: str
    smaller_f_B: str  # Table 6
    larger_f_B: str
    video_f_B: str  # the spatio-temporal one of Table 3
    video_f_B_frames: AtLeast1  # of each of the two clips that it compares; "ours"
    temperature: float = Field(0.1, gt=0)  # tau of NT-Xent and MoCo
    both_directions: bool = True  # of NT-Xent; False: Z alone as anchor, as Eq. 5 is printed
    moco_queue: AtLeast1  # "ours", as its momentum
    moco_momentum: float = Field(ge=0, lt=1)
    boxes: Literal["oracle", "coco"]  # of persons, for the obfuscation baselines
    target_f_T: str
    target_f_B: str
    other_target_f_T: str  # of claim K14
    other_target_f_B: str
    precision: Literal["float32", "bfloat16"]
    init_f_A: Schedule
    init_f_T: Schedule
    init_f_B: Schedule
    minimax: Schedule
    privacy_batch: AtLeast1
    target_action: Schedule
    target_privacy: Schedule
    evaluations: AtLeast1
    th_A0: Amount
    th_T0: Amount
    th_B0: Amount
    th_Bmax: Amount | None
    norm_momentum: Fraction
    omegas: tuple[Amount, ...] = Field(min_length=1)  # grid: the largest that keeps validation action is taken
    sigmas: tuple[Amount, ...] = Field(min_length=1)  # "ours", of noise-features; chosen by the same rule
    target_seeds: tuple[AtLeast0, ...] = Field(min_length=1)
    draw: AtLeast0 | None
    workers: AtLeast0


_MINI_VIEW = View(
    stored_side=32, size=32, n_frames=8, stride=2, crop=(0.8, 1.0), test_crop=1.0,
    flip=0.0,  # the built-in actions have directions
    test_clips=5,
)  # fmt: skip

MINI = Profile(
    name="mini",
    source="mini",
    scale="mini",
    decode_once=True,
    action_view=_MINI_VIEW,
    privacy_view=_MINI_VIEW.frames(),
    width=8,  # with twice the width a reproduction takes longer than the 75 minutes it may
    f_T="r3d_slim_motion",
    r2plus1d_f_T="r2plus1d_slim_motion",
    mc3_f_T="mc3_slim_motion",
    other_stage_f_T="r3d_slim_motion_dilated",
    f_B="slim16",
    smaller_f_B="slim8",
    larger_f_B="slim32",
    video_f_B="r3d_slim",
    video_f_B_frames=4,  # half of f_T's: two whole clips besides would be two thirds of what f_A computes
    moco_queue=256,
    moco_momentum=0.99,
    boxes="oracle",
    target_f_T="r3d_slim_motion",
    target_f_B="slim16",
    other_target_f_T="mc3_slim_motion",
    other_target_f_B="slim8",  # smaller, as on paper
    precision="bfloat16",
    init_f_A=Schedule(steps=800, batch=64, lr=3e-3, one_cycle=True),
    init_f_T=Schedule(steps=300, batch=24, lr=1e-3),
    init_f_B=Schedule(steps=200, batch=24, lr=1e-3),
    minimax=Schedule(steps=500, batch=16, lr=1e-3),
    privacy_batch=64,
    target_action=Schedule(steps=500, batch=24, lr=4e-3, one_cycle=True),
    target_privacy=Schedule(steps=800, batch=64, lr=2e-3, one_cycle=True),
    evaluations=4,
    th_A0=0.02,
    th_T0=0.0,
    th_B0=0.0,
    th_Bmax=None,
    # Step 1 sees f_T and f_B in eval mode. At mini's learning rate the usual momentum of 0.1 leaves their statistics
    # so far behind that f_A learns to exploit the lag instead of hiding anything (L_B of one batch 3.1 in eval mode,
    # 1.4 in train mode: seen once on draw 0, not recorded).
    norm_momentum=0.5,
    omegas=(0.5, 0.25),
    sigmas=(1.0, 0.5, 0.25),
    target_seeds=(0,),
    draw=1,
    workers=0,
)

SMOKE = MINI.model_copy(
    update={
        "name": "smoke",
        "scale": "smoke",
        "width": 4,
        "f_B": "slim8",
        "smaller_f_B": "slim4",
        "larger_f_B": "slim16",
        "target_f_B": "slim8",
        "other_target_f_B": "slim16",
        "init_f_A": Schedule(steps=6, batch=16, lr=1e-3),
        "init_f_T": Schedule(steps=4, batch=8, lr=1e-3),
        "init_f_B": Schedule(steps=4, batch=8, lr=1e-3),
        "minimax": Schedule(steps=4, batch=8, lr=1e-3),
        "privacy_batch": 16,
        "target_action": Schedule(steps=6, batch=8, lr=4e-3, one_cycle=True),
        "target_privacy": Schedule(steps=6, batch=16, lr=4e-3, one_cycle=True),
        "evaluations": 2,
        "th_A0": 1.0,  # six steps do not reach an identity; smoke says that it runs, not how well
        "omegas": (0.5,),
        "sigmas": (0.5,),
    }
)

# Sec. 5.2 and the official code. UCF101 split 1 has 9,537 training videos: 397 batches of 24 are an epoch; an iteration
# of the game takes two batches. VISPR has 10,000 training images, of which a batch of Eq. 4 takes half its size. Every
# dataset gets these numbers of steps, nobody has published others: as validation rows are cut off, the game is 371
# epochs of what UCF101 has left (7,706), 1,073 of HMDB51 without PA-HMDB51, and 14 of P-HVU.
PAPER = Profile(
    name="paper",
    source="official",
    scale=None,
    decode_once=False,
    action_view=View(
        stored_side=128, size=112, n_frames=16, stride=2, crop=(0.6, 1.0), test_crop=0.8, flip=0.5, test_clips=5
    ),
    privacy_view=View(
        stored_side=128, size=112, n_frames=1, stride=1, crop=(0.6, 1.0), test_crop=0.8, flip=0.5, test_clips=5
    ),
    width=64,
    f_T="r3d18_dilated",
    r2plus1d_f_T="r2plus1d18",
    mc3_f_T="mc3_18",
    other_stage_f_T="r3d18",
    f_B="resnet50",
    smaller_f_B="mobilenet_v1",
    larger_f_B="resnet50+mobilenet_v1",
    video_f_B="r3d18",
    video_f_B_frames=16,
    moco_queue=4096,
    moco_momentum=0.999,
    boxes="coco",
    target_f_T="r3d18_dilated",
    target_f_B="resnet50",
    other_target_f_T="r2plus1d18",
    other_target_f_B="mobilenet_v1",
    precision="bfloat16",
    init_f_A=Schedule(steps=20 * 625, batch=32, lr=1e-3, one_cycle=True),  # 20 epochs of VISPR, warmed up
    init_f_T=Schedule(steps=50 * 397, batch=24, lr=1e-4),
    init_f_B=Schedule(steps=160 * 397, batch=24, lr=1e-4),
    minimax=Schedule(steps=300 * 397 // 2, batch=24, lr=1e-4),
    privacy_batch=64,
    target_action=Schedule(steps=100 * 397, batch=24, lr=1e-3, one_cycle=True),  # ours
    target_privacy=Schedule(steps=100 * 157, batch=64, lr=1e-3, one_cycle=True),  # ours
    evaluations=5,  # of P-HVU's 40,869 validation videos as many clips as are trained on
    th_A0=0.015,  # the official checkpoint has 0.0100
    th_T0=0.0,
    th_B0=0.0,
    th_Bmax=None,
    norm_momentum=0.1,  # torch's default
    omegas=(0.9, 0.7, 0.5, 0.3, 0.1),  # ours
    sigmas=(1.0, 0.5, 0.25),
    target_seeds=(0, 1),
    draw=None,
    workers=32,  # at most (``data.loader_workers``)
)

PROFILES = {profile.name: profile for profile in (SMOKE, MINI, PAPER)}


def profile(name: str, **changes: object) -> Profile:
    """A profile by name, with validated changes.

    Raises:
        UserError: unknown profile, unknown field, or a value of the wrong type; the sentence names the legal ones.
    """
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    unknown = set(changes) - set(Profile.model_fields)
    if unknown:
        raise unknown_name("profile setting", sorted(unknown)[0], Profile.model_fields)
    try:
        return Profile.model_validate(PROFILES[name].model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"profile setting {where}: {first['msg']}, got {first['input']!r}") from error
