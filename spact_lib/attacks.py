"""How hard a release was attacked. An attacker is a row of ``ATTACKS``; what it trains is a target like any other, so
that it is made once, resumed, shared and recorded by the experiment store.

The paper has one attacker: a fresh network on the 8-bit frames. A privacy number is worth as much as its attacker.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from scipy.stats import binomtest

from spact_lib import tables
from spact_lib.ahead import processes, whatever_is_free
from spact_lib.baselines import SHRINKS
from spact_lib.claims import t_interval
from spact_lib.config import BaselineSpec, DataSpec, Method, ReconstructionSpec, ScoreSpec, TargetSpec, TestSpec
from spact_lib.device import pick_device
from spact_lib.errors import UserError, missing_left_out, unknown_name
from spact_lib.filework import cores
from spact_lib.flop import learning
from spact_lib.footnotes import FAULTS, distinct, faults
from spact_lib.metrics import headline
from spact_lib.networks.privacy import ENCODERS
from spact_lib.protocols import Role
from spact_lib.reconstruction import QUALITIES
from spact_lib.results import training_forbidden
from spact_lib.store import manifest_of
from spact_lib.study import Study, open_study

RAW = BaselineSpec(name="raw")
NETWORKS = {"own": "target_f_B", "smaller": "smaller_f_B", "larger": "larger_f_B", "video": "video_f_B"}  # of a profile


@dataclass(frozen=True)
class Attack:
    """An attacker of a release; pydantic refuses a channel, length or crf that cannot be, and both of inverting and a
    channel.

    Args:
        text: for readers.
        network: which of the profile's architectures, "smaller", "own", "larger" or "video" (the 3-D one, on clips); or
            a name of ``networks.privacy.ENCODERS``.
        length: steps, as a multiple of the profile's.
        channel: how the frames reach him; he learns on the same.
        crf: of H.264.
        enlarges: frames that a method made smaller he brings to their size before.
        prepared: he learned on the release; else on raw data.
        inverts: he first turns the release into raw frames again (``reconstruction``), and where he is prepared learns
            on these.
        of_videos: he sees the videos whose action is to be read; else the items of the protocol's privacy dataset.
        per: one answer for each row, the mean over its test views; for every frame; or for each video, the mean over
            all its frames.
    """

    text: str
    network: str = "own"
    length: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    channel: Literal["uint8", "float", "h264"] = "uint8"
    crf: Annotated[int, Field(ge=0, le=51)] = 23
    enlarges: bool = True
    prepared: bool = True
    inverts: bool = False
    of_videos: bool = False
    per: Literal["row", "frame", "video"] = "row"

    @model_validator(mode="after")
    def _inverts_what_is_released(self) -> Self:
        # The store's releases end in their channel: a channel before the inversion would need a release of its own.
        if self.inverts and self.channel != "uint8":
            raise ValueError(f"inverts=True reads 8-bit frames, not channel={self.channel!r}; leave one of them out")
        return self


ATTACKS: dict[str, Attack] = {
    "unprepared": Attack("learned on raw data", prepared=False),
    "inverted": Attack("learned on raw data, inverts first", prepared=False, inverts=True),
    "relearned": Attack("inverts first, that of the tables learns on it", inverts=True),
    "smaller_short": Attack("smaller network, 1/4 of the steps", network="smaller", length=1 / 4),
    "short": Attack("1/4 of the steps", length=1 / 4),
    "own": Attack("that of the tables", enlarges=False),
    "enlarged": Attack("that of the tables, small frames enlarged"),
    "larger": Attack("larger network", network="larger"),
    "long": Attack("4 x the steps", length=4),
    "larger_long": Attack("larger network, 4 x the steps", network="larger", length=4),
    "h264": Attack("that of the tables, on H.264 stills (crf 23)", channel="h264"),
    "float": Attack("that of the tables, on unrounded frames", channel="float"),
    "frame": Attack("one frame of a video", of_videos=True, per="frame"),
    "h264_video": Attack("5 frames of an H.264 video (crf 18)", of_videos=True, channel="h264", crf=18),
    "views": Attack("5 frames of a video", of_videos=True),
    "video": Attack("all frames of a video", of_videos=True, per="video"),
    "clips": Attack("5 clips of a video, 3-D network", of_videos=True, network="video"),
}
CHANNELS = "it is released as"  # the panel of the attackers that differ in it alone
# What a figure shows side by side, from weak to strong: chains, each of attackers that differ in what makes the next
# one stronger.
PANELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "the attacker sees one frame at a time": (
        ("unprepared",),
        ("inverted",),
        ("relearned",),
        ("smaller_short", "short", "own", "enlarged", "larger", "larger_long"),
        ("long",),
    ),
    CHANNELS: (("h264", "own", "float"),),
    "the attacker sees a video": (("h264_video",), ("frame", "views", "video"), ("clips",)),
}
METHODS = (
    "raw", "identity", "downsample_2x", "downsample_4x", "obf_blackening", "obf_strong_blur", "obf_weak_blur",
    "noise_features", "supervised", "spact",
)  # fmt: skip
# Whom every method meets by default, as far as they are attackers of its own (``exists``), and whom SPAct also does;
# the rest is there by name. At mini the tables' attacker takes a core one to two minutes, ``larger`` three times and
# ``long`` four times as much, ``larger_long`` twelve times.
GRID = (
    "unprepared", "inverted", "smaller_short", "short", "own", "enlarged", "larger", "long", "float", "h264", "frame",
    "views", "video",
)  # fmt: skip
FURTHER = {"spact": ("relearned", "h264_video")}
# Those between which validation rows choose the strongest: all learned on 8-bit stills, or on what undid them.
CLASSIFIERS = ("relearned", "smaller_short", "short", "own", "enlarged", "larger", "long", "larger_long")


def exists(attack: str, method: str) -> bool:
    """Whether an attacker of a method is one of his own: raw frames need no inverting and have 8 bits to begin with,
    and only what was made smaller is enlarged."""
    if method == "raw":
        return not ATTACKS[attack].inverts and ATTACKS[attack].channel != "float" and attack != "enlarged"
    return attack != "enlarged" or method in SHRINKS


def asked(methods: Iterable[str], names: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Pairs (method, attacker): of these attackers; of none: by ``GRID`` and ``FURTHER``."""
    return [(m, name) for m in methods for name in names or (*GRID, *FURTHER.get(m, ())) if exists(name, m)]


def check(names: Iterable[str], studies: Iterable[Study] = ()) -> None:
    """Raise UserError for an unknown attacker, one with an unknown network, or a study that names nothing to read."""
    for name in names or ATTACKS:
        if name not in ATTACKS:
            raise unknown_name("attack", name, ATTACKS)
        network = ATTACKS[name].network
        if network not in NETWORKS and any(part not in ENCODERS for part in network.split("+")):
            raise unknown_name(f"network of attack {name!r}", network, [*NETWORKS, *ENCODERS])
    for study in studies:
        stills(study)


def stills(study: Study) -> Role:
    """What is read from single frames.

    Raises:
        UserError: the protocol has no target "privacy".
    """
    targets = study.protocol.targets
    if "privacy" not in targets:
        raise UserError(
            "attackers learn what a protocol's target 'privacy' learns, but the targets of this one are "
            f"{', '.join(targets)}; choose another protocol, such as ucf101_vispr1"
        )
    return targets["privacy"].learns


def videos(study: Study) -> Role:
    """Privacy labels of the videos whose action is released: the protocol's own task if it is on these videos, else
    STPrivacy's bits, whose dataset lists the same rows (``data_prep.vp``)."""
    action, privacy = study.protocol.action.dataset, study.protocol.privacy
    return privacy if privacy.dataset == action else Role(f"vp_{action}", "vp_attributes")


def spec_of(study: Study, name: str, method: Method, seed: int) -> TargetSpec | TestSpec:
    """What gives the score of an attacker on what a method releases.

    Raises:
        UserError: the videos' labels are of another list of videos than their release.
    """
    attack, p = ATTACKS[name], study.profile
    role = videos(study) if attack.of_videos else stills(study)
    of_frames = study.protocol.action if attack.of_videos else role
    if attack.of_videos and not study.store.read_only:
        _refuse_other_rows(study.data(role), study.data(of_frames))
    network = getattr(p, NETWORKS[attack.network]) if attack.network in NETWORKS else attack.network
    on_clips = attack.network == "video"
    seen = inverse(study, method, role) if attack.inverts else _enlarged(method) if attack.enlarges else method
    learned = seen if attack.prepared else RAW
    target = study.fresh(learned, role, "action" if on_clips else "privacy", seed, network)
    sent = {"channel": attack.channel, "crf": attack.crf}
    release = study.release(learned, of_frames).model_copy(update=sent)
    schedule = target.schedule.model_copy(update={"steps": max(1, round(attack.length * target.schedule.steps))})
    target = target.model_copy(update={"release": release, "schedule": schedule})
    if attack.prepared and attack.per == "row":
        return target
    pers = ("row",) if attack.per == "row" else ("frame", "video")  # both from one pass over all frames
    scores = tuple(ScoreSpec(task=role.task, per=per, without=()) for per in pers)
    tested = study.release(seen, of_frames).model_copy(update=sent)
    return TestSpec(target=target, release=tested, data=study.data(role), scores=scores)


def _enlarged(method: Method) -> Method:
    small = isinstance(method, BaselineSpec) and method.name in SHRINKS
    return BaselineSpec(name=f"{method.name}_up") if small else method


def _refuse_other_rows(labels: DataSpec, frames: DataSpec) -> None:
    listed = ["path", "start", "end", "split"]
    if not manifest_of(labels).rows[listed].equals(manifest_of(frames).rows[listed]):
        raise UserError(
            f"dataset {labels.name!r} does not list the rows of {frames.name!r} in the same order and splits; prepare "
            "both from the same files and split"
        )


def inverse(study: Study, method: Method, role: Role) -> ReconstructionSpec:
    """A method with a network behind it that learned to invert it, as f_A learned the identity: the profile's U-Net
    and schedule of Eq. 4, on the attacker's own pairs (train rows of ``role``)."""
    p = study.profile
    return ReconstructionSpec(
        victim=method, data=study.data(role), view=p.privacy_view, width=p.width, schedule=p.init_f_A,
        precision=p.precision, seed=study.seed,
    )  # fmt: skip


def score(study: Study, name: str, method: Method, seed: int) -> dict:
    """Metrics of an attacker (``metrics.score``), and ``val`` where validation rows were looked at."""
    spec = spec_of(study, name, method, seed)
    metrics = study.store.run(spec).metrics
    if isinstance(spec, TargetSpec):
        return metrics
    return metrics["scores"][[each.per for each in spec.scores].index(ATTACKS[name].per)]


def make(item: tuple[Study, str, str]) -> None:
    """Train and score an attacker of a method, for all target seeds, and whatever it needs."""
    study, method, name = item
    for seed in study.profile.target_seeds:
        score(study, name, study.method(method), seed)


def train(studies: Sequence[Study], methods: Sequence[str], names: Sequence[str] = ()) -> None:
    """Make the attackers of all methods (``asked``): on a CPU in as many processes as its threads leave cores for.

    Raises:
        UserError: an unknown name, a method that cannot be trained, videos whose labels are not there, or as
            ``stills``, before anything is.
    """
    check(names, studies)
    for study in studies:
        study.check(methods)
    # What takes longest first, so that no process is left alone with it.
    pairs = sorted(asked(methods, names), key=lambda pair: _steps(ATTACKS[pair[1]]), reverse=True)
    items: list[tuple[Study, str, str]] = []
    for study in studies:  # each attacker is asked about once, not for every method
        has = {name: _has_labels(study, name, bool(names)) for name in dict.fromkeys(name for _, name in pairs)}
        items += [(study, *pair) for pair in pairs if has[pair[1]]]
    threads = torch.get_num_threads()
    jobs = max(1, cores() // threads) if pick_device().type == "cpu" else 1
    with processes(studies[0].profile.name, jobs - 1, threads, [], partial(whatever_is_free, items, make)):
        whatever_is_free(items, make)


def _has_labels(study: Study, name: str, by_name: bool) -> bool:
    """Whether an attacker finds what he reads; of videos' labels that nobody has prepared: only where he is not asked
    for by name, else it is an error."""
    if not ATTACKS[name].of_videos:
        return True
    try:
        labels = study.data(videos(study))
    except UserError as error:
        if by_name:
            raise
        print(f"{name} is left out: {error}")
        return False
    _refuse_other_rows(labels, study.data(study.protocol.action))
    return True


def _steps(attack: Attack) -> float:
    """About how long he learns, in steps of the tables' attacker as a multiple of his."""
    return attack.length * (3 if attack.network == "larger" else 1)


def _left_out(study: Study) -> AbstractContextManager:
    """Within: where nothing is trained, what is not at hand is left out."""
    return missing_left_out() if study.store.read_only else nullcontext()


COLUMNS = ["attack", "method", "replicate", "here", "chance", "val", "effort", "low", "high", "boxes", *FAULTS]


def readings(*studies: Study, methods: Sequence[str] = METHODS, names: Sequence[str] = tuple(ATTACKS)) -> pd.DataFrame:
    """What every attacker reads from what every method releases, in each replicate (draw and seed).

    Returns:
        A row for each cell that is at hand (where a store is read-only; else it is made) and for each replicate.
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
    for study in {study.init_f_A.key(): study for study in studies}.values():
        for name in methods:
            with _left_out(study):
                method = study.method(name)
                here = [attack for attack in names if exists(attack, name)]
                rows += [row for attack in here if (row := _reading(study, attack, name, method))]
    return pd.DataFrame(rows, columns=COLUMNS)


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


def _replicate(study: Study) -> str:
    return f"draw {study.profile.draw}, seed {study.seed}"


def _reading(study: Study, attack: str, name: str, method: Method) -> dict | None:
    with _left_out(study):
        seeds = study.profile.target_seeds
        of_seeds = [score(study, attack, method, seed) for seed in seeds]
        lines = [s.get("cmap_chance", s.get("top1_chance")) for s in of_seeds]
        val = [math.nan if s.get("val") is None else s["val"] for s in of_seeds]
        spec, effort = spec_of(study, attack, method, seeds[0]), math.nan
        text = f"{tables.label(name)} of {_replicate(study)}"
        target = spec.target if isinstance(spec, TestSpec) else spec
        if ATTACKS[attack].prepared:
            effort = learning(target) / learning(study.target_spec(target.release.method, "privacy", seeds[0]))
        return {
            "attack": attack, "method": name, "replicate": _replicate(study),
            "here": np.mean([headline(s) for s in of_seeds]), "chance": np.mean(lines), "val": np.mean(val),
            "effort": effort, "low": math.nan, "high": math.nan, "boxes": getattr(method, "boxes", ""),
            **faults(tables.parts_at_hand(study, [spec_of(study, attack, method, seed) for seed in seeds]), text),
        }  # fmt: skip
    return None


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
    for study in {study.init_f_A.key(): study for study in studies}.values():
        role = stills(study)
        for name in (name for name in methods if exists("inverted", name)):
            with _left_out(study):
                spec = inverse(study, study.method(name), role)
                metrics = study.store.run(spec).metrics
                rows.append({"method": name, "replicate": _replicate(study)} | metrics)
    return pd.DataFrame(rows, columns=["method", "replicate", *QUALITIES])


def inverted(study: Study, methods: Iterable[str]) -> dict[str, Method]:
    """For strips of frames: raw frames, then each method and what was reconstructed from it, as far as at hand."""
    found: dict[str, Method] = {}
    role = stills(study)
    for name in (name for name in methods if exists("inverted", name)):
        with missing_left_out():
            method = study.method(name)
            spec = inverse(study, method, role)
            study.store.files(spec)
            text = tables.label(name, getattr(method, "boxes", ""))
            found |= {text: method, f"{text}, inverted": spec}
    return {tables.label("raw"): RAW} | found if found else {}


def trainable(study: Study, methods: Iterable[str]) -> list[str]:
    """The methods that can be trained here; why another one cannot is printed."""
    found = []
    for name in methods:
        try:
            study.check([name])
            found.append(name)
        except UserError as error:
            print(f"{name} is left out: {error}")
    return found


def replicated(
    study: Study, protocol: str, replicates: Iterable[Sequence[int]], target_seeds: Sequence[int]
) -> list[Study]:
    """The study and its other replicates whose data are at hand, all training nothing.

    Args:
        protocol: of the study, by name.
        replicates: pairs (draw, seed).
        target_seeds: those that were asked for; empty: the profile's own.
    """
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    found = {study.init_f_A.key(): tables.reading(study)}
    for draw, seed in replicates:
        with missing_left_out():  # read-only, only the key asks for its data
            other = open_study(study.profile.name, draw=draw, seed=seed, protocol=protocol, **changes)
            found.setdefault(other.init_f_A.key(), tables.reading(other))
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
