"""A study: one profile, one protocol, one seed. It turns the names of methods into specs, and specs into table rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from spact_lib.baselines import SHRINKS, baseline
from spact_lib.config import (
    AnonymizerSpec,
    BaselineSpec,
    DataSpec,
    FramesSpec,
    InitActionSpec,
    InitAnonymizerSpec,
    InitPrivacySpec,
    Method,
    NoiseFeaturesSpec,
    ObfuscationSpec,
    Profile,
    ReleaseSpec,
    ScoreSpec,
    TargetSpec,
    TestSpec,
)
from spact_lib.config import profile as named_profile
from spact_lib.data import rows_of
from spact_lib.errors import UserError, missing_left_out, unknown_name
from spact_lib.methods import F_T, KINDS, METHODS, LearnedMethod, architecture, chooses
from spact_lib.networks.action import refuse_unknown
from spact_lib.networks.privacy import encoder_names
from spact_lib.obfuscation import marked_persons, obfuscation, refuse_without_weights
from spact_lib.paths import runs_root
from spact_lib.plain import plain
from spact_lib.protocols import MARKED, Column, Protocol, Role, data_spec, is_own
from spact_lib.protocols import protocol as named_protocol
from spact_lib.store import Artifact, Store, manifest_of, unfolded
from spact_lib.video import letterbox

KEEP_ACTION = 3.0  # points of validation action (``headline``) that an f_A may cost when omega is chosen


@dataclass(frozen=True)
class Study:
    """See the module. ``leave_out`` = (column, value): test on those rows instead of the test split."""

    profile: Profile
    protocol: Protocol
    store: Store
    seed: int = 0
    leave_out: tuple[str, str] | None = None
    _data: dict[str, DataSpec] = field(default_factory=dict)
    _chosen: dict[str, tuple[Method, dict[float, float]]] = field(default_factory=dict, init=False)  # and what tried

    def __post_init__(self) -> None:
        # Now, not after hours of training: a seed that is none, a dataset that is not there, a misspelt task, videos
        # too few to tell apart.
        if type(self.seed) is not int or self.seed < 0:
            raise UserError(f"the seed is {self.seed!r}; give an integer from 0 up")
        for name, value in self.profile:
            if isinstance(value, str) and name.endswith("f_T"):
                refuse_unknown(value)
            elif isinstance(value, str) and name.endswith("f_B"):
                encoder_names(value)
        if not self.store.read_only:
            for role in self.protocol.roles:
                manifest_of(self.data(role)).task(role.task)
            for role in (role for target in self.protocol.targets.values() for role in target.tested_on):
                rows_of(manifest_of(self.data(role)), "test")
            manifest = manifest_of(self.data(self.protocol.action))
            rows, batch = len(rows_of(manifest, "train")), min(self.profile.init_f_B.batch, self.profile.minimax.batch)
            if min(rows, batch) < 2:
                raise UserError(
                    "a self-supervised f_B tells the videos of a batch apart and needs at least two; dataset "
                    f"{manifest.name!r} has {rows} of split 'train', and the profile's smallest batch holds {batch}"
                )

    def under(self, protocol: str) -> "Study":
        """The same replicate under another protocol, by name."""
        return replace(self, protocol=named_protocol(protocol))

    def data(self, role: Role) -> DataSpec:
        """The prepared dataset of a role."""
        if role.dataset not in self._data:
            self._data[role.dataset] = data_spec(self.profile, role.dataset, self.leave_out)
        return self._data[role.dataset]

    @property
    def boxes(self) -> Literal["oracle", "coco", "marked"]:
        """Who says where persons are: the tables of one's own data, where all do; else in one's own data the detector,
        elsewhere the profile's choice."""
        if all(self.data(role).fingerprint.endswith(MARKED) for role in self.protocol.roles):
            return "marked"
        own = any(is_own(role.dataset) for role in self.protocol.roles)
        return "coco" if own else self.profile.boxes

    @cached_property
    def init_f_A(self) -> InitAnonymizerSpec:
        """f_A after Eq. 4: shared by all learned methods, and the identity row."""
        p = self.profile
        return InitAnonymizerSpec(
            action=self.data(self.protocol.action),
            privacy=self.data(self.protocol.privacy),
            view=p.action_view,
            width=p.width,
            schedule=p.init_f_A,
            threshold=p.th_A0,
            precision=p.precision,
            seed=self.seed,
        )

    def check(self, methods: Iterable[str]) -> None:
        """Refuse now what would else end hours of training.

        Raises:
            UserError: an unknown method; one whose settings cannot be (``LearnedMethod.check``), or whose function is
                missing; persons to be found without the detector's weights; persons marked by what is no box.
        """
        for name in methods:
            if name not in METHODS:
                raise unknown_name("method", name, METHODS)
            if isinstance(METHODS[name], LearnedMethod):
                METHODS[name].check(name, self)
            elif METHODS[name] not in KINDS:
                raise unknown_name(f"kind of method {name!r}:", METHODS[name], [*KINDS, "a LearnedMethod"])
            elif METHODS[name] == "baseline":
                baseline(name)
            elif METHODS[name] == "obfuscation":
                obfuscation(name)
            if METHODS[name] == "obfuscation" and not self.store.read_only:
                if self.boxes == "coco":
                    refuse_without_weights()
                if self.boxes == "marked":
                    for role in self.protocol.roles:
                        marked_persons(manifest_of(self.data(role)))

    def _learned(self, name: str) -> LearnedMethod:
        learned = METHODS.get(name)
        if not isinstance(learned, LearnedMethod):
            legal = [name for name, method in METHODS.items() if isinstance(method, LearnedMethod)]
            raise unknown_name("learned method", name, legal)
        return learned

    def init_f_T(self, f_T: str = "own", on_raw: bool = False) -> InitActionSpec:
        p = self.profile
        return InitActionSpec(
            f_A=self.init_f_A, task=self.protocol.action.task, network=architecture(p, F_T, f_T), schedule=p.init_f_T,
            threshold=p.th_T0, seed=self.seed, on_raw=on_raw,
        )  # fmt: skip

    def init_f_B(self, method: LearnedMethod) -> InitPrivacySpec:
        p = self.profile
        return InitPrivacySpec(
            f_A=self.init_f_A, branch=method.branch(self), schedule=p.init_f_B, threshold=p.th_B0, seed=self.seed,
            on_raw=method.on_raw,
        )  # fmt: skip

    def anonymizer(self, method: str, omega: float) -> AnonymizerSpec:
        """f_A* of a learned method for one omega."""
        p, learned = self.profile, self._learned(method)
        return AnonymizerSpec(
            f_T=self.init_f_T(learned.f_T, learned.on_raw), f_B=self.init_f_B(learned), omega=omega, schedule=p.minimax,
            threshold=p.th_Bmax, norm_momentum=p.norm_momentum, seed=self.seed, update_f_B=learned.update_f_B,
            action_loss=learned.action_loss, f_B_steps=learned.f_B_steps,
            clamp_L_B=learned.clamp_L_B,
        )  # fmt: skip

    def noise_features(self, sigma: float) -> NoiseFeaturesSpec:
        """Noise-features for one sigma."""
        return NoiseFeaturesSpec(f_T=self.init_f_T(), sigma=sigma, schedule=self.profile.minimax, seed=self.seed)

    def method(self, name: str) -> Method:
        """The spec of a table row; for a learned method this trains as many omegas as it takes to choose one."""
        if name not in METHODS:
            raise unknown_name("method", name, METHODS)
        kind = METHODS[name]
        if kind == "baseline":
            return BaselineSpec(name=name)
        if kind == "obfuscation":
            return ObfuscationSpec(name=name, boxes=self.boxes)
        if kind == "noise_features":
            return self.choose_sigma()[0]
        return self.init_f_A if kind == "identity" else self.choose_omega(name)[0]

    def choose_omega(self, method: str) -> tuple[AnonymizerSpec, dict[float, float]]:
        """The largest omega of the grid whose validation action (top-1; cMAP of several actions at once) stays within
        ``KEEP_ACTION`` points of raw.

        No privacy label is looked at, so SPAct stays label-free; the supervised row gets the same grid and rule. If no
        omega keeps the action, the smallest one is taken, and its action column will show it. A dataset without
        validation rows cannot choose: it takes the middle of the grid (of two: the larger).

        Returns:
            The chosen spec, and validation top-1 of every omega that was tried (none for a method with a fixed one).
        """
        if method not in self._chosen:
            omega = self._learned(method).omega
            if omega == "spact":
                omega = self.choose_omega("spact")[0].omega
            self._chosen[method] = (
                self._strongest(self.profile.omegas, lambda omega: self.anonymizer(method, omega))
                if omega is None
                else (self.anonymizer(method, omega), {})
            )
        return self._chosen[method]

    def read_by(self, f_T: str, f_B: str, methods: Iterable[str]) -> "Study":
        """The same anonymizers of ``methods``, their omegas chosen as here, read by targets of other architectures.

        The choice and its minutes are this study's: the other one has tried nothing.
        """
        other = replace(self, profile=self.profile.model_copy(update={"target_f_T": f_T, "target_f_B": f_B}))
        for name in methods:
            kind = METHODS[name]
            if kind == "noise_features":
                other._chosen[name] = self.choose_sigma()[0], {}
            elif isinstance(kind, LearnedMethod):
                for each in {name, "spact"} if kind.omega == "spact" else {name}:
                    other._chosen[each] = self.choose_omega(each)[0], {}
        return other

    def choose_sigma(self) -> tuple[NoiseFeaturesSpec, dict[float, float]]:
        """Noise-features with the sigma that the rule of ``choose_omega`` takes, and what was tried."""
        if "noise_features" not in self._chosen:
            self._chosen["noise_features"] = self._strongest(self.profile.sigmas, self.noise_features)
        return self._chosen["noise_features"]

    def tried(self, name: str) -> list[Method]:
        """All that was trained to choose the omega or sigma of a row."""
        if METHODS[name] == "noise_features":
            return [self.noise_features(sigma) for sigma in self.choose_sigma()[1]]
        if not isinstance(METHODS[name], LearnedMethod):
            return []
        chosen_as = "spact" if METHODS[name].omega == "spact" else name  # who takes SPAct's omega needs its search
        return [self.anonymizer(chosen_as, omega) for omega in self.choose_omega(chosen_as)[1]]

    def took_the_largest(self, name: str) -> bool:
        """Whether a row chose its omega or sigma by itself and took the grid's largest: no larger one was tried."""
        return chooses(name) and len(self.tried(name)) == 1  # the grid is tried from the largest down

    def _strongest(
        self, values: Iterable[float], build: Callable[[float], Method]
    ) -> tuple[Method, dict[float, float]]:
        """The rule of ``choose_omega`` for any grid."""
        grid = sorted(values, reverse=True)
        raw = self.store.run(self.choice_spec(BaselineSpec(name="raw"))).metrics["val"]
        if raw is None:
            return build(grid[(len(grid) - 1) // 2]), {}
        tried: dict[float, float] = {}
        for value in grid:
            spec = build(value)
            tried[value] = self.store.run(self.choice_spec(spec)).metrics["val"]
            if tried[value] >= raw - KEEP_ACTION:
                break
        return spec, tried

    def choice_spec(self, method: Method) -> TargetSpec:
        """The f'_T that chooses omega on validation rows: of the actions that f_A knows, whatever the targets are."""
        return self.fresh(method, self.protocol.action, "action")

    def release(self, method: Method, role: Role) -> ReleaseSpec:
        frames = FramesSpec(data=unfolded(self.data(role)), stored_side=self.profile.action_view.stored_side)
        return ReleaseSpec(method=method, frames=frames)

    def target_spec(self, method: Method, target: str, seed: int | None = None) -> TargetSpec:
        """A target of the protocol, by name, trained on what a method releases; its architecture is the profile's."""
        return self.fresh(method, self.protocol.targets[target].learns, target, seed)

    def fresh(
        self, method: Method, learns: Role, target: str, seed: int | None = None, network: str | None = None
    ) -> TargetSpec:
        """A fresh f'_T (``target`` "action") or f'_B for any role; ``network``: in place of the profile's."""
        p, action = self.profile, target == "action"
        view = p.action_view if action else p.privacy_view
        shrink = SHRINKS.get(method.name, 1) if isinstance(method, BaselineSpec) else 1
        return TargetSpec(
            release=self.release(method, learns),
            data=self.data(learns),
            task=learns.task,
            network=network or (p.target_f_T if action else p.target_f_B),
            view=view.model_copy(update={"size": max(1, round(view.size / shrink))}),
            schedule=p.target_action if action else p.target_privacy,
            evaluations=p.evaluations,
            seed=p.target_seeds[0] if seed is None else seed,
        )

    def target(self, method: Method, target: str) -> Artifact:
        """The trained target of the first seed, scored on its own test rows."""
        return self.store.run(self.target_spec(method, target))

    def score_spec(
        self, method: Method, target: str, seed: int | None = None, *, tested: Method | None = None
    ) -> TargetSpec | TestSpec:
        """What gives the scores of a target's columns: the target itself, unless they ask for more than its own test
        rows, row by row.

        Args:
            tested: the method whose release is tested (``conditions``); none: the one that the target learned on.
        """
        trained, asked = self.target_spec(method, target, seed), self.protocol.targets[target]
        where = asked.tested_on[0]
        scores = tuple(
            ScoreSpec(task=task, per=column.per, without=self._without(column, Role(where.dataset, task)))
            for column in asked.columns
            for task in [column.task or asked.learns.task]
        )
        if tested is None and not asked.tested and {*scores} == {ScoreSpec(task=trained.task, per="row", without=())}:
            return trained
        return TestSpec(
            target=trained, release=self.release(tested or method, where), data=self.data(where), scores=scores
        )

    def scores(self, method: Method, target: str, seed: int | None = None) -> list[dict]:
        """Metrics of each column of a target."""
        spec = self.score_spec(method, target, seed)
        metrics = self.store.run(spec).metrics
        columns = self.protocol.targets[target].columns
        return metrics["scores"] if isinstance(spec, TestSpec) else [metrics] * len(columns)

    def _without(self, column: Column, tested: Role) -> tuple[str, ...]:
        """The classes that a column leaves out: none where the data have none of them."""
        if not column.without:
            return ()
        shared = self.profile.source != "mini"  # of data that are not here: those that are built in have none
        with missing_left_out():
            shared = bool({*column.without} & {*manifest_of(self.data(tested)).task(tested.task).classes})
        return column.without if shared else ()


def test_items(study: Study, role: Role, n: int) -> np.ndarray:
    """``n`` rows spread over the test split of a role's dataset."""
    rows = rows_of(manifest_of(study.data(role)), "test")
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)]


def released(
    study: Study, methods: dict[str, Method], role: Role, rows: Iterable[int], parts: Iterable[float] = (0.5,)
) -> dict[str, np.ndarray]:
    """Frames as each method releases them: name -> uint8 (rows * parts, h, w, 3), letterboxed where shapes differ.

    Args:
        rows: of the role's dataset.
        parts: moments of each row's video, 0 its first frame and 1 its last.
    """
    found = {}
    for name, method in methods.items():
        source = study.store.release(study.release(method, role))
        at = [(row, np.array([round(part * (source.n_frames(row) - 1))])) for row in rows for part in parts]
        found[name] = letterbox([source.read(row, index)[0] for row, index in at])
    return found


def each_once(studies: Iterable[Study]) -> list[Study]:
    """The studies in order, one for each replicate: those of the same data and seed are one."""
    return list({study.init_f_A.key(): study for study in studies}.values())


def open_study(
    profile: str = "mini", *, draw: int | None = None, seed: int = 0, protocol: str = "ucf101_vispr1",
    leave_out: tuple[str, str] | None = None, **changes: object,
) -> Study:  # fmt: skip
    """A study by names, with the experiment store of this checkout (``SPACT_RUNS``).

    Args:
        draw: of the built-in data; None: the profile's own. Profiles on official data have none.
        protocol: a name of ``protocols.PROTOCOLS``, or ``DATASET:ACTION/PRIVACY``.
        changes: other settings of the profile, such as ``target_seeds``.

    Raises:
        UserError: an unknown name, or a setting of the wrong type.
    """
    if draw is not None and named_profile(profile).source == "mini":
        changes["draw"] = draw
    settings = named_profile(profile, **changes)
    decode_once = settings.decode_once and not plain()
    store = Store(runs_root() / "store", decode_once=decode_once, workers=settings.workers)
    return Study(settings, named_protocol(protocol), store, seed, leave_out)
