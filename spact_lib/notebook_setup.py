"""What every notebook does first, and what it shows while it trains."""

import io
import json
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from spact_lib import figures, plan, result_figures, table_text, tables
from spact_lib.ahead import whatever_is_free
from spact_lib.apps.transcode import Steady, flicker
from spact_lib.apps.viewer import overlaid
from spact_lib.attention import attention
from spact_lib.branches import BRANCHES, build_branch
from spact_lib.config import AnonymizerSpec, Profile, Spec
from spact_lib.config import profile as named_profile
from spact_lib.device import environment
from spact_lib.errors import UserError, missing_left_out
from spact_lib.experiments import snapshot_frames, uninformative_loss
from spact_lib.footnotes import FAULTS, left_out
from spact_lib.methods import METHODS, TABLES, LearnedMethod, further_of_paper
from spact_lib.notebooks import in_name
from spact_lib.paths import mini_folder
from spact_lib.protocols import PROTOCOLS, TABLE_PROTOCOLS, Role, is_own
from spact_lib.protocols import protocol as named_protocol
from spact_lib.store import Artifact
from spact_lib.study import Study, open_study, released, test_items
from spact_lib.video import letterbox


def open_notebook(
    profile: str, *, draw: int, seed: int, protocol: str = "ucf101_vispr1", target_seeds: Iterable[int] = ()
) -> Study:
    """Check the parameters, draw the built-in data where a profile uses them, say on what this runs.

    The environment variable SPACT_PROFILE takes the place of ``profile``: nbval cannot inject parameters.

    Args:
        target_seeds: of f'_T and f'_B; empty: the profile's own.

    Raises:
        UserError: a parameter of the wrong type, or an unknown name.
    """
    for name, value in (("DRAW", draw), ("SEED", seed)):
        if type(value) is not int or value < 0:
            raise UserError(f"{name} = {value!r}: give an integer from 0 up")
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    settings = read_profile(profile, **changes)  # a wrong name or value is told before minutes of drawing
    roles = named_protocol(protocol).roles
    if not all(is_own(role.dataset) for role in roles):
        draw_data(settings.name, draw)
    study = open_study(settings.name, draw=draw, seed=seed, protocol=protocol, **changes)
    print(f"profile {study.profile.name}, protocol {protocol}, draw {study.profile.draw}, seed {seed}")
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    if study.store.read_only:
        print("read-only: everything below comes from finished or committed records, nothing is trained")
    return study


def read_profile(profile: str, **changes: object) -> Profile:
    """A notebook's profile, or the one that the environment variable SPACT_PROFILE names in its place.

    Raises:
        UserError: it is no name, or an unknown one.
    """
    if not isinstance(profile, str):
        raise UserError(f"PROFILE = {profile!r}: give a name")
    return named_profile(os.environ.get("SPACT_PROFILE", profile), **changes)


def suffix(study: Study, protocol: str = "ucf101_vispr1", default_protocol: str = "ucf101_vispr1") -> str:
    """What is added to the names of a run's tables, figures and records: nothing for the default run of a profile.

    So a run with another draw, seed, protocol or other target seeds does not overwrite what is to be committed, nor
    does one of ``spact run`` with another parameter (``notebooks.run_digest``).

    Args:
        protocol: of the run.
        default_protocol: of the notebook.
    """
    own, default = study.profile, named_profile(study.profile.name)
    parts = {
        f"draw{own.draw}": own.draw != default.draw,
        f"seed{study.seed}": study.seed != 0,
        in_name(protocol, "A-Za-z0-9_"): protocol != default_protocol,
        "targets" + "_".join(map(str, own.target_seeds)): own.target_seeds != default.target_seeds,
        (digest := os.environ.get("SPACT_RUN_DIGEST", "")): bool(digest),
    }
    return "".join(f"-{part}" for part, differs in parts.items() if differs)


def fill_table(name: str, study: Study) -> None:
    """Every row of a table: found in the store, or trained, those first that no process that works ahead is making."""
    study.check(TABLES[name])
    whatever_is_free([(study, method, target) for method in TABLES[name] for target in study.protocol.targets])
    print("ready:", ", ".join(tables.label(method) for method in TABLES[name]))


def replicated_table(
    name: str, study: Study, protocol: str, replicates: Iterable[Sequence[int]], target_seeds: Sequence[int]
) -> pd.DataFrame:
    """A table over this study and the other replicates whose records are at hand; nothing is trained for those.

    It is written as csv and LaTeX, and all its records are kept for promotion.

    Args:
        replicates: pairs (draw, seed).
        target_seeds: as for ``open_notebook``.
    """
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    own = [study.profile.draw, study.seed]
    pairs = [pair for pair in replicates if list(pair) != own]
    others = tables.at_hand(name, study.profile.name, protocol, pairs, **changes)
    table = tables.table(name, study, *others)
    other = suffix(study, protocol, TABLE_PROTOCOLS.get(name, ("ucf101_vispr1",))[0])
    table_text.save_table(table, study.profile.name, name + other)
    tables.keep_used(name + other, study, *others)
    return table


def with_further_rows(
    name: str, table: pd.DataFrame, study: Study, protocol: str, replicates: Iterable[Sequence[int]],
    target_seeds: Sequence[int], kept: str,
) -> pd.DataFrame:  # fmt: skip
    """``table`` and those rows of the paper's that are left out by default whose records are at hand, each a mean over
    the replicates that have it. Nothing is trained; what is missing is named.

    Args:
        table: of ``replicated_table``, as ``protocol``, ``replicates`` and ``target_seeds``.
        kept: the file name of the records.
    """
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    pairs = dict.fromkeys([(study.profile.draw, study.seed), *map(tuple, replicates)])
    further, used, missing = [], [], []
    for row in further_of_paper(name):
        if found := tables.at_hand(name, study.profile.name, protocol, pairs, methods=[row], **changes):
            further.append(tables.table(name, *found, methods=[row]).drop("raw", level="method"))
            boxes, count = further[-1][["boxes", "replicates"]].iloc[0]
            print(f"further row of the paper: {tables.label(row, boxes)}, replicates: {count}")
            used += found
        else:
            missing.append(tables.label(row))
    if missing:
        print("rows of the paper that are not trained here (notebooks 04 and 05, TRAIN_ROWS):", "; ".join(missing))
    if used:
        tables.keep_used(kept, *used)
    return pd.concat([table, *further])


def further_columns(name: str, study: Study, protocols: Iterable[str], *, train: bool) -> pd.DataFrame | None:
    """A table's other groups of columns, those that are trained already; written and kept like ``replicated_table``.

    A column is shown with the default rows, and with the paper's further ones where all columns that are shown have
    them.

    Args:
        protocols: the groups, names of ``protocols.PROTOCOLS``.
        train: also train what is missing.
    """
    for protocol in protocols:
        named_protocol(protocol)  # a misspelt name is no column that is missing
    here, further = study if train else tables.reading(study), further_of_paper(name)
    missing = [p for p in protocols if not train and not tables.is_at_hand(name, here, protocols=[p])]
    shown = [p for p in protocols if p not in missing]
    later = [row for row in further if not train and not tables.is_at_hand(name, here, methods=[row], protocols=shown)]
    print("further columns:", ", ".join(shown) or "none yet")
    asked: list[Spec] = []
    said = {protocol: f"{protocol} (no data yet, not counted)" for protocol in missing}
    for protocol in missing:
        with missing_left_out():
            asked += [spec for row in [*TABLES[name], *further] for spec in plan.asked(here.under(protocol), row)]
            said[protocol] = protocol
    if shown and later:
        asked += [spec for protocol in shown for row in later for spec in plan.asked(here.under(protocol), row)]
        said |= {row: tables.label(row) for row in later}
    if said:
        _tell_not_run(study, here, asked, said.values())
    rows = [*TABLES[name], *(row for row in further if row not in later)]
    other = f"further{_suffix(study, 'ucf101_vispr1')}"
    return _kept(name, here, other, methods=rows, protocols=shown) if shown else None


def further_rows(
    name: str, study: Study, rows: Iterable[str], kept: str, *, train: bool,
    metrics: Mapping[str, str] = tables.METRICS,
) -> pd.DataFrame | None:  # fmt: skip
    """Further rows of a table beside raw data and SPAct, those that are trained already; written and kept like
    ``replicated_table``. What is missing is named, with the minutes of training that it would take, about.

    Args:
        kept: what is added to the table's name in file names.
        train: also train what is missing.
        metrics: as for ``tables.table``.
    """
    here = study if train else tables.reading(study)
    here.check(rows)  # of a reading one, names alone: nobody's weights are asked for by rows that are not trained
    beside = ["raw", "spact"]
    missing = [row for row in rows if not train and not tables.is_at_hand(name, here, methods=[*beside, row])]
    shown = [row for row in rows if row not in missing]
    print("here:", "; ".join(map(tables.label, shown)) or "none yet")
    if missing:
        asked = [spec for row in missing for spec in plan.asked(here, row)]
        _tell_not_run(study, here, asked, map(tables.label, missing))
    kept += _suffix(study, TABLE_PROTOCOLS.get(name, ("ucf101_vispr1",))[0])
    return _kept(name, here, kept, methods=[*beside, *shown], metrics=metrics) if shown else None


def other_targets(name: str, study: Study, *, train: bool) -> pd.DataFrame | None:
    """A table as the profile's other f'_T and f'_B read it (claim K14), of the same anonymizers; written and kept like
    ``replicated_table``.

    Args:
        train: also train what is missing; else None is returned where something is.
    """
    p, here, rows = study.profile, study if train else tables.reading(study), TABLES[name]
    other, changed = None, f"f'_T {p.other_target_f_T} for {p.target_f_T}, f'_B {p.other_target_f_B} for {p.target_f_B}"
    with nullcontext() if train else missing_left_out():
        other = here.read_by(p.other_target_f_T, p.other_target_f_B, rows)
        found = _kept(name, other, f"other_targets{_suffix(study, 'ucf101_vispr1')}")
        print(changed)
        return found
    if other is None:
        print(f"not run: {changed}; nor are the rows that they would read")
        return None
    chosen = [(other.method(row), target) for row in rows for target in other.protocol.targets]
    asked = [other.score_spec(method, target, seed) for method, target in chosen for seed in p.target_seeds]
    _tell_not_run(study, here, asked, [changed])
    return None


def _tell_not_run(study: Study, here: Study, specs: Iterable[Spec], what: Iterable[object]) -> None:
    # What both have used so far says how long each kind of training takes; a store of its own keeps it out of records.
    known = tables.reading(study)
    known.store.used = study.store.used | here.store.used
    minutes = plan.minutes(known, specs)
    about = "" if math.isnan(minutes) else f", about {minutes:.0f} minutes of training"
    print(f"not run{about} (spact reproduce --full):", "; ".join(map(str, what)))


def _suffix(study: Study, default: str) -> str:
    """``suffix`` by what the study itself knows of its protocol."""
    own = study.protocol
    names = [name for name, known in PROTOCOLS.items() if known == own]
    return suffix(study, (names or [f"{own.action.dataset}:{own.action.task}/{own.privacy.task}"])[0], default)


def _kept(name: str, study: Study, kept: str, **shown: object) -> pd.DataFrame:
    table, file = tables.table(name, study, **shown), f"{name}_{kept}"
    table_text.save_table(table, study.profile.name, file)
    tables.keep_used(file, study)
    return table


NO_FILES = "read-only: only records are committed, not what this figure is drawn from"


def show_released(
    study: Study, methods: Iterable[str], role: Role, name: str, *, items: int = 8, parts: Sequence[float] = (0.5,)
) -> None:
    """Draw and save frames of the same test items as each method releases them. Of rows that no table has by default
    those are drawn that are ``without_training``; the others are named.

    Args:
        name: of the figure.
        items: how many, spread over the test rows.
        parts: moments of each item, 0 its first frame and 1 its last.
    """
    if study.store.read_only:
        print(NO_FILES)
        return
    tables.reading(study).check(methods)  # names alone, as nobody's weights are needed for what is left out
    default = set().union(*TABLES.values())
    shown = [method for method in methods if method in default or without_training(study, method, role)]
    if missing := [tables.label(method) for method in methods if method not in shown]:
        print("not drawn, for their releases are not made yet:", "; ".join(missing))
    frames = released(study, tables.labelled(study, shown), role, test_items(study, role, items), parts)
    show(figures.frame_grid(frames)[0], study.profile.name, name)


def without_training(study: Study, method: str, role: Role) -> bool:
    """Whether a method's release is finished, or made in seconds: on the built-in data, which are small and know where
    persons are, of what learns nothing."""
    if study.boxes == "oracle" and METHODS[method] in ("baseline", "obfuscation"):
        return True
    here = tables.reading(study)
    with missing_left_out():
        here.store.files(here.release(here.method(method), role))
        return True
    return False


def show_flicker(study: Study, methods: Iterable[str], *, items: int) -> pd.DataFrame | None:
    """How much whole test clips tremble as each method releases them (``transcode.flicker``), and as ``spact anonymize
    --steady`` would; gray levels of 255, means over ``items`` clips. None where only records are at hand."""
    if study.store.read_only:
        print(NO_FILES)
        return None
    role, found = study.protocol.action, {}
    raw = study.store.release(study.release(study.method("raw"), role))
    for name, method in tables.labelled(study, methods).items():
        source, each = study.store.release(study.release(method, role)), []
        for row in test_items(study, role, items):
            whole = np.arange(source.n_frames(row))
            before, after = raw.read(row, whole), source.read(row, whole)
            loose, change = flicker(before, after)
            each.append((loose, flicker(before, Steady()(after))[0], change))
        found[name] = np.mean(each, axis=0)
    columns = ["flicker", "with --steady", "change of the clips"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).round(2)


def show_omegas(study: Study, omegas: Iterable[float], name: str, *, train: bool) -> pd.DataFrame:
    """SPAct's curve over omega (``tables.omega_curve``), printed, written and kept; what is missing is named with the
    minutes of training that it would take."""
    curve = tables.omega_curve(study, omegas, train=train)
    if missing := [omega for omega in omegas if omega not in curve.index]:
        specs = [study.anonymizer("spact", omega) for omega in missing]
        targets = [(role, seed) for role in ("action", "privacy") for seed in study.profile.target_seeds]
        asked = [study.target_spec(spec, *target) for spec in specs for target in targets]
        _tell_not_run(study, study, asked, [f"omega {omega:g}" for omega in missing])
    records = tables.trained_records([study]).values()
    minutes, hardware = f"{tables.minutes_of(records):.1f}", tables.hardware_of(records)
    text = curve.drop(columns=list(FAULTS)).map("{:.1f}".format).assign(minutes=minutes, hardware=hardware)
    note = f"One replicate; minutes of training of all omegas together: {minutes}. Hardware: {hardware}."
    table_text.save_text(text, study.profile.name, name, note, left_out=left_out(curve))
    tables.keep_used(name, study)
    print("\n".join([text.drop(columns=["minutes", "hardware"]).to_string(), *left_out(curve)]))
    return curve


def show_games(study: Study, methods: Iterable[str], name: str) -> None:
    """Print how far the games of learned methods went (``games``), draw and save their curves; other methods have
    none."""
    specs = {method: study.method(method) for method in methods if isinstance(METHODS[method], LearnedMethod)}
    print(games(study, specs).to_string())
    if study.store.read_only:
        print(NO_FILES)
        return
    runs = {
        method: (logged(study.store.files(spec)), uninformative_loss(spec.f_B, spec.schedule.batch))
        for method, spec in specs.items()
    }
    show(result_figures.game_curves(runs)[0], study.profile.name, name)


def games(study: Study, specs: Mapping[str, AnonymizerSpec]) -> pd.DataFrame:
    """How well f_B did its task before the game and how well it still does at the end, from records.

    Returns:
        A row per method: L_B at the end of f_B's initialisation and of the game (step 2, means over the last steps),
        each in percent of its uninformative value ("–": it has none); L_T at the end.
    """
    found = {}
    for method, spec in specs.items():
        start, end = (study.store.run(each).metrics for each in (spec.f_B, spec))
        branch = spec.f_B.branch
        batch = branch.batch if BRANCHES[branch.loss].needs_images else spec.f_B.schedule.batch
        nothing = build_branch(branch, 0).uninformative(batch), end["L_B_uninformative"]  # batches may differ
        share = [f"{100 * each['L_B'] / of:.0f}" if of else "–" for each, of in zip((start, end), nothing, strict=True)]
        found[tables.label(method)] = [*share, f"{end['L_T']:.2f}"]
    columns = ["L_B before the game, %", "L_B at its end, %", "L_T at its end"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def show_attention(study: Study, name: str, *, items: int = 8) -> None:
    """Draw and save where f_B looks: before the game on raw frames, and before and after it on anonymized ones."""
    if study.store.read_only:
        print(NO_FILES)
        return
    spec, role = study.method("spact"), study.protocol.action
    methods = {"raw": study.method("raw"), "spact": spec}
    frames = released(study, methods, role, test_items(study, role, items))
    rows = {"raw": frames["raw"]}
    for text, method, network in (
        ("$f_B$ before the game, raw", "raw", spec.f_B),
        ("SPAct", "spact", None),
        ("$f_B$ before the game", "spact", spec.f_B),
        ("$f_B$ after the game", "spact", spec),
    ):
        rows[text] = frames[method]
        if network is not None:
            rows[text] = overlaid(frames[method], attention(study.store.load_privacy(network), frames[method]), 0.7)
    title = "bright yellow: where f_B looks most"
    show(figures.frame_grid(rows, title=title)[0], study.profile.name, name)


def draw_data(profile: str, draw: int) -> None:
    """Draw the built-in datasets where a profile uses them; returns at once when they are there or not to be made."""
    settings = named_profile(profile)
    if settings.source != "mini" or os.environ.get("SPACT_READ_ONLY") == "1":
        return
    # Imported here: data_prep is needed by nothing else in the library.
    from data_prep import mini

    folder = mini_folder(settings.scale, draw)
    if not mini.is_drawn(folder, draw, settings.scale):
        took = ": about two minutes on two cores" if settings.scale == "mini" else ""
        print(f"drawing the built-in data, draw {draw}{took}", flush=True)
    mini.draw(folder, draw=draw, scale=settings.scale)


def logged(folder: Path) -> list[dict[str, float]]:
    """The rows that a run has logged so far; a line still being written is left out."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def strips(study: Study, spec: AnonymizerSpec) -> dict[str, np.ndarray]:
    """Test frames, raw and as f_A shows them at the start, halfway and at the end of a minimax run so far:
    name -> uint8 (n, h, w, 3)."""
    saved = sorted(study.store.folder(spec).glob("frames-*.npy"))
    saved = [saved[k] for k in sorted({0, len(saved) // 2, len(saved) - 1}) if saved]
    after = {f"iteration {int(path.stem.removeprefix('frames-'))}": np.load(path) for path in saved}
    return {"raw": letterbox(snapshot_frames(spec, study.store))} | after


def watch(study: Study, spec: AnonymizerSpec, *, name: str, every: float = 30.0) -> Artifact:
    """``study.store.run(spec)``, its curves and strips redrawn below the cell every so many seconds meanwhile.

    The last ones are saved as figures ``<name>_curves`` and ``<name>_strips``.
    """
    folder = study.store.folder(spec)
    curves, pictures = (display(Markdown("*(the first steps are under way)*"), display_id=True) for _ in range(2))

    def redraw(last: bool = False) -> None:
        if not (folder / "metrics.jsonl").exists() or not (rows := logged(folder)):
            return
        drawn = {
            "curves": figures.training_curves(rows, uninformative=uninformative_loss(spec.f_B, spec.schedule.batch))[0],
            "strips": figures.frame_grid(strips(study, spec))[0],
        }
        for (what, fig), place in zip(drawn.items(), (curves, pictures), strict=True):
            if last:
                figures.save(fig, study.profile.name, f"{name}_{what}")
            place.update(_image(fig))

    def keep_redrawing() -> None:
        pause = every
        while not done.wait(pause):
            began = time.monotonic()
            redraw()
            # Drawing takes the interpreter from the training: never more than a twentieth of the time.
            pause = max(every, 20 * (time.monotonic() - began))

    # The training stays in the main thread, where "interrupt kernel" reaches it.
    done = threading.Event()
    thread = threading.Thread(target=keep_redrawing, daemon=True)
    thread.start()
    try:
        artifact = study.store.run(spec)
    finally:
        done.set()
        thread.join()
    redraw(last=True)
    return artifact


def show(fig: Figure, profile: str, name: str) -> None:
    """Save a figure (``figures.save``) and show it below the cell, small enough for a committed notebook: as PNG of few
    colours. On small frames 256 of them are nearer than a JPEG of that size."""
    figures.save(fig, profile, name)
    display(_image(fig))


def _image(fig: Figure) -> Image:
    drawn, buffer = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png", dpi=figures.DPI, bbox_inches="tight")
    plt.close(fig)
    shown = PIL.Image.open(drawn).convert("RGB")
    colours = 256 if any(ax.images for ax in fig.axes) else 128
    shown.quantize(colours, kmeans=1, dither=PIL.Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return Image(data=buffer.getvalue())
