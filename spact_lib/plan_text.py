"""How a plan is told: its table, what it reads and lacks, cost and disk (``plan`` says what would run)."""

from collections.abc import Callable, Iterator

import pandas as pd

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
from spact_lib.files import write_json, write_text
from spact_lib.flop import FRAME_SHAPE, FRAMES_PER_VIDEO, NOT_PREPARED, n_frames
from spact_lib.manifest import missing_files
from spact_lib.notebooks import REPLICATES
from spact_lib.obfuscation import detector_weights
from spact_lib.paths import runs_root
from spact_lib.plan import PlannedRun, drawn, parts_of, plan, seconds_by_flop
from spact_lib.protocols import data_label, how_to_prepare
from spact_lib.store import manifest_of
from spact_lib.table_text import markdown

RATE = 100e12  # FLOP/s, only to put days beside the sum


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


def _described(run: PlannedRun) -> dict[str, str]:
    """A run for readers: what is made, of which method, from which data, how much training."""
    spec, omega = run.spec, ""
    game = next((part for part in parts_of(spec) if isinstance(part, AnonymizerSpec | NoiseFeaturesSpec)), None)
    if game is not None:
        omega = f" omega {game.omega:g}" if isinstance(game, AnonymizerSpec) else f" sigma {game.sigma:g}"
    start = next((part for part in parts_of(spec) if isinstance(part, InitAnonymizerSpec)), None)
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


def missing(profile: Profile, runs: list[PlannedRun]) -> list[str]:
    """A line per dataset (and file of weights) that the runs read: it is there, or what to do."""
    found = {data.folder: data for run in runs for part in parts_of(run.spec) for data in _data(part)}
    lines, profiles = [], [drawn(profile, draw) for draw in (profile.draw, *(draw for draw, _ in REPLICATES))]
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
    detector = any(isinstance(m, ObfuscationSpec) and m.boxes == "coco" for r in runs for m in parts_of(r.spec))
    if detector and not (file := detector_weights()).exists():
        lines.append(f"weights of the person detector: not at {file}; downloaded when a row needs them")
    return lines


def _data(spec: Spec) -> Iterator[DataSpec]:
    """The datasets that a run itself reads."""
    own = {name: getattr(spec, name) for name in type(spec).model_fields}
    yield from (value for value in own.values() if isinstance(value, DataSpec))
    for name in ("frames", "f_A", "f_T"):  # f_T, f_B and the game read what their f_A does
        if isinstance(own.get(name), Spec):
            yield from _data(own[name])


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
