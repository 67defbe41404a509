"""What ``spact VERB`` does: a function per verb, of the arguments that ``cli.parser`` reads; returns the exit status.

Heavy imports stand inside, so that ``spact --help`` and a bad argument answer at once.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spact_lib.errors import UserError, unknown_name
from spact_lib.files import atomic_path, read_json, write_text
from spact_lib.paths import (
    NOTEBOOKS,
    committed_notebooks,
    mini_folder,
    official_folder,
    prepared,
    runs_root,
)
from spact_lib.plain import plain

if TYPE_CHECKING:
    from spact_lib.manifest import Manifest


def say(text: str) -> None:
    """Print at once: the lines of a long run must come in order with those of its notebooks."""
    print(text, flush=True)


def dataset(name: str) -> Path:
    """A prepared dataset: a CSV file, a folder with manifest.csv, or the name of an official one."""
    from data_prep.sources import how_to_get, how_to_prepare

    path, official = Path(name), prepared(official_folder())
    if path.suffix == ".csv" or (path / "manifest.csv").exists():
        return path
    if name in official:
        return official_folder() / name
    if path.is_dir():
        raise UserError(f"{path} is a folder without manifest.csv; give a CSV table that lists its files, or one video")
    if how_to_get(name):
        where = f"{official_folder() / name} does not exist"
        raise UserError(f"dataset {name!r} is not prepared ({where}); run `{how_to_prepare(name)}`")
    raise unknown_name("dataset", name, [*official, "a CSV file", "a folder with manifest.csv"])


def prepare(args: argparse.Namespace) -> int:
    """Turn official files (or the drawing of the built-in data) into manifests."""
    import data_prep
    from data_prep import published
    from spact_lib.dataset_report import write_report

    def given(*names: str) -> dict[str, object]:
        return {name: value for name in names if (value := getattr(args, name)) is not None}

    options = given("split", "lists", "annotations", "without_pa")  # the reader knows which of them it has
    if args.name not in (*data_prep.READERS, "mini"):
        raise unknown_name("dataset", args.name, [*data_prep.READERS, "mini"])
    if args.name == "mini":
        from data_prep import mini

        if unfit := [*given("root"), *options, *given("bad_files")]:
            raise UserError(f"the mini data is drawn, not read: leave out {', '.join(map(data_prep.flag, unfit))}")
        drawn = {"draw": 1, "scale": "mini"} | given("draw", "scale")
        out = args.out or mini_folder(**drawn)
        say(f"prepare: drawing the built-in data (scale {drawn['scale']}, draw {drawn['draw']}) into {out}")
        mini.draw(out, **drawn)
        for name in prepared(out):
            write_report(out / name, tell=say)
    else:
        if unfit := given("draw", "scale"):
            raise UserError(f"{args.name} is read, not drawn: leave out {', '.join(map(data_prep.flag, unfit))}")
        if args.root is None:
            what = "your table lies: spact prepare custom --root FILE.csv"
            what = what if args.name == "custom" else f"the official files lie: spact prepare {args.name} --root DIR"
            raise UserError(f"say where {what}")
        out = args.out or official_folder()
        say(f"prepare: reading {args.name} from {args.root} into {out}")
        began = time.perf_counter()
        manifest = screened(data_prep.read(args.name, args.root, **options), args.bad_files, out)
        folder = data_prep.write(args.name, manifest, out).parent
        reading = time.perf_counter() - began
        for line in published.compare(manifest):
            say(f"  {line}")
        write_report(folder, tell=say, read=(manifest, reading))
        for other in data_prep.derived(args.name, manifest):
            write_report(folder.with_name(other.name), tell=say)
    return 0


def screened(manifest: "Manifest", policy: str | None, folder: Path) -> "Manifest":
    """The dataset without the rows of files that cannot be used, which are named; as it is without a policy."""
    from spact_lib.screening import usable

    if policy is None:
        return manifest
    say(f"{manifest.name}: every file is decoded once; stop it whenever you like, the same command continues")
    kept, faults = usable(manifest, folder / f"{manifest.name}.screened.jsonl", policy)
    for sentence in faults.values():
        say(f"  left out: {sentence}")
    say(f"  {len(faults):,} files cannot be used" + "; their rows are set aside" * bool(faults))
    return kept


def report(args: argparse.Namespace) -> int:
    """What is in a dataset (one's own CSV too), or what can still be read in a clip that was anonymized.

    A dataset: labels and chance lines; files missing, faulty or doubled; lengths. A video file: notebook 13 run on it,
    as one HTML file: before and after, what classifiers say of both, and what that does not prove.
    """
    import data_prep

    subject = Path(args.subject)
    names = ("anonymizer", "output", "overwrite", "steady", "profile", "protocol")
    given = {name: value for name in names if (value := getattr(args, name)) not in (None, False)}
    if (subject.is_file() or subject.suffix) and not subject.is_dir() and subject.suffix != ".csv":
        from spact_lib.apps.report import report_clip

        output = given.pop("output", Path(f"{subject.stem}-report.html"))
        parameters = {name.upper(): value for name, value in given.items() if name != "overwrite"}
        say(f"report: {report_clip(subject, output, overwrite=args.overwrite, **parameters)}")
        return 0
    from spact_lib.dataset_report import write_report

    table = dataset(args.subject)
    if given:
        raise UserError(f"{subject} is a dataset, no video file: leave out {', '.join(map(data_prep.flag, given))}")
    write_report(table, tell=say)
    return 0


def cache(args: argparse.Namespace) -> int:
    """A smaller copy of a dataset that decodes faster, for many epochs: a dataset like any other."""
    from spact_lib.decode_cache import build_cache

    say(f"cache: {args.dataset} into {args.out}; stop it whenever you like, the same command continues")
    stop = args.bad_files == "stop"
    made = build_cache(dataset(args.dataset), args.out, short_side=args.short_side, fps=args.fps, stop=stop)
    sizes = f"{made['source_bytes'] / 1e6:,.1f} MB became {made['bytes'] / 1e6:,.1f} MB"
    minutes = f"{made['seconds'] / 60:.1f} minutes"
    say(f"  {made['files']:,} files, {made['new']:,} of them written now, in {minutes}; {sizes}")
    say("  each was read back when it was written; those written before were compared with their checksums")
    clip = made["decode"]
    times = f"in {clip['copy_ms']} ms instead of {clip['source_ms']} ms"
    say(f"  a clip of 16 frames decodes {times}: {clip['ratio']} times as fast (one process, {clip['clips']} clips)")
    if made["problems"]:
        say(f"  {made['problems']:,} files could not be copied, their rows are now unused: {args.out / 'problems.csv'}")
    say(f"  dataset: {args.out}")
    return 0


def reproduce(args: argparse.Namespace) -> int:
    """Data, all notebooks in order, summary. What is finished is found in the store, not computed again.

    With --full, then what ``notebooks.FULL`` lists and the claims' runs, for hours, and the notebooks once more over
    them.
    """
    from spact_lib import config
    from spact_lib.reproduce import run_all

    profile = config.profile(args.profile)
    if args.plan:
        from spact_lib import plan_text

        plan_text.write(profile, args.full, args.until, tell=say)
    else:
        run_all(profile, args.jobs, full=args.full, until=args.until, tell=say)
    return 0


def claims(args: argparse.Namespace) -> int:
    """What the claims ask of their replicates, of all draws or some; then notebook 12 over all records at hand.

    Resumable, and in the order in which verdicts come soonest. A draw's records are a file of their own (promote), so
    that machines can share the draws.
    """
    from spact_lib import config
    from spact_lib.reproduce import run_claims

    run_claims(config.profile(args.profile), args.draw, args.jobs, tell=say)
    return 0


def written() -> dict[Path, int]:
    """The tables and figures of the store, and when each was written."""
    found = (*runs_root().glob("tables/**/[!.]*.csv"), *runs_root().glob("figures/**/[!.]*.png"))
    return {path: path.stat().st_mtime_ns for path in sorted(found, key=lambda path: (path.suffix, path))}


def run(args: argparse.Namespace) -> int:
    """One notebook with parameters, into the store; it ends with the places of the tables and figures it wrote."""
    from spact_lib.notebooks import named_copy, notebook, parse_parameters, run_notebook

    path = Path(args.notebook) if Path(args.notebook).is_file() else notebook(args.notebook)
    texts = dict(args.parameter)
    values = parse_parameters(path, texts)
    output = args.output or runs_root() / "notebooks" / "run" / named_copy(path, texts)
    before = written()
    seconds = run_notebook(path, output, values, echo=True).seconds
    for place, when in written().items():
        if before.get(place) != when:
            say(f"run: {'table' if place.suffix == '.csv' else 'figure'} {place}")
    say(f"run: {path.name} took {seconds / 60:.1f} minutes; executed copy: {output}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """One's own videos (a CSV manifest), every group left out in turn: what raw and anonymized data give away."""
    from spact_lib import config, crossval, figures, footnotes
    from spact_lib.manifest import read_manifest, rows_set_aside, write_manifest
    from spact_lib.notebooks import LONGEST_NAME, digest
    from spact_lib.protocols import protocol
    from spact_lib.store import Store
    from spact_lib.table_text import csv_as_markdown

    profile = config.profile(args.profile)
    store = Store(runs_root() / "store", decode_once=not plain(), workers=profile.workers)
    source = args.manifest.resolve()
    if args.bad_files:
        given = read_manifest(source)
        # Files of the same names elsewhere are others.
        which = hashlib.sha256(given.fingerprint.encode() + os.fsencode(given.root.resolve())).hexdigest()
        folder = runs_root() / "screened" / which[:16]
        kept = screened(given, args.bad_files, folder)
        source = source if kept is given else write_manifest(kept, folder / source.stem).parent
    named = protocol(f"{source}:{args.action}/{args.privacy}")
    studies = crossval.folds(profile, named, args.leave_out, store, args.seed)
    say(f"evaluate: {len(studies)} folds by {args.leave_out!r}, profile {profile.name}, methods {args.methods}")
    methods = [name.strip() for name in args.methods.split(",")]
    stem = os.fsencode(args.manifest.stem)[:LONGEST_NAME].decode(errors="ignore")
    data = read_manifest(source)
    asked = (args.manifest.resolve(), data.fingerprint, args.action, args.privacy, args.leave_out, methods, args.seed)
    name = f"evaluate_{stem}-{digest(*asked)}"
    left_out = sum(rows_set_aside(data).values())
    table = crossval.cross_validate(studies, methods).round(1).assign(left_out=left_out)
    path = runs_root() / "tables" / profile.name / f"{name}.csv"
    write_text(path, table.to_csv(index=False))
    say("\n".join(csv_as_markdown(path)))
    if left_out:
        say(f"evaluate: {left_out:,} rows are left out, because their files are missing or cannot be used")
    for sentence in footnotes.left_out(table):
        say(f"evaluate: {sentence}")
    fig, _ = figures.frame_grid(crossval.released_frames(studies, methods))
    figures.save(fig, profile.name, name)
    say(f"evaluate: table {path}, figure {figures.place(profile.name, name)}")
    return 0


def anonymize(args: argparse.Namespace) -> int:
    """Your own video, or a folder of them, through an anonymizer: H.264 MP4 that browsers play, and nothing else.

    The sound is removed, because a voice tells who speaks; titles, places, devices and dates are never copied. Times of
    frames are kept. Folders and file names stay: rename what names somebody. Run it again to continue.
    """
    from spact_lib.apps import anonymize as app

    # Whoever stops this process (a scheduler, a container) leaves as little behind as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    method = app.load_method(args.anonymizer)
    settings = app.Settings(
        short_side=args.short_side, keep_size=args.size == "input", keep_audio=args.keep_audio, steady=args.steady,
        overwrite=args.overwrite,
    )  # fmt: skip
    app.check_settings(method, settings, args.jobs)
    pairs = app.plan(args.input, args.output)
    say(f"anonymize: {len(pairs)} video{'s' * (len(pairs) != 1)} by {method.name}")
    if method.warning:
        say(f"anonymize: warning: {method.warning}")
    if not args.keep_audio:
        say("anonymize: sound is removed, because a voice tells who speaks; --keep-audio keeps it")
    done, failed = app.anonymize(pairs, method, settings, args.jobs, stop_at_first=args.bad_files == "stop")
    earlier = len(pairs) - len(done) - len(failed)
    say(f"anonymize: {len(done)} written, {earlier} finished earlier, {len(failed)} failed")
    return 2 if failed else 0


def export(args: argparse.Namespace) -> int:
    """A trained anonymizer as one folder: weights, settings, model card. What is not in the store is trained first."""
    from spact_lib import config
    from spact_lib.apps import pretrained
    from spact_lib.apps.anonymize import warning
    from spact_lib.networks.anonymizer import read_config
    from spact_lib.notebook_setup import draw_data
    from spact_lib.protocols import is_own
    from spact_lib.protocols import protocol as named_protocol
    from spact_lib.study import open_study

    profile = config.profile(args.profile)
    pretrained.check(args.method, args.output)  # before minutes of drawing
    if not all(is_own(role.dataset) for role in named_protocol(args.protocol).roles):
        draw_data(profile.name, profile.draw)
    study = open_study(args.profile, protocol=args.protocol, seed=args.seed)
    folder = pretrained.export(study, args.method, args.output)
    say(f"export: {folder}")
    if words := warning(read_config(folder)):
        say(f"export: warning: {words}")
    return 0


def rows_of_work(args: argparse.Namespace) -> list[tuple[str, str]]:
    """(protocol, method) that are asked for.

    Raises:
        UserError: an unknown name.
    """
    from spact_lib import config
    from spact_lib.ahead import rows
    from spact_lib.methods import METHODS
    from spact_lib.protocols import protocol as named_protocol

    config.profile(args.profile)
    if args.protocol and not args.methods:
        raise UserError(f"--protocol {args.protocol} without METHOD; name the rows to be trained under it")
    wanted = [(args.protocol or "ucf101_vispr1", method) for method in args.methods] or rows()
    for protocol, method in wanted:
        named_protocol(protocol)
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    return wanted


def asked_of_work(args: argparse.Namespace) -> tuple[str, list[tuple[str, str]], list[int], int | None]:
    """The arguments of ``ahead.work``; the built-in data are drawn, and what cannot be trained is refused."""
    from spact_lib import config
    from spact_lib.notebook_setup import draw_data
    from spact_lib.protocols import is_own
    from spact_lib.protocols import protocol as named_protocol
    from spact_lib.study import open_study

    profile, wanted = config.profile(args.profile), rows_of_work(args)
    draw = profile.draw if args.draw is None else args.draw
    protocols = dict.fromkeys(protocol for protocol, _ in wanted)
    if not all(is_own(role.dataset) for protocol in protocols for role in named_protocol(protocol).roles):
        draw_data(profile.name, draw)
    for protocol in protocols:
        study = open_study(profile.name, draw=draw, protocol=protocol, seed=min(args.seeds))
        study.check(method for of, method in wanted if of == protocol)
    return profile.name, wanted, args.seeds, draw


def tell_failed(failed: Mapping[str, Sequence[str]]) -> None:
    """A line for each reason why targets failed, of ``ahead.work``."""
    for error, targets in failed.items():
        print(f"spact: error: {'; '.join(targets)}: {error}", file=sys.stderr)


def train(args: argparse.Namespace) -> int:
    """Rows of the tables without notebooks, networks to scores; without METHOD every row that the notebooks train.

    On many GPUs, with as many processes: accelerate launch --num_processes 8 -m spact_lib train spact --profile paper
    """
    from spact_lib import ahead, distributed

    if not distributed.is_main():
        logging.getLogger("spact_lib").setLevel(logging.WARNING)
    failed = ahead.work(*distributed.on_main(lambda: asked_of_work(args)))
    if distributed.is_main():
        tell_failed(failed)
        say(f"train: {runs_root() / 'store'} has all that did not fail; the tables: spact reproduce")
    if processes := distributed.state():
        processes.destroy_process_group()
    return 2 if failed else 0


def submit(args: argparse.Namespace) -> int:
    """The same as jobs of one GPU each: a Slurm cluster's, or processes on this machine, which are waited for."""
    try:
        from spact_lib import cluster
    except ImportError as error:
        raise UserError("jobs need submitit: pip install 'spact[cluster]'") from error
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: give a number from 1 up")
    parameters = {name: int(value) if value.isdecimal() else value for name, value in args.parameter}
    folder = runs_root() / "jobs"
    rows_of_work(args)  # what cannot be is refused before a folder is made
    where = cluster.executor(args.cluster, folder, parameters)  # and before data are drawn
    jobs = cluster.submit(where, asked_of_work(args), args.jobs)
    say(f"submit: jobs {', '.join(job.job_id for job in jobs)}; their logs are in {folder}")
    if args.cluster == "slurm":
        say("submit: give the same command again to add jobs; when all have ended: spact reproduce")
        return 0
    ended = [job.exception() for job in jobs]
    failed: dict[str, list[str]] = {}
    for job in (job for job, error in zip(jobs, ended, strict=True) if error is None):
        for error, targets in job.result().items():  # every job meets what none can make
            failed[error] = [*dict.fromkeys([*failed.get(error, []), *targets])]
    tell_failed(failed)
    for error in filter(None, ended):
        print(f"spact: error: a job was ended: {error}", file=sys.stderr)
    return 2 if failed or any(ended) else 0


def promote(args: argparse.Namespace) -> int:
    """Make the executed notebooks of profile mini, and the records they used, the committed ones; fill in the README.

    What other profiles have made stays in runs: tables, figures, records, notebooks.
    """
    from spact_lib import notebooks as library

    profile = "mini"  # the notebooks' own default
    if plain():
        raise UserError("SPACT_PLAIN=1: plain runs are there to be compared with and are never committed; unset it")
    copies = {path: runs_root() / "notebooks" / profile / path.name for path in committed_notebooks()}
    if not any(copy.exists() for copy in copies.values()):
        raise UserError(f"no notebook of profile {profile} has been executed yet; run `spact reproduce` first")
    for path, copy in copies.items():
        if copy.exists():
            library.promote(copy, path)
        say(f"promote: {path.name}" + " has no run and stays as it is" * (not copy.exists()))
    for path in sorted((runs_root() / "records" / profile).glob("[!.]*.json*")):
        if "-" in path.stem:  # of another draw, seed or protocol than the notebook's own
            continue
        kept, text = NOTEBOOKS / "records" / path.name, path.read_text(encoding="utf-8")
        if path.suffix == ".json" and kept.exists():  # the catalogue of datasets grows, records are replaced
            text = json.dumps(read_json(kept) | read_json(path), indent=2) + "\n"
        say(f"promote: {write_text(kept, text)}")
    picture = runs_root() / "figures" / profile / "04_methods.png"
    if picture.exists():
        with atomic_path(NOTEBOOKS / "records" / "methods.png") as temporary:
            shutil.copyfile(picture, temporary)
    from spact_lib import readme

    for page in filter(Path.exists, readme.PAGES):  # an installed package has none
        say(f"promote: {readme.update(page)}")
    return 0


def bench(args: argparse.Namespace) -> int:
    """Measure what is fast against the plain way, interleaved in one run; write the records and the tables of
    benchmarks/README.md."""
    from benchmarks import harness
    from spact_lib import readme

    harness.run(args.names, tell=say)
    if readme.BENCHMARKS.exists():
        say(f"bench: {readme.update(readme.BENCHMARKS)}")
    return 0


def doctor(args: argparse.Namespace) -> int:
    """What is installed, prepared and runnable for a profile, and what to do next; status 1 if `reproduce` needs it."""
    from spact_lib.doctor import examine

    to_do, for_full = examine(args.profile)
    for step in to_do:
        say(f"to do: {step}")
    for step in for_full:
        say(f"for --full: {step}")
    if not to_do:
        say(f"next: spact reproduce --profile {args.profile}")
    return 1 if to_do else 0
