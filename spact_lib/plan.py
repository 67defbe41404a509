"""What a reproduction would run and what that costs, without training anything (``plan_text`` tells it)."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from statistics import median

from spact_lib import attacks, conditions, replicates
from spact_lib.ahead import tables
from spact_lib.config import (
    AnonymizerSpec,
    BaselineSpec,
    DataSpec,
    FramesSpec,
    Method,
    NoiseFeaturesSpec,
    ObfuscationSpec,
    Profile,
    ReconstructionSpec,
    ReleaseSpec,
    Spec,
    TargetSpec,
    TestSpec,
)
from spact_lib.errors import MissingError, UserError
from spact_lib.files import read_json
from spact_lib.flop import NOT_PREPARED, cost
from spact_lib.methods import CHOICES, METHODS, TABLES, chooses, extra_rows, further_of_paper
from spact_lib.notebooks import ATTACKED, REPLICATES, about, declared_parameters, notebook
from spact_lib.paths import committed_notebooks, runs_root
from spact_lib.protocols import (
    TABLE_PROTOCOLS,
    Role,
    data_label,
    data_spec,
    dataset_folder,
)
from spact_lib.protocols import protocol as named_protocol
from spact_lib.store import NotTrainedError, Store, trained_parts, unfolded
from spact_lib.study import Study

KNOWN = "ucf101_vispr1"  # what notebooks 04 (C1, C2), 10 and 14, and the claims' known setting, read by default
FIRST = "04"  # the notebook of the first table, and of C1 and C2


@dataclass
class PlannedRun:
    """A spec that would be made: for which method, its cost, its seconds if it is finished, and what it is for."""

    spec: Spec
    method: str
    flop: float | None  # None: unknown before the dataset is prepared
    seconds: float | None
    items: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.seconds is not None


def _planned_study(profile: Profile, protocol: str, seed: int = 0, further: Iterable[Role] = ()) -> Study:
    """A study that trains nothing, with a stand-in for each dataset that is not prepared.

    Args:
        further: roles besides the protocol's.
    """
    data, named = {}, named_protocol(protocol)
    for name in dict.fromkeys(role.dataset for role in (*named.roles, *further)):
        try:
            data[name] = data_spec(profile, name)
        except MissingError:
            folder = dataset_folder(profile, name)
            data[name] = DataSpec(name=data_label(profile, name), folder=folder, fingerprint=NOT_PREPARED)
    return Study(profile, named, _store(profile), seed, _data=data)


def _store(profile: Profile) -> Store:
    return Store(runs_root() / "store", decode_once=profile.decode_once, read_only=True)


def _candidates(study: Study, name: str) -> list[Method]:
    """What a row trains, the chosen one last: what was tried, where that is finished; else, at most, the whole grid of
    omega (or sigma)."""
    with suppress(NotTrainedError):
        chosen = study.method(name)
        tried = study.tried(name) if chooses(name) else []
        return [*(method for method in tried if method != chosen), chosen]
    learned = METHODS[name]
    if learned == "noise_features":
        return [study.noise_features(sigma) for sigma in sorted(study.profile.sigmas, reverse=True)]
    grid = sorted(study.profile.omegas, reverse=True)
    return [study.anonymizer(name, omega) for omega in (grid if chooses(name) else grid[-1:])]


def parts_of(spec: Spec) -> Iterator[Spec]:
    """What a spec is made from, in the order of making, and itself."""
    for name in type(spec).model_fields:
        if isinstance(value := getattr(spec, name), Spec):
            yield from parts_of(value)
    if isinstance(spec, ReconstructionSpec):  # learns from pairs of a release, which is no part of its name
        frames = FramesSpec(data=unfolded(spec.data), stored_side=spec.view.stored_side)
        yield from parts_of(ReleaseSpec(method=spec.victim, frames=frames))
    if isinstance(spec, ReleaseSpec) and spec.channel == "h264":
        yield from parts_of(spec.in_8_bits)
    yield spec


def plan(profile: Profile, full: bool = False, until: str | None = None) -> tuple[list[PlannedRun], list[str]]:
    """Every run of a reproduction, each once and after what it needs; and what cannot be planned, because what it is
    is only known after training.

    Args:
        full: with all that ``--full`` goes on with.
        until: the start of the name of the last notebook to be run; None: all.

    Raises:
        UserError: no such notebook; or both, since ``--full`` goes on beyond any notebook.
    """
    if full and until:
        raise UserError(f"--plan lists the runs of --full or those --until {until}; leave out one of the two")
    runs: dict[str, PlannedRun] = {}
    unknown: dict[str, None] = {}
    store = _store(profile)
    for item, method, specs in planned(profile, full, until):
        try:
            found = list(specs())
        except NotTrainedError:
            unknown[f"{item}: {method}"] = None
            continue
        for spec in (part for whole in found for part in parts_of(whole)):
            if _makes_nothing(spec, profile):
                continue
            if spec.key() not in runs:
                taken = read_json(path)["seconds"] if (path := store.folder(spec) / "record.json").exists() else None
                runs[spec.key()] = PlannedRun(spec, method, cost(spec), taken)
            if item not in runs[spec.key()].items:
                runs[spec.key()].items.append(item)
    return list(runs.values()), list(unknown)


Planned = tuple[str, str, Callable[[], Iterable[Spec]]]  # what for, method, its specs


def planned(profile: Profile, full: bool, until: str | None = None) -> Iterator[Planned]:
    """What a reproduction asks for: tables, C1 and C2, Figure 4; with ``full`` also what ``notebooks.FULL`` and the
    claims do."""
    # Notebooks before the first table train some of its runs: its plan is theirs, at most.
    last = max(notebook(until), notebook(FIRST)) if until else committed_notebooks()[-1]
    shown = {table for path in committed_notebooks() if path <= last for table in about(path).get("trains", {})}
    yield from _of_tables(profile, (row for row in planned_rows(full) if full or row[0] in shown))
    yield "C1 and C2", "spact", partial(_of_conditions, _planned_study(profile, KNOWN))
    if last >= notebook("06"):
        figure = declared_parameters(notebook("06"))
        study = _planned_study(profile, figure["PROTOCOL"])
        omegas = sorted({*profile.omegas, *(figure["OMEGAS"] if full else ())})
        yield "Fig. 4", "spact", partial(of_omegas, study, "spact", omegas)
        if full:
            yield "Fig. 4", "supervised", partial(of_omegas, study, "supervised", figure["SUPERVISED_OMEGAS"])
    if full:
        own = _planned_study(profile, KNOWN)
        other = own.read_by(profile.other_target_f_T, profile.other_target_f_B, ())
        for method in TABLES["table1"]:
            yield "other targets", method, partial(asked, other, method, own)
        for draw, seed in ((profile.draw, 0), *REPLICATES[:ATTACKED]):
            study = _planned_study(drawn(profile, draw), KNOWN, seed, [attacks.videos(own)])
            for method, attack in attacks.asked(attacks.METHODS):
                yield "attackers", method, partial(_of_attack, study, method, attack)
        for draw, seed in REPLICATES:
            yield from _of_claims(drawn(profile, draw), draw, seed)


def drawn(profile: Profile, draw: int) -> Profile:
    """A profile with the built-in data of ``draw``; real data are not drawn."""
    return profile.model_copy(update={"draw": draw}) if profile.source == "mini" else profile


def planned_rows(full: bool) -> list[tuple[str, str, list[str]]]:
    """(table, protocol, methods) that a reproduction trains, or with ``full`` that it trains for the tables."""
    if not full:
        return [(table, protocol, list(TABLES[table])) for table, protocol in tables()]
    found = []
    for table, methods in TABLES.items():
        further = [*extra_rows(table), *(CHOICES if table == "table1" else ())]
        for k, protocol in enumerate(TABLE_PROTOCOLS.get(table, (KNOWN,))):
            # The other groups of columns have the paper's rows, ours only the first.
            found.append((table, protocol, [*methods, *(further_of_paper(table) if k else further)]))
    return found


def _of_tables(profile: Profile, rows: Iterable[tuple[str, str, list[str]]], seed: int = 0) -> Iterator[Planned]:
    for table, protocol, methods in rows:
        study = _planned_study(profile, protocol, seed)
        yield from ((table, method, partial(asked, study, method)) for method in methods)


def _of_conditions(study: Study) -> Iterator[Spec]:
    methods = study.method("raw"), _candidates(study, "spact")[-1]
    for target, learned, tested in product(study.protocol.targets, methods, methods):
        yield from conditions.passes(study, target, learned, tested)


def of_omegas(study: Study, method: str, omegas: Iterable[float]) -> Iterator[Spec]:
    """The specs that a curve over omega (``tables.omega_curve``) asks for."""
    for omega, target, seed in product(omegas, study.protocol.axes, study.profile.target_seeds):
        yield study.score_spec(study.anonymizer(method, omega), target, seed)


def _of_attack(study: Study, method: str, attack: str) -> Iterator[Spec]:
    yield from _choice(study, method)
    chosen = _candidates(study, method)[-1]
    for seed in study.profile.target_seeds:
        yield attacks.spec_of(study, attack, chosen, seed)


def _of_claims(profile: Profile, draw: int, seed: int) -> Iterator[Planned]:
    """What a replicate's claims ask for, and its tables."""
    scored = profile.model_copy(update={"target_seeds": replicates.TARGET_SEEDS})
    studies = {name: _planned_study(scored, protocol, seed) for name, (protocol, _) in replicates.SETTINGS.items()}
    known = studies["known"]
    studies["other_targets"] = known.read_by(profile.other_target_f_T, profile.other_target_f_B, ())
    for setting, method, role in replicates.wanted(profile, (draw, seed)):
        study, target = studies[setting], replicates.SETTINGS[setting][1][role]
        owner = known if study.init_f_A == known.init_f_A else study
        yield "claims", method, partial(_of_claim, study, owner, method, target)
    if replicates.place((draw, seed)) < replicates.ABLATIONS:
        rows = [(name, asked, [*of, *further_of_paper(name)]) for name, asked, of in planned_rows(full=False)]
        for _, method, specs in _of_tables(profile, rows, seed):
            yield "claims", method, specs


def _of_claim(study: Study, owner: Study, method: str, target: str) -> Iterator[Spec]:
    yield from _choice(owner, method)
    chosen = _candidates(owner, method)[-1]
    for seed in study.profile.target_seeds:
        yield study.target_spec(chosen, target, seed)


def _choice(study: Study, method: str) -> Iterator[Spec]:
    """What chooses a method's omega (or sigma), where there is more than one."""
    grid = study.profile.sigmas if METHODS[method] == "noise_features" else study.profile.omegas
    if chooses(method) and len(grid) > 1:
        yield study.choice_spec(study.method("raw"))
        yield from map(study.choice_spec, _candidates(study, method))


def asked(study: Study, method: str, owner: Study | None = None) -> Iterator[Spec]:
    """The specs that a table row asks for, at most.

    Args:
        owner: the study that chooses omega, if it is another one (``Study.read_by``).
    """
    owner = owner or study
    yield from _choice(owner, method)
    chosen = _candidates(owner, method)[-1]
    for target in study.protocol.targets:
        for seed in study.profile.target_seeds:
            yield study.score_spec(chosen, target, seed)


def seconds_by_flop(runs: Iterable[PlannedRun]) -> dict[str, float | None]:
    """Seconds of each run, by key: those that it took; else as many for its FLOP as finished runs of its kind (median),
    or where it has no FLOP their median; None: no such run is finished."""
    kinds: dict[tuple, list[PlannedRun]] = {}
    for run in runs:
        if run.done:
            kinds.setdefault(_speed(run.spec), []).append(run)
    found = {}
    for run in runs:
        alike, seconds = kinds.get(_speed(run.spec), []), run.seconds
        rates = [each.seconds / each.flop for each in alike if each.flop]
        # A median also because older records of releases have the seconds of what was trained for them, too.
        if seconds is None and run.flop and rates:
            seconds = run.flop * median(rates)
        elif seconds is None and alike:
            seconds = median(each.seconds for each in alike)
        found[run.spec.key()] = seconds
    return found


def _speed(spec: Spec) -> tuple:
    """Runs that do as many FLOP in a second: networks on clips and on frames do not."""
    trained = spec.target if isinstance(spec, TestSpec) else spec
    games = "game" if isinstance(spec, AnonymizerSpec | NoiseFeaturesSpec) else spec.kind
    return games, isinstance(trained, TargetSpec) and trained.view.n_frames > 1


def minutes(study: Study, specs: Iterable[Spec]) -> float:
    """Training that specs would still take, about, each missing part as long as those of its kind took (median); NaN
    where nothing says how long any of them takes.

    Args:
        study: only reading, with its records at hand (``tables.reading``).
    """
    taken: dict[str, list[float]] = {"noise_features": []}
    for record in study.store.used.values():
        taken.setdefault(record["kind"], []).append(record["seconds"])
    taken["noise_features"] += taken.get("anonymizer", [])  # a game without an adversary, before there is one
    parts = {key: part for spec in specs for key, part in trained_parts(spec).items()}
    missing = [part.kind for part in parts.values() if not _finished(study.store, part)]
    told = [median(taken[kind]) for kind in missing if taken.get(kind)]
    return sum(told) / 60 if told else math.nan


def _finished(store: Store, spec: Spec) -> bool:
    try:
        return bool(store.run(spec))
    except NotTrainedError:
        return False


def _makes_nothing(spec: Spec, profile: Profile) -> bool:
    if isinstance(spec, ReleaseSpec):
        return spec.method == attacks.RAW and spec.channel == "uint8"
    if isinstance(spec, FramesSpec):
        return not profile.decode_once
    return isinstance(spec, BaselineSpec | ObfuscationSpec)
