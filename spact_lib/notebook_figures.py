"""Figures as notebooks draw, show and save them, and what they show while something trains."""

import io
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from spact_lib import figures, result_figures, tables
from spact_lib.apps.transcode import Steady, flicker
from spact_lib.apps.viewer import overlaid
from spact_lib.attention import attention
from spact_lib.config import AnonymizerSpec
from spact_lib.errors import missing_left_out
from spact_lib.experiments import snapshot_frames, uninformative_loss
from spact_lib.methods import METHODS, TABLES, LearnedMethod
from spact_lib.notebook_tables import games
from spact_lib.protocols import Role
from spact_lib.store import Artifact
from spact_lib.study import Study, released, test_items
from spact_lib.video import letterbox

SOLVED = 0.1  # of its uninformative value: an f_B whose L_B lies below has its task solved
NO_FILES = "read-only: only records are committed, not what this figure is drawn from"


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
    # The most frequent ones as they are, for a method is known by its colour; of the others those that are nearest.
    kept = [colour for _, colour in sorted(shown.getcolors(shown.width * shown.height), reverse=True)[: colours // 4]]
    others = shown.quantize(colours - len(kept), kmeans=1).getpalette()[: 3 * (colours - len(kept))]
    palette = np.array([*(value for colour in kept for value in colour), *others], np.uint8).reshape(-1, 3)
    unique, where = np.unique(np.asarray(shown).reshape(-1, 3), axis=0, return_inverse=True)
    nearest = cKDTree(palette).query(unique)[1].astype(np.uint8)  # PIL's own search is a rough one: white gets gray
    few = PIL.Image.fromarray(nearest[where.reshape(shown.height, shown.width)])
    few.putpalette(palette.tobytes())
    few.save(buffer, format="png", optimize=True)
    return Image(data=buffer.getvalue())


def show_released(
    study: Study, methods: Iterable[str], role: Role, name: str, *, items: int = 8, parts: Sequence[float] = (0.5,),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Draw and save frames of the same test items as each method releases them. Of rows that no table has by default
    those are drawn that are ``without_training``; the others are named.

    Args:
        name: of the figure.
        items: how many, spread over the test rows.
        parts: moments of each item, 0 its first frame and 1 its last.
        notes: method -> what stands beside its row.
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
    said = [notes.get(method, "") for method in shown] if notes else []
    show(figures.frame_grid(frames, notes=said)[0], study.profile.name, name)


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


def show_games(study: Study, methods: Iterable[str], name: str) -> None:
    """Print how far the games of learned methods went (``games``), and in how many of its steps each f_B had its task
    solved; draw and save their curves. Other methods have none."""
    specs = {method: study.method(method) for method in methods if isinstance(METHODS[method], LearnedMethod)}
    print(games(study, specs).to_string())
    if study.store.read_only:
        print(NO_FILES)
        return
    runs = {
        method: (logged(study.store.files(spec)), uninformative_loss(spec.f_B, spec.schedule.batch))
        for method, spec in specs.items()
    }
    for method, (rows, nothing) in runs.items():
        if nothing is not None:
            solved = 100 * np.mean([row["L_B"] < SOLVED * nothing for row in rows])
            print(f"{tables.label(method)}: L_B below {SOLVED:g} of its uninformative value in {solved:.0f} % of steps")
    show(result_figures.game_curves(runs)[0], study.profile.name, name)


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
