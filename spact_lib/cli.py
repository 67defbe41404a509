"""The command line: ``spact VERB`` = ``python -m spact_lib VERB``; what each does is in ``verbs``."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from spact_lib import verbs
from spact_lib.errors import UserError
from spact_lib.files import disk_errors


def from_0_up(text: str) -> int:
    """The value of an option that is an integer from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no integer from 0 up")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """All verbs and their arguments."""
    top = argparse.ArgumentParser("spact", description="SPAct, reproduced. Most readers need: make reproduce")
    subparsers = top.add_subparsers(required=True, metavar="VERB")

    def add(function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = function.__doc__
        verb = subparsers.add_parser(function.__name__, help=text.splitlines()[0], description=text)
        verb.set_defaults(function=function)
        return verb

    policies = ["stop", "skip"]
    verb = add(verbs.prepare)
    verb.add_argument("name", help="mini (built in, drawn), ucf101, hmdb51, pa_hmdb51, vispr, phvu, vp_... or custom")
    verb.add_argument("--root", type=Path, help="folder of the official files; custom: your CSV table")
    verb.add_argument("--out", type=Path, help="folder for the manifests (default: in the store)")
    verb.add_argument("--split", type=int, help="ucf101, hmdb51, vp_...: official split 1 (default), 2 or 3")
    verb.add_argument("--lists", type=Path, help="ucf101, hmdb51, vp_...: folder of the lists, if not in the root")
    verb.add_argument("--annotations", type=Path, help="pa_hmdb51, vp_...: folder of the labels, if not in the root")
    verb.add_argument("--without-pa", type=Path, help="hmdb51: leave out the videos of PA-HMDB51, whose root is DIR")
    bad = "decode every file first; at one that cannot be used: stop, or leave its rows out and say so"
    verb.add_argument("--bad-files", choices=policies, help=bad + " (default: only report them)")
    verb.add_argument("--draw", type=from_0_up, help="mini: draw number (default: 1); 0 is for development")
    verb.add_argument("--scale", choices=["smoke", "mini"], help="mini: how much is drawn (default: mini)")
    named = "a CSV file, a folder with manifest.csv, or the name of a prepared official dataset"
    verb = add(verbs.report)
    verb.add_argument("subject", metavar="DATASET|CLIP", help=f"{named}; or a video file")
    steady = "average over time what changes little: less flicker; the anonymizer was judged without it"
    own = verb.add_argument_group("of a video file")
    own.add_argument("--anonymizer", metavar="NAME|DIR", help="as for anonymize (default: the mini SPAct)")
    own.add_argument("--output", type=Path, metavar="FILE.html", help="default: CLIP-report.html in this folder")
    own.add_argument("--overwrite", action="store_true", help="a page that is there already")
    own.add_argument("--steady", action="store_true", help=steady)
    own.add_argument("--profile", help="whose classifiers: smoke, mini (default) or paper")
    own.add_argument("--protocol", help="what they know (default: ucf101_vispr1); own: /path/my.csv:gesture/person")
    verb = add(verbs.cache)
    verb.add_argument("dataset", help=named)
    verb.add_argument("--out", type=Path, required=True, help="folder of the copy")
    verb.add_argument("--short-side", type=int, required=True, help="pixels, even; 128 is what the paper profile reads")
    verb.add_argument("--fps", type=float, help="frames per second (default: each file's own)")
    what = "files that cannot be copied: leave their rows out and say so (default), or make no dataset"
    verb.add_argument("--bad-files", default="skip", choices=policies, help=what)
    add(verbs.promote)
    for function in (verbs.reproduce, verbs.claims, verbs.doctor):
        verb = add(function)
        verb.add_argument("--profile", default="mini", help="smoke, mini (default) or paper")
        if function in (verbs.reproduce, verbs.claims):
            verb.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each GPU, else two)")
        if function is verbs.claims:
            verb.add_argument("--draw", type=int, nargs="*", default=[], help="101 to 105 (default: all of them)")
        if function is verbs.reproduce:
            verb.add_argument(
                "--full", action="store_true", help="then also sweeps, further rows, the claims' runs: hours"
            )
            verb.add_argument("--until", metavar="NOTEBOOK", help="stop after it: 04 has the first table")
            verb.add_argument("--plan", action="store_true", help="train nothing: list all runs, cost, what is missing")
    add(verbs.bench).add_argument("names", nargs="*", metavar="NAME", help="such as minimax (default: all)")
    verb = add(verbs.run)
    verb.add_argument("notebook", help="path, or the start of a name in notebooks/, such as 04")
    verb.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    verb.add_argument("--output", type=Path, help="executed copy (default: in the store)")
    for function in (verbs.train, verbs.submit):
        verb = add(function)
        verb.add_argument("methods", nargs="*", metavar="METHOD", help="rows by name, such as spact, supervised, raw")
        verb.add_argument("--profile", default="mini", help="smoke, mini (default) or paper")
        verb.add_argument("--protocol", help="with METHOD: which data play which role (default: ucf101_vispr1)")
        verb.add_argument("--draw", type=from_0_up, help="of the built-in data (default: the profile's)")
        verb.add_argument(
            "--seeds", type=from_0_up, nargs="+", default=[0], metavar="SEED", help="replicates (default: 0)"
        )
        if function is verbs.submit:
            verb.add_argument("--cluster", required=True, choices=["slurm", "local"])
            verb.add_argument("--jobs", type=int, required=True, metavar="N", help="that work at a time on one store")
            verb.add_argument(
                "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                help="of submitit, such as timeout_min 600, gpus_per_node 1, slurm_partition gpu",
            )  # fmt: skip
    verb = add(verbs.evaluate)
    verb.add_argument("manifest", type=Path, help="CSV of your videos: columns path, split, NAME:single, a group")
    verb.add_argument("--action", required=True, help="name of the action task")
    verb.add_argument("--privacy", required=True, help="name of the privacy task")
    verb.add_argument("--leave-out", required=True, metavar="COLUMN", help="rows of one value are tested at a time")
    verb.add_argument("--methods", default="raw,spact", help="comma-separated rows of Table 1")
    verb.add_argument("--bad-files", choices=policies, help=bad + " (default: stop where one is met)")
    verb.add_argument("--profile", default="mini", help="smoke, mini (default) or paper")
    verb.add_argument("--seed", type=from_0_up, default=0)
    verb = add(verbs.anonymize)
    named_anonymizer = (
        "downsample_2x, downsample_4x, the same with _up, obf_blackening, obf_strong_blur, obf_weak_blur; or a folder "
        "that `spact export` made"
    )
    verb.add_argument("input", type=Path, help="a video of any format that FFmpeg reads, or a folder of them")
    verb.add_argument("output", type=Path, help="an .mp4 file; for a folder: the folder that mirrors it")
    verb.add_argument("--anonymizer", required=True, metavar="NAME|DIR", help=named_anonymizer)
    verb.add_argument(
        "--short-side", type=int, metavar="PIXELS",
        help="frames are resized to this before (default: what f_A was judged at; baselines: as they are)",
    )  # fmt: skip
    verb.add_argument(
        "--size", default="input", choices=["input", "processed"],
        help="of the output: enlarged again to the input's (default), or as it leaves the anonymizer",
    )  # fmt: skip
    verb.add_argument("--keep-audio", action="store_true", help="keep the sound, voices and all")
    verb.add_argument("--steady", action="store_true", help=steady)
    verb.add_argument("--overwrite", action="store_true", help="replace outputs that are already there")
    verb.add_argument("--jobs", type=int, default=1, metavar="N", help="videos at a time (default: 1)")
    verb.add_argument(
        "--bad-files", default="skip", choices=policies,
        help="a video that cannot be read: do the others and report it (default), or stop",
    )  # fmt: skip
    verb = add(verbs.export)
    verb.add_argument("output", type=Path, help="folder to be made")
    verb.add_argument("--profile", default="mini", help="smoke, mini (default: a demonstration) or paper")
    verb.add_argument("--method", default="spact", help="a learned row of Table 1 (default: spact)")
    verb.add_argument("--protocol", default="ucf101_vispr1", help="which data it learned from")
    verb.add_argument("--seed", type=from_0_up, default=0)
    return top


def main(argv: list[str] | None = None) -> None:
    """Run one verb. Exit status: 0; 1 doctor found something, or nobody reads on; 2 the user can mend it;
    130 Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a file name that cannot be shown ends no run
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    for package in ("spact_lib", "data_prep"):
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        if args.function is not verbs.train and "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            raise UserError("`spact train` alone runs in many processes; start this verb without accelerate launch")
        with disk_errors():
            status = args.function(args)
    except UserError as error:
        print(f"spact: error: {error}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # of `spact ... | head`; what is left in the buffer goes nowhere, and raises nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except KeyboardInterrupt:
        kept = "videos that are finished are kept, and the same command does the others"
        continues = kept if args.function is verbs.anonymize else "the same command continues from here"
        print(f"spact: stopped; {continues}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(130)  # at once: the connections of an interrupted notebook hold a usual exit for five seconds
    sys.exit(status)
