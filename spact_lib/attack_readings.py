"""What the attackers of ``attacks`` read from what is released: of every replicate, and of folds of one's own videos.

A table of readings has a row for each cell that is at hand; ``attack_report`` shows it to readers.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from spact_lib import tables
from spact_lib.attacks import ATTACKS, METHODS, RAW, asked, check, exists, inverse, score, spec_of, stills, videos
from spact_lib.chance import chance_average_precision
from spact_lib.claims import t_interval
from spact_lib.config import Method, TestSpec
from spact_lib.errors import MissingError, missing_left_out
from spact_lib.flop import learning
from spact_lib.footnotes import FAULTS, distinct, faults
from spact_lib.metrics import headline, headline_chance
from spact_lib.reconstruction import QUALITIES
from spact_lib.results import training_forbidden
from spact_lib.store import manifest_of, trained_parts
from spact_lib.study import Study, each_once, open_study

# Classifiers between which validation rows choose the strongest: all learned on 8-bit stills, or on what undid them.
CLASSIFIERS = ("relearned", "smaller_short", "short", "own", "enlarged", "larger", "long", "larger_long")
AP = ("attribute", "ap", "chance")
COLUMNS = ["attack", "method", "replicate", "here", "chance", "val", "effort", "low", "high", "boxes", *FAULTS]


def readings(*studies: Study, methods: Sequence[str] = METHODS, names: Sequence[str] = tuple(ATTACKS)) -> pd.DataFrame:
    """What every attacker reads from what every method releases, in each replicate (draw and seed).

    A replicate of which fewer ``CLASSIFIERS`` by default are at hand for a method than of another one is left out of
    that method: the strongest may be among those that are missing.

    Returns:
        A row for each other cell that is at hand (where a store is read-only; else it is made) and for each replicate.
        Columns: ``attack``, ``method``, ``replicate``, ``here`` (cMAP or top-1 in percent, mean over target seeds),
        ``chance`` (its line), ``val`` (the same on validation rows, NaN where none was looked at), ``effort`` (FLOP of
        training on the release, as a multiple of the tables' network and steps on the same frames; NaN for who learned
        on raw data), ``low`` and ``high`` (NaN: one replicate has no interval), ``boxes``, those of
        ``footnotes.faults``.

    Raises:
        UserError: an unknown name, or as ``stills``.
    """
    check(names, studies)
    rows = []
    for study in each_once(studies):
        for name in methods:
            with _left_out(study):
                method = study.method(name)
                here = [attack for attack in names if exists(attack, name)]
                rows += [row for attack in here if (row := _reading(study, attack, name, method))]
    found = pd.DataFrame(rows, columns=COLUMNS)
    default = {(method, attack) for method, attack in asked(methods) if attack in CLASSIFIERS}
    counted = pd.Series([pair in default for pair in zip(found["method"], found["attack"], strict=True)], dtype=bool)
    met = counted.groupby([found["method"], found["replicate"]]).transform("sum")
    return found[met == met.groupby(found["method"]).transform("max")].reset_index(drop=True)


def _reading(study: Study, attack: str, name: str, method: Method) -> dict | None:
    with _left_out(study):
        seeds = study.profile.target_seeds
        of_seeds = [score(study, attack, method, seed) for seed in seeds]
        val = [math.nan if s.get("val") is None else s["val"] for s in of_seeds]
        spec, effort = spec_of(study, attack, method, seeds[0]), math.nan
        text = f"{tables.label(name)} of {tables.replicate(study)}"
        target = spec.target if isinstance(spec, TestSpec) else spec
        if ATTACKS[attack].prepared:
            effort = learning(target) / learning(study.target_spec(target.release.method, "privacy", seeds[0]))
        return {
            "attack": attack, "method": name, "replicate": tables.replicate(study),
            "here": np.mean([headline(s) for s in of_seeds]),
            "chance": np.mean([headline_chance(s) for s in of_seeds]), "val": np.mean(val),
            "effort": effort, "low": math.nan, "high": math.nan, "boxes": getattr(method, "boxes", ""),
            **faults(tables.parts_at_hand(study, [spec_of(study, attack, method, seed) for seed in seeds]), text),
        }  # fmt: skip
    return None


def _left_out(study: Study) -> AbstractContextManager:
    """Within: where nothing is trained, what is not at hand is left out."""
    return missing_left_out() if study.store.read_only else nullcontext()


def table(found: pd.DataFrame) -> pd.DataFrame:
    """``readings`` or ``fold_readings``, mean over replicates: index (attack, method) in the order of ``ATTACKS``.

    Returns:
        Columns ``here``, ``chance``, ``val``, ``effort``, ``replicates``, ``low`` and ``high`` (95 %: the t-interval;
        of one replicate its own), ``boxes``.
    """
    groups = found.groupby(["attack", "method"], sort=False)
    means = groups[["here", "chance", "val", "effort", "low", "high"]].mean()
    means = means.assign(replicates=groups["here"].size(), boxes=groups["boxes"].agg("first"))
    several = means["replicates"] > 1
    for side, name in enumerate(("low", "high")):
        of_means = groups["here"].agg(lambda values, side=side: t_interval(list(values))[side])
        means[name] = means[name].where(~several, of_means)
    order = {name: at for at, name in enumerate(ATTACKS)}
    return means.sort_index(level="attack", key=lambda names: names.map(order), sort_remaining=False, kind="stable")


def values(found: pd.DataFrame, attack: str, method: str, column: str = "here") -> pd.Series:
    """A column of one cell of ``readings``: replicate -> value."""
    rows = found[(found["attack"] == attack) & (found["method"] == method)]
    return rows.set_index("replicate")[column]


def strongest(found: pd.DataFrame) -> pd.DataFrame:
    """The classifier that validation rows choose for each method, by ``readings``.

    Between those of ``CLASSIFIERS`` that every replicate of the method has: means over other replicates would compare
    replicates, not attackers.

    Returns:
        Index method. Columns ``attack`` and ``among``, how many there were to choose from; a method without
        validation rows is left out.
    """
    looked = found[found["attack"].isin(CLASSIFIERS) & found["val"].notna()]
    rows = {}
    for method in looked["method"].unique():
        val = looked[looked["method"] == method].pivot(index="attack", columns="replicate", values="val")
        if len(val := val.dropna()):
            rows[method] = {"attack": val.mean(axis=1).idxmax(), "among": len(val)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["attack", "among"])


def fair(found: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Of ``readings`` what compares two methods: by attackers that both have met, in all of their replicates, or that
    only one of them can have."""
    met = {}
    for method in (one, other):
        replicates = found[found["method"] == method].groupby("attack")["replicate"].nunique()
        met[method] = set(replicates.index[replicates == replicates.max()])
    alike = met[one] & met[other]
    for method, against in ((one, other), (other, one)):
        alike |= {attack for attack in met[method] if not exists(attack, against)}
    return found[found["method"].isin([one, other]) & found["attack"].isin(alike)]


def reconstructions(*studies: Study, methods: Sequence[str] = METHODS) -> pd.DataFrame:
    """How near a method's release comes to the raw frames again, in each replicate.

    Returns:
        Columns ``method``, ``replicate``, and ``QUALITIES``: ``psnr`` (dB) and ``ssim`` of the reconstructions; both
        with suffix ``_released`` (of the release itself) and ``_blind`` (of the mean training frame: their chance
        lines).
    """
    rows = []
    for study in each_once(studies):
        role = stills(study)
        for name in (name for name in methods if exists("inverted", name)):
            with _left_out(study):
                spec = inverse(study, study.method(name), role)
                metrics = study.store.run(spec).metrics
                rows.append({"method": name, "replicate": tables.replicate(study)} | metrics)
    return pd.DataFrame(rows, columns=["method", "replicate", *QUALITIES])


def average_precisions(*studies: Study, methods: Sequence[str] = METHODS) -> pd.DataFrame:
    """AP of each attribute that the unprepared network reads from reconstructions (attacker "inverted"), and of raw
    data from the raw frames.

    Returns:
        A row for each method, replicate and attribute whose data and records are at hand. Columns ``method``,
        ``replicate``, ``attribute``, ``ap`` (percent, mean over target seeds), ``chance``.
    """
    rows = []
    for study in each_once(studies):
        role = stills(study)
        with missing_left_out():  # the names and frequencies of the attributes are in the data alone
            manifest = manifest_of(study.data(role)).select("test")
            task, labels = manifest.task(role.task), manifest.labels(role.task)
            if task.kind != "multi":
                continue
            lines = [100 * chance_average_precision(int(m), len(labels)) if m else math.nan for m in labels.sum(0)]
            for method in methods:
                with _left_out(study):
                    name = "inverted" if exists("inverted", method) else "unprepared"
                    seeds = [score(study, name, study.method(method), s)["ap"] for s in study.profile.target_seeds]
                    each = {"method": method, "replicate": tables.replicate(study)}
                    aps = np.mean(seeds, axis=0)
                    rows += [
                        each | dict(zip(AP, found, strict=True)) for found in zip(task.classes, aps, lines, strict=True)
                    ]
    return pd.DataFrame(rows, columns=["method", "replicate", *AP])


def minutes(found: pd.DataFrame, *studies: Study) -> float:
    """Minutes that the attackers of ``readings``, and their g, took, added up over processes: mean over the replicates
    that have any."""
    each = []
    for study in studies:
        here = found[found["replicate"] == tables.replicate(study)]
        keys = {
            key
            for cell in here.itertuples()
            for seed in study.profile.target_seeds
            for key, part in trained_parts(spec_of(study, cell.attack, study.method(cell.method), seed)).items()
            if part.kind in ("target", "test", "reconstruction")
        }
        if keys:
            each.append(sum(study.store.used[key]["seconds"] for key in keys) / 60)
    return float(np.mean(each))


def inverted(study: Study, methods: Iterable[str]) -> dict[str, Method]:
    """For strips of frames: raw frames, then each method and what was reconstructed from it, as far as at hand."""
    found: dict[str, Method] = {}
    role = stills(study)
    for name in (name for name in methods if exists("inverted", name)):
        with missing_left_out():
            method = study.method(name)
            spec = inverse(study, method, role)
            study.store.files(spec)
            text = tables.label_in(study, name)
            found |= {text: method, f"{text}, inverted": spec}
    return {tables.label("raw"): RAW} | found if found else {}


def replicated(
    study: Study, protocol: str, replicates: Iterable[Sequence[int]], target_seeds: Sequence[int]
) -> list[Study]:
    """The study and its other replicates whose data are at hand, or their fingerprints committed, all training nothing;
    why another one is left out is printed.

    Args:
        protocol: of the study, by name.
        replicates: pairs (draw, seed).
        target_seeds: those that were asked for; empty: the profile's own.
    """
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    found = {study.init_f_A.key(): tables.reading(study)}
    with training_forbidden():  # so that committed records do where a replicate's data are not
        for draw, seed in replicates:
            try:
                other = open_study(study.profile.name, draw=draw, seed=seed, protocol=protocol, **changes)
                with missing_left_out():
                    other.data(videos(other))  # known from here on, as are those of its protocol
                found.setdefault(other.init_f_A.key(), tables.reading(other))
            except MissingError as error:
                print(f"draw {draw}, seed {seed} is left out: {error}")
    return list(found.values())


def folds(profile: str, protocol: str, groups: Sequence[str], seed: int, *, train: bool) -> list[Study]:
    """A study of one's own videos for each group that is left out (as ``crossval``).

    Args:
        protocol: ``DATASET:ACTION/PRIVACY``.
        groups: a column, and those of its values that are left out in turn.
        train: else what is finished or committed is read; with committed records the videos need not be here, and
            where there is neither, the list is empty.
    """
    column, *values = groups
    with nullcontext() if train else training_forbidden(), nullcontext() if train else missing_left_out():
        studies = [open_study(profile, protocol=protocol, seed=seed, leave_out=(column, value)) for value in values]
        for study in studies:
            study.data(study.protocol.action)
        return studies
    return []


def fold_readings(studies: Sequence[Study], methods: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """Accuracy of attackers over all folds together (single-label tasks), with exact 95 % binomial intervals.

    Returns:
        Like ``readings``, all folds as one replicate, with the number of test videos ``n``; chance: the mean of the
        folds' most frequent classes. A row is left out unless all folds have it.
    """
    check(names)
    rows = []
    for name, attack in asked(methods, names):
        found = [fold for study in studies if (fold := _fold(study, attack, name))]
        if found and len(found) == len(studies):
            folds, n = pd.DataFrame(found), sum(fold["n"] for fold in found)
            here, chance = (np.average(folds[column], weights=folds["n"]) for column in ("here", "chance"))
            interval = binomtest(round(here * n / 100), n).proportion_ci(0.95, method="exact")
            low, high = 100 * interval.low, 100 * interval.high
            together = {"replicate": "all folds", "here": here, "chance": chance, "low": low, "high": high, "n": n}
            rows.append(found[0] | together | {column: distinct(folds[column]) for column in FAULTS})
    return pd.DataFrame(rows, columns=[*COLUMNS, "n"])


def _fold(study: Study, attack: str, name: str) -> dict | None:
    with _left_out(study):
        method = study.method(name)
        found = _reading(study, attack, name, method)
        # The frames of a video are no independent trials: they count as their video.
        of = "video" if ATTACKS[attack].per == "frame" else attack
        return found and found | {"n": score(study, of, method, study.profile.target_seeds[0])["n_test"]}
    return None
