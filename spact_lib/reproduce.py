"""``spact reproduce`` and ``spact claims``: everything in order, by several processes; minutes and a summary."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock

from spact_lib import replicates
from spact_lib.ahead import processes, spread
from spact_lib.config import Profile
from spact_lib.device import environment
from spact_lib.errors import UserError
from spact_lib.files import read_json, write_json, write_text
from spact_lib.notebook_setup import draw_data
from spact_lib.notebooks import FULL, named_copy, needs, notebook, run_notebook
from spact_lib.paths import REPOSITORY, committed_notebooks, data_folder, prepared, runs_root
from spact_lib.protocols import how_to_prepare
from spact_lib.results import RECORDS
from spact_lib.table_text import csv_as_markdown

Tell = Callable[[str], None]


def run_all(
    profile: Profile, jobs: int | None = None, *, full: bool = False, until: str | None = None, tell: Tell = print
) -> None:
    """Data, all notebooks in order, and a summary; nothing where nothing has changed since the last run.

    Args:
        jobs: processes (``ahead.spread``).
        full: then also ``notebooks.FULL`` and the claims' runs, and the notebooks once more over them.
        until: the start of the name of the last notebook to be run; None: all.
        tell: prints a line.

    Raises:
        UserError: official datasets are not prepared.
    """
    start = time.perf_counter()
    shown, last = committed_notebooks(), notebook(until) if until else None
    shown = shown[: shown.index(last) + 1] if last else shown
    jobs, threads, devices = spread(jobs)
    how = f"{jobs} process{'es' * (jobs > 1)}, threads of each: {threads}"
    from_nothing = not (runs_root() / "store").exists()
    _provide_data(profile, full, tell)
    mark, summed = runs_root() / f"finished-{profile.name}.txt", runs_root() / f"summary-{profile.name}.md"
    unchanged = mark.exists() and mark.read_text(encoding="utf-8") == everything(profile)
    if unchanged and summed.exists() and not full:
        tell(f"reproduce: nothing has changed since the last run\n\n{summed.read_text(encoding='utf-8')}")
        return
    minutes = {"data": (time.perf_counter() - start) / 60}
    tell(f"reproduce: {how}")
    with processes(profile.name, jobs - 1, threads, devices):
        in_order, first = _run_in_order(profile.name, shown, tell)
        minutes |= in_order | {"total": (time.perf_counter() - start) / 60}
        if full:
            _run_full(profile.name, tell)
    if full:
        run_claims(profile, (), jobs, tell=tell)
        _run_in_order(profile.name, shown)
        minutes["full"] = (time.perf_counter() - start) / 60 - minutes["total"]
    whole = [name for name in ("data", "full") if name in minutes] if from_nothing else []
    keep_minutes(profile.name, {name: minutes[name] for name in (*whole, *first)}, how)
    text = summary(profile.name, minutes)
    tell("\n" + text)
    tell(f"summary: {write_text(summed, text)}")
    if not last:
        write_text(mark, everything(profile))


def _provide_data(profile: Profile, full: bool, tell: Tell) -> None:
    folder = data_folder(profile)
    if profile.source == "mini":
        tell(f"reproduce: profile {profile.name}; built-in data in {folder}")
        draw_data(profile.name, profile.draw)
        return
    if lack := _unprepared(profile, {name for path in committed_notebooks() for name in needs(path, full)}):
        raise UserError(f"profile {profile.name} needs {lack}")


def _unprepared(profile: Profile, needed: set[str]) -> str:
    """The datasets that are not prepared and what prepares them, in words; "" where all are."""
    folder = data_folder(profile)
    missing = sorted(needed - set(prepared(folder)))
    how = dict.fromkeys(f"`{how_to_prepare(profile, name)}`" for name in missing)
    lack = f"datasets that are not prepared in {folder}: {', '.join(missing)}; run {', '.join(how)}"
    return lack if missing else ""


def _run_in_order(
    profile: str, notebooks: Sequence[Path], tell: Tell | None = None
) -> tuple[dict[str, float], list[str]]:
    """Execute notebooks; the minutes of each, and those that had never been started. Silent without ``tell``."""
    minutes, first = {}, []
    for number, path in enumerate(notebooks, 1):
        if tell:
            tell(f"reproduce: notebook {number} of {len(notebooks)}: {path.name}")
        copy = runs_root() / "notebooks" / profile / path.name
        done = run_notebook(path, copy, {"PROFILE": profile}, echo=tell is not None)
        minutes[path.name] = done.seconds / 60
        first += [path.name] * done.first
    return minutes, first


def _run_full(profile: str, tell: Tell) -> None:
    for number, (name, parameters) in enumerate(FULL, 1):
        path, given = notebook(name), {"PROFILE": profile} | parameters
        tell(f"reproduce: further run {number} of {len(FULL)}: {path.name} {parameters}")
        run_notebook(path, runs_root() / "notebooks" / "run" / named_copy(path, given), given, echo=True)


def run_claims(profile: Profile, draws: Sequence[int] = (), jobs: int | None = None, *, tell: Tell = print) -> None:
    """Draw and train what the claims ask of replicates; then notebook 12, over these and whatever else has records.

    Args:
        draws: of ``notebooks.REPLICATES``; none: all.
        jobs: processes (``ahead.spread``).
        tell: prints a line.

    Raises:
        UserError: no such draw; official data of which every claim lacks some; or something failed, after all else was
            made.
    """
    pairs = replicates.chosen(draws)
    if profile.source != "mini":
        have, asked = set(prepared(data_folder(profile))), replicates.datasets()
        if lack := _unprepared(profile, set().union(*asked)):
            if not any(names <= have for names in asked):
                raise UserError(f"the claims need {lack}")
            tell(f"claims: left out is what needs {lack}")
    jobs, threads, devices = spread(jobs)
    torch.set_num_threads(threads)  # this process trains, too
    for draw, _ in pairs:
        draw_data(profile.name, draw)
    tell(f"claims: draws {', '.join(str(draw) for draw, _ in pairs)}; {jobs} process{'es' * (jobs > 1)}")
    with processes(profile.name, jobs - 1, threads, devices, partial(replicates.make, profile.name, pairs)):
        failed = replicates.make(profile.name, pairs)
    shown = notebook("12")
    run_notebook(shown, runs_root() / "notebooks" / profile.name / shown.name, {"PROFILE": profile.name}, echo=True)
    if failed:
        raise UserError(f"{len(failed)} scores of the claims are missing: {'; '.join(failed)}")


def everything(profile: Profile) -> str:
    """A hash of all that a reproduction reads and makes: when it is the same, running again would change nothing."""
    code = (path for name in ("spact_lib", "data_prep") for path in (REPOSITORY / name).rglob("*.py"))
    kept = [*RECORDS.glob("[!.]*.json*"), *(REPOSITORY / "spact_lib").glob("[!.]*.csv")]  # of ours, of the paper
    read = [*committed_notebooks(), *code, *kept, *data_folder(profile).glob("*/manifest.csv")]
    copies = (runs_root() / "notebooks" / profile.name).glob("[!.]*.ipynb")
    made = [*(runs_root() / "store").glob("*/*/record.json"), *copies]
    digest = hashlib.sha256()
    for path in sorted(read):
        digest.update(path.read_bytes())
    for path in sorted(made):
        digest.update(f"{path} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def keep_minutes(profile: str, minutes: dict[str, float], how: str) -> None:
    """Keep for the README what each notebook took the first time, beside what earlier runs kept.

    A notebook that was stopped and continued is in none: the time of its first part is lost. Nor is one in a store
    whose first reproduction was before this file.
    """
    path = runs_root() / "records" / profile / "minutes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):  # or of two processes that add to it one would lose
        earlier = read_json(path)["minutes"] if path.exists() else {}
        if minutes and (earlier or "data" in minutes):  # a run that only found everything says nothing of hardware
            kept = earlier | {name: round(value, 2) for name, value in minutes.items()}
            write_json(path, {"hardware": f"{environment()['device']}, {how}", "minutes": kept})


def summary(profile: str, minutes: dict[str, float]) -> str:
    """Markdown: the tables and figures that the notebooks of this profile wrote, the minutes they took."""
    lines = [f"# Profile {profile}", ""]
    if profile == "smoke":
        lines += ["A tiny slice of the data, a few steps: these numbers say that it runs, and no more.", ""]
    for path in sorted((runs_root() / "tables" / profile).glob("[!.]*.csv")):
        lines += [f"## {path.stem}", "", *csv_as_markdown(path), ""]
    figures = sorted(p for p in (runs_root() / "figures" / profile).rglob("[!.]*") if p.is_file())
    lines += ["## Figures", "", *(f"- {path}" for path in figures), ""]
    lines += ["## Minutes", "", *(f"- {name}: {value:.1f}" for name, value in minutes.items()), ""]
    lines += [f"Executed notebooks: {runs_root() / 'notebooks' / profile}", ""]
    return "\n".join(lines)
