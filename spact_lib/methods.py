"""Methods, and the rows of tables, by name.

A method is a line of ``METHODS``: what learns nothing (``baselines.py``, ``obfuscation.py``), or a game and what it has
of its own. ``Study`` makes specs of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spact_lib.action_losses import ACTION_LOSSES
from spact_lib.branches import BRANCHES, ContrastiveBranch, MomentumBranch, RotationBranch, build_branch
from spact_lib.config import ActionLossSpec, BranchSpec, Profile
from spact_lib.errors import UserError, unknown_name
from spact_lib.frame_sampling import FRAME_SAMPLERS
from spact_lib.networks.action import refuse_unknown
from spact_lib.networks.privacy import encoder_dims

if TYPE_CHECKING:
    from spact_lib.study import Study


# Architectures by what they are to a game -> the field of a profile that names them.
F_T = {"own": "f_T", "r2plus1d": "r2plus1d_f_T", "mc3": "mc3_f_T", "other_stage": "other_stage_f_T"}
F_B = {"own": "f_B", "smaller": "smaller_f_B", "larger": "larger_f_B", "video": "video_f_B"}  # "video": the 3-D one
SEEN = {2: "frames", 3: "clips"}  # by an f_B, by the dimensions of its convolutions


def architecture(profile: Profile, fields: Mapping[str, str], name: str) -> str:
    """The network that ``name`` stands for (``F_T``, ``F_B``); any other is a network's own name."""
    return getattr(profile, fields[name]) if name in fields else name


@dataclass(frozen=True)
class LearnedMethod:
    """A method that plays the minimax game: its privacy branch, and what else differs from the profile's game.

    Args:
        loss: L_B, a name of ``branches.BRANCHES``.
        f_B: which of the profile's architectures (``F_B``), or an encoder's name (``networks.privacy.ENCODERS``).
        sampler: S_F (Table 4).
        omega: fixed; None: chosen by ``Study.choose_omega``; "spact": the one chosen for SPAct, so that an ablation
            changes one thing only.
        update_f_B: whether step 2 trains f_B (Table 3).
        action_loss: L_T.
        f_B_steps: of f_B for each of f_A; the paper has one.
        clamp_L_B: ours: step 1 gains nothing from an L_B above its uninformative value, beyond which a larger one hides
            nothing more.
        f_T: which of the profile's architectures (``F_T``), or a name of ``ACTION_NETWORKS``.
        both_directions: of NT-Xent; False: Z alone as anchor, as Eq. 5 is printed.
        on_raw: f_T and f_B are initialised on raw data, as Fig. 2 draws it, and not on f_A's output (Eq. 7, 8).
    """

    loss: str
    f_B: str = "own"
    sampler: str = "no_constraint"
    omega: float | Literal["spact"] | None = None
    update_f_B: bool = True
    action_loss: ActionLossSpec = ActionLossSpec()
    f_B_steps: int = 1
    clamp_L_B: bool = False
    f_T: str = "own"
    both_directions: bool = True
    on_raw: bool = False

    def check(self, name: str, study: "Study") -> None:
        """UserError for a name or number that is none, or what cannot be had together. ``name``: its own."""
        for what, given, known in (
            ("L_B", self.loss, BRANCHES),
            ("L_T", self.action_loss.loss, ACTION_LOSSES),
            ("frame sampler", self.sampler, FRAME_SAMPLERS),
        ):
            if given not in known:
                raise unknown_name(what, given, known)
        omega, steps = self.omega, self.f_B_steps
        if omega not in (None, "spact") and not (isinstance(omega, int | float) and 0 <= omega < math.inf):
            raise UserError(
                f"omega {omega!r} of method {name!r}: give a number from 0 up, None (chosen) or 'spact' (SPAct's)"
            )
        if type(steps) is not int or steps < 1:
            raise UserError(f"f_B_steps {steps!r} of method {name!r}: give an integer from 1 up")
        if steps > 1 and not self.update_f_B:
            raise UserError(
                f"method {name!r} freezes its f_B (update_f_B=False) and trains it in {steps} steps (f_B_steps); "
                "leave out one of the two"
            )
        branch = self.branch(study)
        dims = encoder_dims(branch.network)
        if dims not in (can := BRANCHES[self.loss].f_B_dims):
            others = [loss for loss, kind in BRANCHES.items() if dims in kind.f_B_dims]
            raise UserError(
                f"L_B {self.loss!r} of method {name!r} asks an f_B of {' or '.join(SEEN[d] for d in can)}, but f_B "
                f"{self.f_B!r} sees {SEEN[dims]}; choose another f_B, or one of the L_B {', '.join(sorted(others))}"
            )
        if self.clamp_L_B and build_branch(branch, 0).uninformative(2) is None:
            raise UserError(
                f"method {name!r} clamps L_B {self.loss!r} (clamp_L_B), which has no uninformative value; leave it out"
            )
        refuse_unknown(architecture(study.profile, F_T, self.f_T))

    def branch(self, study: "Study") -> BranchSpec:
        profile = study.profile
        kind = BRANCHES[self.loss]
        settings: dict[str, object] = {}
        if issubclass(kind, ContrastiveBranch) and not issubclass(kind, RotationBranch):
            settings["temperature"] = profile.temperature
            settings["both_directions"] = profile.both_directions and self.both_directions
        if issubclass(kind, MomentumBranch):  # one direction by construction
            settings |= {"both_directions": True, "queue": profile.moco_queue, "momentum": profile.moco_momentum}
        network = architecture(profile, F_B, self.f_B)
        return BranchSpec(
            loss=self.loss,
            network=network,
            sampler=self.sampler,
            task=study.protocol.privacy.task if BRANCHES[self.loss].needs_labels else None,
            batch=profile.privacy_batch,
            n_frames=profile.video_f_B_frames if encoder_dims(network) == 3 else 1,
            **settings,
        )


KINDS = ("baseline", "identity", "obfuscation", "noise_features")  # of methods that play no game
# Every method by name. A new one is a line here (a new baseline also a function in baselines.py): it is then a further
# row of Table 1 (``extra_rows``), its label is its name, and its colour and marker are found (``figures``).
METHODS: dict[str, LearnedMethod | str] = {
    "raw": "baseline",
    "identity": "identity",
    "downsample_2x": "baseline",
    "downsample_4x": "baseline",
    "downsample_2x_up": "baseline",
    "downsample_4x_up": "baseline",
    "obf_blackening": "obfuscation",
    "obf_strong_blur": "obfuscation",
    "obf_weak_blur": "obfuscation",
    "noise_features": "noise_features",
    "supervised": LearnedMethod("supervised"),
    "spact": LearnedMethod("nt_xent"),
    "spact_stills": LearnedMethod("nt_xent_stills", omega="spact"),  # the official code's pairs
    # Table 3. Without f_B: omega 0, so that f_B watches and f_A learns from L_T alone.
    "no_f_B": LearnedMethod("nt_xent", omega=0.0),
    "frozen_f_B": LearnedMethod("nt_xent", omega="spact", update_f_B=False),
    "spatiotemporal_f_B": LearnedMethod("nt_xent", f_B="video", omega="spact"),
    # Table 4.
    "more_than_64_frames": LearnedMethod("nt_xent", sampler="more_than_64_frames", omega="spact"),
    "less_than_8_frames": LearnedMethod("nt_xent", sampler="less_than_8_frames", omega="spact"),
    # Table 5.
    "moco": LearnedMethod("moco", omega="spact"),
    "rotnet": LearnedMethod("rotnet", omega="spact"),
    # Table 6.
    "smaller_f_B": LearnedMethod("nt_xent", f_B="smaller", omega="spact"),
    "larger_f_B": LearnedMethod("nt_xent", f_B="larger", omega="spact"),
    # Other f_T (supplementary E, claim K13).
    "r2plus1d_f_T": LearnedMethod("nt_xent", f_T="r2plus1d", omega="spact"),
    "mc3_f_T": LearnedMethod("nt_xent", f_T="mc3", omega="spact"),
    # Ours: a stronger f_B by more steps. Its own omega, by the same rule.
    "spact_plus": LearnedMethod("nt_xent", f_B_steps=3),
    # Ours: no reward for anti-aligned pairs, against an f_B that learns and against a frozen one.
    "spact_clamped": LearnedMethod("nt_xent", omega="spact", clamp_L_B=True),
    "frozen_f_B_clamped": LearnedMethod("nt_xent", omega="spact", update_f_B=False, clamp_L_B=True),
    # The paper against the official code: one choice each (``CHOICES``).
    "one_direction": LearnedMethod("nt_xent", omega="spact", both_directions=False),
    "weights_1_1": LearnedMethod("nt_xent", omega=1.0),
    "other_stage_f_T": LearnedMethod("nt_xent", f_T="other_stage", omega="spact"),
    "on_raw": LearnedMethod("nt_xent", omega="spact", on_raw=True),
    # Later than the paper.
    "tedspad": LearnedMethod("nt_xent", action_loss=ActionLossSpec(loss="temporally_distinct", weight=0.1, margin=1.0)),
}

# The rows of a table: our method -> the paper's row, in order ("": a row that the paper does not have).
TABLES: dict[str, dict[str, str]] = {
    "table1": {
        "raw": "raw",
        "identity": "",
        "downsample_2x": "downsample_2x",
        "downsample_4x": "downsample_4x",
        "supervised": "supervised",
        "spact": "spact",
    },
    "table2": {
        "raw": "raw",
        "downsample_2x": "downsample_2x",
        "downsample_4x": "downsample_4x",
        "supervised": "supervised",
        "spact": "spact",
    },
    "table3": {
        "raw": "no_fa_no_fb",
        "identity": "",
        "no_f_B": "fa_no_fb",
        "frozen_f_B": "fa_fb_spatial_frozen",
        "spact": "fa_fb_spatial",
        "spatiotemporal_f_B": "fa_fb_spatiotemporal",
    },
    "table4": {
        "raw": "",
        "spact": "no_constraint",
        "more_than_64_frames": "more_than_64_frames",
        "less_than_8_frames": "less_than_8_frames",
    },
    "table5": {"raw": "", "spact": "nt_xent", "moco": "moco", "rotnet": "rotnet"},
    "table6": {
        "raw": "",
        "smaller_f_B": "mobilenet_v1",
        "spact": "resnet50",
        "larger_f_B": "resnet50_plus_mobilenet_v1",
    },
}

# Further rows that belong to one table: of the paper where they have its row, else ours. They are left out by default
# for the minutes they take; ask for them by name, as ``table("table1", study, methods=[*TABLES["table1"], *...])``.
TABLE_EXTRAS: dict[str, dict[str, str]] = {
    "table1": {
        "obf_blackening": "obf_blackening",
        "obf_strong_blur": "obf_strong_blur",
        "obf_weak_blur": "obf_weak_blur",
        "noise_features": "noise_features",
    },
    "table2": {
        "obf_blackening": "obf_blackening",
        "obf_strong_blur": "obf_strong_blur",
        "obf_weak_blur": "obf_weak_blur",
        "noise_features": "noise_features",
    },
    "table6": {"r2plus1d_f_T": "", "mc3_f_T": ""},
}

# The paper against the official code: rows that change one of SPAct's choices, and what they change. Where ours is the
# official code's choice already, the row makes the paper's.
CHOICES: dict[str, str] = {
    "spact_stills": "pairs of L_B: two crops of a still, N = 64 (official code); ours: two frames of a video",
    "one_direction": "Eq. 5: Z alone as anchor (as printed); ours: both directions (official code)",
    "weights_1_1": "Eq. 9: omega = 1, L_T and L_B 1 : 1 (official code); ours: the omega that keeps the action",
    "other_stage_f_T": "last stage of f_T: on mini dilated in time (official code), ours is not; on paper reversed",
    "on_raw": "start of f_T and f_B: learned on raw data (Fig. 2); ours: on f_A's output (Eq. 7, 8, official code)",
}


def paper_rows(table: str) -> dict[str, str]:
    """Our methods of a table -> the paper's rows; those that are left out by default are the last ones."""
    rows = TABLES[table] | TABLE_EXTRAS.get(table, {})
    return {method: row for method, row in rows.items() if row}


def chooses(method: str) -> bool:
    """Whether a row chooses its omega (or sigma) by itself."""
    kind = METHODS[method]
    return kind == "noise_features" or (isinstance(kind, LearnedMethod) and kind.omega is None)


def further_of_paper(table: str) -> list[str]:
    """The paper's rows of a table that are left out by default."""
    return [method for method in paper_rows(table) if method not in TABLES[table]]


def extra_rows(table: str) -> list[str]:
    """Further rows of a table: ``TABLE_EXTRAS``; of Table 1 also the rows of ``METHODS`` that belong nowhere else."""
    extras = [*TABLE_EXTRAS.get(table, {})]
    if table == "table1":
        elsewhere = {*CHOICES}.union(*TABLES.values(), *TABLE_EXTRAS.values())
        extras += [method for method in METHODS if method not in elsewhere]
    return extras
