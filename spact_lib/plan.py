"""What a reproduction would run, what that costs and what is missing, without training anything (``--plan``)."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from statistics import median

import pandas as pd

from spact_lib import attacks, conditions, replicates
from spact_lib.ahead import tables
from spact_lib.baselines import SHRINKS
from spact_lib.config import (
    AnonymizerSpec,
    BaselineSpec,
    DataSpec,
    FramesSpec,
    InitActionSpec,
    InitAnonymizerSpec,
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
from spact_lib.errors import UserError
from spact_lib.files import read_json, write_json, write_text
from spact_lib.flop import FRAME_SHAPE, FRAMES_PER_VIDEO, NOT_PREPARED, cost, n_frames
from spact_lib.manifest import missing_files
from spact_lib.methods import CHOICES, METHODS, TABLES, chooses, extra_rows, further_of_paper
from spact_lib.notebooks import ATTACKED, REPLICATES, about, declared_parameters, notebook
from spact_lib.obfuscation import detector_weights
from spact_lib.paths import committed_notebooks, runs_root
from spact_lib.protocols import (
    TABLE_PROTOCOLS,
    Role,
    data_label,
    data_spec,
    dataset_folder,
    how_to_prepare,
)
from spact_lib.protocols import protocol as named_protocol
from spact_lib.store import NotTrainedError, Store, manifest_of, unfolded
from spact_lib.study import Study
from spact_lib.table_text import markdown
from spact_lib.tables import trained_parts

RATE = 100e12  # FLOP/s, only to put days beside the sum
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
        except UserError:
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


def _parts(spec: Spec) -> Iterator[Spec]:
    """What a spec is made from, in the order of making, and itself."""
    for name in type(spec).model_fields:
        if isinstance(value := getattr(spec, name), Spec):
            yield from _parts(value)
    if isinstance(spec, ReconstructionSpec):  # learns from pairs of a release, which is no part of its name
        frames = FramesSpec(data=unfolded(spec.data), stored_side=spec.view.stored_side)
        yield from _parts(ReleaseSpec(method=spec.victim, frames=frames))
    if isinstance(spec, ReleaseSpec) and spec.channel == "h264":
        yield from _parts(spec.in_8_bits)
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
        for spec in (part for whole in found for part in _parts(whole)):
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
        omegas = sorted({*profile.omegas, *(figure["OMEGAS"] if full else ())})
        yield "Fig. 4", "spact", partial(_of_omegas, _planned_study(profile, figure["PROTOCOL"]), omegas)
    if full:
        own = _planned_study(profile, KNOWN)
        other = own.read_by(profile.other_target_f_T, profile.other_target_f_B, ())
        for method in TABLES["table1"]:
            yield "other targets", method, partial(asked, other, method, own)
        for draw, seed in ((profile.draw, 0), *REPLICATES[:ATTACKED]):
            study = _planned_study(_drawn(profile, draw), KNOWN, seed, [attacks.videos(own)])
            for method, attack in attacks.asked(attacks.METHODS):
                yield "attackers", method, partial(_of_attack, study, method, attack)
        for draw, seed in REPLICATES:
            yield from _of_claims(_drawn(profile, draw), draw, seed)


def _drawn(profile: Profile, draw: int) -> Profile:
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


def _of_omegas(study: Study, omegas: Iterable[float]) -> Iterator[Spec]:
    for omega, role, seed in product(omegas, ("action", "privacy"), study.profile.target_seeds):
        yield study.target_spec(study.anonymizer("spact", omega), role, seed)


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
        for _, method, specs in _of_tables(profile, planned_rows(full=False), seed):
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


def _described(run: PlannedRun) -> dict[str, str]:
    """A run for readers: what is made, of which method, from which data, how much training."""
    spec, omega = run.spec, ""
    game = next((part for part in _parts(spec) if isinstance(part, AnonymizerSpec | NoiseFeaturesSpec)), None)
    if game is not None:
        omega = f" omega {game.omega:g}" if isinstance(game, AnonymizerSpec) else f" sigma {game.sigma:g}"
    start = next((part for part in _parts(spec) if isinstance(part, InitAnonymizerSpec)), None)
    of_seed = f", f_A's seed {start.seed}" if start is not None and start.seed else ""
    names = {
        "frames": "decoded frames",
        "init_f_A": "f_A, Eq. 4",
        "init_f_T": "f_T, Eq. 7",
        "init_f_B": "f_B, Eq. 8",
        "anonymizer": "f_A*, minimax",
        "noise_features": "f_A without f_B",
        "reconstruction": "g, inverting f_A",
        "release": "release",
        "target": "",
        "test": "score",
    }
    trained = spec.target if isinstance(spec, TestSpec) else spec
    what = names.get(spec.kind, spec.kind)
    method = run.method
    if isinstance(trained, TargetSpec):
        letter = "T" if trained.view.n_frames > 1 else "B"
        what = f"{what} f'_{letter} {trained.task}, {trained.network}, seed {trained.seed}".strip()
        if isinstance(spec, TestSpec) and trained.release.method != spec.release.method:
            teacher = _released(trained.release.method)
            what += f", learned on {method + omega if teacher == 'learned' else teacher}"
    release = spec if isinstance(spec, ReleaseSpec) else getattr(spec, "release", None)
    if release is not None:
        of = _released(release.method)
        if of == "inverted":
            method += ", inverted"
        elif of not in (method, "learned"):  # raw, read by who learned on a release
            method, omega = of, ""
        what += f", {release.channel}" * (release.channel != "uint8")
    datasets = dict.fromkeys(part.name for part in _data(spec))
    schedule = getattr(spec, "schedule", None)
    # The start of all learned methods belongs to none of them.
    shared = isinstance(spec, FramesSpec | InitAnonymizerSpec | InitActionSpec)
    return {
        "run": what + of_seed * shared,
        "method": "" if shared else method + omega + of_seed,
        "data": ", ".join(datasets),
        "steps x batch": f"{schedule.steps:,} x {schedule.batch}" if schedule else "",
        "for": ", ".join(name.removeprefix("table") for name in run.items),
    }


def _released(method: Method) -> str:
    if isinstance(method, ReconstructionSpec):
        return "inverted"
    return method.name if isinstance(method, BaselineSpec | ObfuscationSpec) else "learned"


def _data(spec: Spec) -> Iterator[DataSpec]:
    """The datasets that a run itself reads."""
    own = {name: getattr(spec, name) for name in type(spec).model_fields}
    yield from (value for value in own.values() if isinstance(value, DataSpec))
    for name in ("frames", "f_A", "f_T"):  # f_T, f_B and the game read what their f_A does
        if isinstance(own.get(name), Spec):
            yield from _data(own[name])


def as_table(runs: list[PlannedRun]) -> pd.DataFrame:
    """A row per run: what, of which method, from which data, PFLOP, share of what is still to be computed (percent)."""
    total = sum(run.flop or 0 for run in runs if not run.done)
    rows = []
    for run in runs:
        known = run.flop is not None
        share = "done" if run.done else f"{100 * run.flop / total:.2f}" if known and total else "?"
        described = _described(run)
        items = described.pop("for")
        pflop = f"{run.flop / 1e15:,.3g}" if known else "?"
        rows.append(described | {"PFLOP": pflop, "share %": share, "for": items})
    return pd.DataFrame(rows)


def missing(profile: Profile, runs: list[PlannedRun]) -> list[str]:
    """A line per dataset (and file of weights) that the runs read: it is there, or what to do."""
    found = {data.folder: data for run in runs for part in _parts(run.spec) for data in _data(part)}
    lines, profiles = [], [_drawn(profile, draw) for draw in (profile.draw, *(draw for draw, _ in REPLICATES))]
    for folder, data in sorted(found.items(), key=lambda item: item[1].name):
        of_draw = next((each for each in profiles if data_label(each, folder.name) == data.name), profile)
        name = data.name if profile.source == "mini" else folder.name
        if data.fingerprint == NOT_PREPARED:
            lines.append(f"{name}: not prepared; run `{how_to_prepare(of_draw, folder.name)}`")
            continue
        manifest = manifest_of(data)
        gone = len(missing_files(manifest))
        files = manifest.rows.loc[manifest.rows["split"] != "unused", "path"].nunique()
        unlearned = "" if (manifest.rows["split"] == "train").any() else "; it has no training rows"
        state = f"{gone:,} of {files:,} files missing under {manifest.root.resolve()}" if gone else "all files there"
        lines.append(f"{name}: prepared, {len(manifest):,} rows, {state}{unlearned}")
    detector = any(isinstance(m, ObfuscationSpec) and m.boxes == "coco" for r in runs for m in _parts(r.spec))
    if detector and not (file := detector_weights()).exists():
        lines.append(f"weights of the person detector: not at {file}; downloaded when a row needs them")
    return lines


def write(
    profile: Profile, full: bool = False, until: str | None = None, *, tell: Callable[[str], None] = print
) -> None:
    """Tell the plan, and write its table as csv; the minutes of what only ``full`` makes are kept for the README."""
    runs, unknown = plan(profile, full, until)
    table, found = as_table(runs), seconds_by_flop(runs)
    tell(text(profile, runs, unknown, full, until))
    path = runs_root() / f"plan-{profile.name}.csv"
    tell(f"plan: {write_text(path, table.to_csv(index=False))}")
    if full and None not in found.values():
        kept = runs_root() / "records" / profile.name / "plan.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        first = {run.spec.key() for run in plan(profile)[0]}
        further = [run for run in runs if run.spec.key() not in first]
        finished, minutes = sum(run.done for run in further), round(sum(found[run.spec.key()] for run in further) / 60)
        write_json(kept, {"runs": len(further), "finished": finished, "minutes": minutes})


def text(profile: Profile, runs: list[PlannedRun], unknown: list[str], full: bool, until: str | None = None) -> str:
    """A plan for readers."""
    table = as_table(runs)
    todo = [run for run in runs if not run.done]
    total = sum(run.flop or 0 for run in todo)
    uncounted = sum(run.flop is None for run in todo)
    kept = sum(map(disk, todo))
    last = f" until notebook {until}" if until else ""
    # Built-in data are drawn: the doctor has nothing to get for them.
    doctor = f"- what to get, from where, and all else to do: `spact doctor --profile {profile.name}`"
    lines = [
        f"# Plan of profile {profile.name}{last}: {len(runs)} runs, {len(runs) - len(todo)} of them done",
        "",
        "Upper bound: omega is chosen by training, so the whole grid is listed, and the smallest omega stands for the "
        "chosen one. A run is listed once, for all that it serves: tables by number. "
        + (
            ""
            if full
            else "One seed (and draw). With --full also further columns, rows, omegas; attackers; the claims."
        )
        + (" Processes that work ahead may begin runs of later notebooks, too." if until else ""),
        "",
        "## Inputs",
        "",
        *(f"- {line}" for line in missing(profile, runs)),
        *([doctor] if profile.source != "mini" else []),
        "",
        "## Runs",
        "",
        *markdown([list(table.columns), *table.to_numpy().tolist()]),
        "",
        "## Cost",
        "",
        f"To be computed: {total / 1e18:,.4g} EFLOP, {total / RATE / 86400:,.3g} days at {RATE / 1e12:.0f} TFLOP/s."
        + (f" Not in it: {uncounted} runs (?) that pass over datasets that are not prepared." if uncounted else ""),
        "FLOP = 2 x multiply-adds; a network that learns costs 3 forward passes, a frozen one that passes a gradient "
        f"on 2, others 1. Videos of unknown length: {FRAMES_PER_VIDEO} frames. Decoding is not counted.",
        "Disk for released and decoded frames of these runs, about: "
        + (
            "unknown until the datasets are prepared."
            if uncounted and not kept
            else f"{kept / 1e12:,.3g} TB." + (f" Not in it: those {uncounted} runs." if uncounted else "")
        ),
        *_told_minutes(runs),
        "",
    ]
    groups = {"kind of run": lambda run: [run.spec.kind], "for (shared runs in each)": lambda run: run.items}
    for heading, group in groups.items():
        sums: dict[str, list[float]] = {}
        for run in todo:
            for name in group(run):
                sums.setdefault(name, []).append(run.flop or 0)
        rows = [[n, str(len(v)), f"{100 * sum(v) / total:.1f}" if total else "?"] for n, v in sums.items()]
        lines += [*markdown([[heading, "runs", "share %"], *rows]), ""]
    if unknown:
        lines += ["## Not planned: what these are is known only after training", "", *(f"- {u}" for u in unknown), ""]
    return "\n".join(lines)


def disk(run: PlannedRun) -> float:
    """Bytes of the frames that a run keeps, 0 where it keeps none or its dataset is not prepared."""
    if not isinstance(run.spec, ReleaseSpec | FramesSpec):
        return 0.0
    frames = run.spec.frames if isinstance(run.spec, ReleaseSpec) else run.spec
    each = 3 * FRAME_SHAPE * frames.stored_side**2
    if isinstance(run.spec, ReleaseSpec):
        each *= 4 if run.spec.channel == "float" else 1
        each /= SHRINKS.get(getattr(run.spec.method, "name", ""), 1) ** 2
    return each * (n_frames(frames.data) or 0.0)


def _told_minutes(runs: list[PlannedRun]) -> list[str]:
    if not any(run.done for run in runs):
        return []
    found, left = seconds_by_flop(runs), [run for run in runs if not run.done]
    known = [seconds for run in left if (seconds := found[run.spec.key()]) is not None]
    taken = sum(run.seconds for run in runs if run.done)
    return [
        f"Minutes of one process (processes share them): finished runs took {taken / 60:,.0f}; the others need about "
        f"{sum(known) / 60:,.0f}, as many for their FLOP as finished ones of their kind."
        + (f" Not in it: {n} runs of which no like is finished." if (n := len(left) - len(known)) else "")
    ]
