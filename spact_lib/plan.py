"""What a reproduction would run, what that costs and what is missing, without training anything (``--plan``).

Cost in FLOP (2 per multiply-add), counted from the networks themselves: a network that learns costs three forward
passes per sample (forward, gradients of activations and of weights), a frozen one that only passes the gradient on two,
one without gradient a single pass. Not counted: decoding, augmentation, optimizers, the search of a detector.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from spact_lib.action_losses import ACTION_LOSSES
from spact_lib.ahead import tables
from spact_lib.branches import BRANCHES
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
    Spec,
    TargetSpec,
    TestSpec,
)
from spact_lib.errors import UserError
from spact_lib.manifest import missing_files
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.networks.privacy import PrivacyNetwork
from spact_lib.obfuscation import detector_weights
from spact_lib.paths import runs_root
from spact_lib.protocols import TABLE_PROTOCOLS, Protocol, data_label, data_spec, dataset_folder, how_to_prepare
from spact_lib.protocols import protocol as named_protocol
from spact_lib.store import NotTrainedError, Store, manifest_of
from spact_lib.study import CHOICES, METHODS, TABLE_EXTRAS, TABLES, LearnedMethod, Study
from spact_lib.tables import markdown, trained_parts
from spact_lib.target import build_target

FRAMES_PER_VIDEO = 200  # assumed where a manifest does not say: UCF101's videos have about 180, HMDB51's about 90
FRAME_SHAPE = 4 / 3  # assumed width of a stored frame over its height
STILLS = (".jpg", ".jpeg", ".png")
RATE = 100e12  # FLOP/s, only to put days beside the sum
NOT_PREPARED = ""  # in place of a fingerprint


@dataclass
class PlannedRun:
    """A spec that would be made: for which method and tables, its cost, whether it is finished."""

    spec: Spec
    method: str
    flop: float | None  # None: unknown before the dataset is prepared
    done: bool
    tables: list[str] = field(default_factory=list)


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


def _f_A(spec: InitAnonymizerSpec, size: int | None = None) -> float:
    return forward_flop("f_A", "", 1, size or spec.view.size, spec.width)


def _f_T(spec: InitActionSpec) -> float:
    return forward_flop("target", spec.network, spec.f_A.view.n_frames, spec.f_A.view.size)


def _privacy_branch(spec: InitPrivacySpec, videos: int) -> tuple[float, float]:
    """Frames for f_A, and FLOP of one forward pass of f_B, in a step."""
    branch = spec.branch
    once = forward_flop("f_B", branch.network, branch.n_frames, spec.f_A.view.size)
    if BRANCHES[branch.loss].needs_images:
        images = branch.batch * (1 + len(BRANCHES[branch.loss].further))
        return images, images * once
    views = 4 if branch.loss == "rotnet" else 2
    return 2 * branch.n_frames * videos, views * videos * once


def learning(spec: TargetSpec) -> float:
    """FLOP of training a target, without the rows that it looks at to choose its checkpoint and to be tested."""
    once = forward_flop("target", spec.network, spec.view.n_frames, spec.view.size)
    return 3 * spec.schedule.steps * spec.schedule.batch * once


def cost(spec: Spec) -> float | None:
    """FLOP of making a spec, without what it is made from.

    Of a dataset that is not prepared nobody knows the size: a release and a score have None then, a target its training
    alone.
    """
    if isinstance(spec, InitAnonymizerSpec):
        return 3 * spec.schedule.steps * spec.schedule.batch * _f_A(spec)
    if isinstance(spec, InitActionSpec):
        clips = spec.schedule.steps * spec.schedule.batch
        through_f_A = 0 if spec.on_raw else spec.f_A.view.n_frames * _f_A(spec.f_A)
        return clips * (through_f_A + 3 * _f_T(spec))
    if isinstance(spec, InitPrivacySpec):
        frames, f_B = _privacy_branch(spec, spec.schedule.batch)
        return spec.schedule.steps * ((0 if spec.on_raw else frames * _f_A(spec.f_A)) + 3 * f_B)
    if isinstance(spec, AnonymizerSpec):
        videos = spec.schedule.batch
        frames, f_B = _privacy_branch(spec.f_B, videos)
        clips = videos * (1 + len(ACTION_LOSSES[spec.action_loss.loss].further))
        of_frames, f_T = frames * _f_A(spec.f_A), clips * _f_T(spec.f_T)
        f_A = clips * spec.f_A.view.n_frames * _f_A(spec.f_A) + of_frames
        step1 = 3 * f_A + 2 * (f_T + f_B)
        step2 = f_A + 3 * f_T + (3 if spec.update_f_B else 1) * f_B
        return spec.schedule.steps * (step1 + step2 + (spec.f_B_steps - 1) * (of_frames + 3 * f_B))
    if isinstance(spec, NoiseFeaturesSpec):
        once = spec.f_A.view.n_frames * _f_A(spec.f_A) + _f_T(spec.f_T)
        return 3 * spec.schedule.steps * spec.schedule.batch * once
    if isinstance(spec, ReleaseSpec):
        if not isinstance(spec.method, InitAnonymizerSpec | AnonymizerSpec | NoiseFeaturesSpec):
            return 0.0
        start = spec.method if isinstance(spec.method, InitAnonymizerSpec) else spec.method.f_A
        side, frames = spec.frames.stored_side, _frames(spec.frames.data)
        return frames and frames * _f_A(start, start.view.size) * FRAME_SHAPE * (side / start.view.size) ** 2
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
        return once * sum(clips if by_row else _frames(spec.data) for by_row in kinds)
    return 0.0


def _frames(data: DataSpec) -> float | None:
    """Frames of all rows in use."""
    if data.fingerprint == NOT_PREPARED:
        return None
    rows = manifest_of(data).rows
    rows = rows[rows["split"] != "unused"]
    known = (rows["end"] - rows["start"].fillna(0)).astype("Float64")
    still = rows["path"].str.lower().str.endswith(STILLS)
    return float(known.fillna(FRAMES_PER_VIDEO).where(~still, 1).sum())


def _planned_study(profile: Profile, protocol: Protocol) -> Study:
    """A study that trains nothing, with a stand-in for each dataset that is not prepared."""
    data = {}
    for name in dict.fromkeys(role.dataset for role in protocol.roles):
        try:
            data[name] = data_spec(profile, name)
        except UserError:
            folder = dataset_folder(profile, name)
            data[name] = DataSpec(name=data_label(profile, name), folder=folder, fingerprint=NOT_PREPARED)
    store = Store(runs_root() / "store", decode_once=profile.decode_once, read_only=True)
    return Study(profile, protocol, store, _data=data)


def _candidates(study: Study, name: str) -> list[Method]:
    """What a row may train at most: the whole grid of omega (or sigma), of which the last is then the chosen one."""
    learned = METHODS[name]
    if learned == "noise_features":
        return [study.noise_features(sigma) for sigma in sorted(study.profile.sigmas, reverse=True)]
    if not isinstance(learned, LearnedMethod):
        return [study.method(name)]
    grid = sorted(study.profile.omegas, reverse=True)
    if learned.omega is None:
        return [study.anonymizer(name, omega) for omega in grid]
    return [study.anonymizer(name, grid[-1] if learned.omega == "spact" else learned.omega)]


def _parts(spec: Spec) -> Iterator[Spec]:
    """What a spec is made from, in the order of making, and itself."""
    for name in type(spec).model_fields:
        if isinstance(value := getattr(spec, name), Spec):
            yield from _parts(value)
    yield spec


def plan(profile: Profile, full: bool = False) -> tuple[list[PlannedRun], list[str]]:
    """Every run of every table (one draw, one seed), each once and after what it needs; and rows that cannot be
    planned, because what they are is only known after training.

    Args:
        full: with the further columns and rows that notebooks 04 and 05 train with ``--full``.
    """
    runs: dict[str, PlannedRun] = {}
    unknown: dict[str, None] = {}
    for table, protocol, methods in planned_rows(full):
        study = _planned_study(profile, named_protocol(protocol))
        for method in methods:
            try:
                specs = list(asked(study, method))
            except NotTrainedError:
                unknown[f"{table}, {protocol}: {method}"] = None
                continue
            for spec in (part for whole in specs for part in _parts(whole)):
                if _makes_nothing(spec, profile):
                    continue
                if spec.key() not in runs:
                    done = (study.store.folder(spec) / "record.json").exists()
                    runs[spec.key()] = PlannedRun(spec, method, cost(spec), done)
                if table not in runs[spec.key()].tables:
                    runs[spec.key()].tables.append(table)
    return list(runs.values()), list(unknown)


def planned_rows(full: bool) -> list[tuple[str, str, list[str]]]:
    """(table, protocol, methods) that a reproduction trains, or with ``full`` that it trains for the tables."""
    if not full:
        return [(table, protocol, list(TABLES[table])) for table, protocol in tables()]
    found = []
    for table, methods in TABLES.items():
        further = TABLE_EXTRAS.get(table, {}) | (CHOICES if table == "table1" else {})
        for k, protocol in enumerate(TABLE_PROTOCOLS.get(table, ("ucf101_vispr1",))):
            found.append((table, protocol, [*methods, *(further if k == 0 else ())]))
    return found


def asked(study: Study, method: str) -> Iterator[Spec]:
    """The specs that a table row asks for, at most."""
    candidates = _candidates(study, method)
    if len(candidates) > 1:
        yield study.choice_spec(study.method("raw"))
        yield from map(study.choice_spec, candidates)
    for target in study.protocol.targets:
        for seed in study.profile.target_seeds:
            yield study.score_spec(candidates[-1], target, seed)


def minutes(study: Study, specs: Iterable[Spec]) -> float:
    """Training that specs would still take, about, each missing part as long as those of its kind took (median).

    Args:
        study: only reading, with its records at hand (``tables.reading``).
    """
    taken: dict[str, list[float]] = {"noise_features": []}
    for record in study.store.used.values():
        taken.setdefault(record["kind"], []).append(record["seconds"])
    taken["noise_features"] += taken.get("anonymizer", [])  # a game without an adversary, before there is one
    parts = {key: part for spec in specs for key, part in trained_parts(spec).items()}
    missing = [part.kind for part in parts.values() if not _finished(study.store, part)]
    return sum(median(taken[kind]) for kind in missing if taken.get(kind)) / 60


def _finished(store: Store, spec: Spec) -> bool:
    try:
        return bool(store.run(spec))
    except NotTrainedError:
        return False


def _makes_nothing(spec: Spec, profile: Profile) -> bool:
    if isinstance(spec, ReleaseSpec):
        return spec.method == BaselineSpec(name="raw")
    if isinstance(spec, FramesSpec):
        return not profile.decode_once
    return isinstance(spec, BaselineSpec | ObfuscationSpec)


def _described(run: PlannedRun) -> dict[str, str]:
    """A run for readers: what is made, of which method, from which data, how much training."""
    spec, omega = run.spec, ""
    game = next((part for part in _parts(spec) if isinstance(part, AnonymizerSpec)), None)
    if game is not None:
        omega = f" omega {game.omega:g}"
    names = {
        "frames": "decoded frames",
        "init_f_A": "f_A, Eq. 4",
        "init_f_T": "f_T, Eq. 7",
        "init_f_B": "f_B, Eq. 8",
        "anonymizer": "f_A*, minimax",
        "release": "release",
        "target": "",
        "test": "score",
    }
    trained = spec.target if isinstance(spec, TestSpec) else spec
    what = names.get(spec.kind, spec.kind)
    if isinstance(trained, TargetSpec):
        letter = "T" if trained.view.n_frames > 1 else "B"
        what = f"{what} f'_{letter} {trained.task}, seed {trained.seed}".strip()
    datasets = dict.fromkeys(part.name for part in _data(spec))
    schedule = getattr(spec, "schedule", None)
    # The start of all learned methods belongs to none of them.
    shared = isinstance(spec, FramesSpec | InitAnonymizerSpec | InitActionSpec)
    return {
        "run": what,
        "method": "" if shared else run.method + omega,
        "data": ", ".join(datasets),
        "steps x batch": f"{schedule.steps:,} x {schedule.batch}" if schedule else "",
        "tables": ", ".join(name.removeprefix("table") for name in run.tables),
    }


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
        tables = described.pop("tables")
        pflop = f"{run.flop / 1e15:,.1f}" if known else "?"
        rows.append(described | {"PFLOP": pflop, "share %": share, "tables": tables})
    return pd.DataFrame(rows)


def missing(profile: Profile, runs: list[PlannedRun]) -> list[str]:
    """A line per dataset (and file of weights) that the runs read: it is there, or what to do."""
    found = {data.folder: data for run in runs for part in _parts(run.spec) for data in _data(part)}
    lines = []
    for folder, data in sorted(found.items(), key=lambda item: item[1].name):
        if data.fingerprint == NOT_PREPARED:
            lines.append(f"{folder.name}: not prepared; run `{how_to_prepare(profile, folder.name)}`")
            continue
        manifest = manifest_of(data)
        gone = len(missing_files(manifest))
        files = manifest.rows.loc[manifest.rows["split"] != "unused", "path"].nunique()
        unlearned = "" if (manifest.rows["split"] == "train").any() else "; it has no training rows"
        state = f"{gone:,} of {files:,} files missing under {manifest.root.resolve()}" if gone else "all files there"
        lines.append(f"{folder.name}: prepared, {len(manifest):,} rows, {state}{unlearned}")
    detector = any(isinstance(m, ObfuscationSpec) and m.boxes == "coco" for r in runs for m in _parts(r.spec))
    if detector and not (file := detector_weights()).exists():
        lines.append(f"weights of the person detector: not at {file}; downloaded when a row needs them")
    return lines


def text(profile: Profile, full: bool = False) -> tuple[str, pd.DataFrame]:
    """The plan for readers, and its table."""
    runs, unknown = plan(profile, full)
    table = as_table(runs)
    todo = [run for run in runs if not run.done]
    total = sum(run.flop or 0 for run in todo)
    uncounted = sum(run.flop is None for run in todo)
    lines = [
        f"# Plan of profile {profile.name}: {len(runs)} runs, {len(runs) - len(todo)} of them done",
        "",
        "One seed (and draw) of every table. Upper bound: omega is chosen by training, so the whole grid is listed, "
        "and the smallest omega stands for the chosen one. A run is listed once, whatever tables share it. "
        + "Not listed: the targets of SPAct's other omegas (Figure 4), the test passes of C1 and C2; with --full also "
        + "other architectures, attackers, the claims' replicates. "
        + ("" if full else "With --full, also the tables' further columns and rows."),
        "",
        *markdown([list(table.columns), *table.to_numpy().tolist()]),
        "",
        "## Cost",
        "",
        f"To be computed: {total / 1e18:,.4g} EFLOP, {total / RATE / 86400:,.3g} days at {RATE / 1e12:.0f} TFLOP/s."
        + (f" Not in it: {uncounted} runs (?) that pass over datasets that are not prepared." if uncounted else ""),
        "FLOP = 2 x multiply-adds; a network that learns costs 3 forward passes, a frozen one that passes a gradient "
        f"on 2, others 1. Videos of unknown length: {FRAMES_PER_VIDEO} frames. Decoding is not counted.",
        "",
    ]
    groups = {"kind of run": lambda run: [run.spec.kind], "table (shared runs in each)": lambda run: run.tables}
    for heading, group in groups.items():
        sums: dict[str, list[float]] = {}
        for run in todo:
            for name in group(run):
                sums.setdefault(name, []).append(run.flop or 0)
        rows = [[n, str(len(v)), f"{100 * sum(v) / total:.1f}" if total else "?"] for n, v in sums.items()]
        lines += [*markdown([[heading, "runs", "share %"], *rows]), ""]
    lines += ["## Inputs", "", *(f"- {line}" for line in missing(profile, runs)), ""]
    if unknown:
        lines += ["## Not planned: what these are is known only after training", "", *(f"- {u}" for u in unknown), ""]
    return "\n".join(lines), table


def place(profile: Profile) -> Path:
    """Where the plan is kept as csv."""
    return runs_root() / f"plan-{profile.name}.csv"
