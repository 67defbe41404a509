"""How hard a release was attacked. An attacker is a row of ``ATTACKS``; what it trains is a target like any other, so
that it is made once, resumed, shared and recorded by the experiment store.

The paper has one attacker: a fresh network on the 8-bit frames. A privacy number is worth as much as its attacker.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest

from spact_lib import tables
from spact_lib.ahead import processes, whatever_is_free
from spact_lib.claims import t_interval
from spact_lib.config import BaselineSpec, DataSpec, Method, ReconstructionSpec, ScoreSpec, TargetSpec, TestSpec
from spact_lib.device import pick_device
from spact_lib.errors import UserError, unknown_name
from spact_lib.experiments import Store, manifest_of
from spact_lib.filework import cores
from spact_lib.metrics import headline
from spact_lib.plan import learning
from spact_lib.protocols import Role
from spact_lib.results import training_forbidden
from spact_lib.study import Study, open_study

RAW = BaselineSpec(name="raw")


@dataclass(frozen=True)
class Attack:
    """An attacker of a release.

    Args:
        text: for readers.
        network: which of the profile's architectures, "smaller", "own", "larger" or "video" (the 3-D one, on clips); or
            a name of ``networks.privacy.ENCODERS``.
        length: steps, as a multiple of the profile's.
        channel: how the frames reach him; he learns on the same.
        prepared: he learned on the release; else on raw data.
        inverts: he first turns the release into raw frames again (``reconstruction``).
        of_videos: he sees the videos whose action is to be read; else the items of the protocol's privacy dataset.
        per: one answer for each row, the mean over its test views; for every frame; or for each video, the mean over
            all its frames.
    """

    text: str
    network: str = "own"
    length: float = 1.0
    channel: Literal["uint8", "float", "h264"] = "uint8"
    prepared: bool = True
    inverts: bool = False
    of_videos: bool = False
    per: Literal["row", "frame", "video"] = "row"


ATTACKS: dict[str, Attack] = {
    "unprepared": Attack("learned on raw data", prepared=False),
    "inverted": Attack("learned on raw data, inverts first", prepared=False, inverts=True),
    "smaller_short": Attack("smaller network, 1/4 of the steps", network="smaller", length=1 / 4),
    "short": Attack("1/4 of the steps", length=1 / 4),
    "own": Attack("that of the tables"),
    "larger": Attack("larger network", network="larger"),
    "long": Attack("4 x the steps", length=4),
    "larger_long": Attack("larger network, 4 x the steps", network="larger", length=4),
    "float": Attack("that of the tables, on unrounded frames", channel="float"),
    "h264": Attack("that of the tables, on H.264 (crf 23)", channel="h264"),
    "frame": Attack("one frame of a video", of_videos=True, per="frame"),
    "views": Attack("5 frames of a video", of_videos=True),
    "video": Attack("all frames of a video", of_videos=True, per="video"),
    "clips": Attack("5 clips of a video, 3-D network", of_videos=True, network="video"),
}
# What a figure shows side by side, from weak to strong.
PANELS: dict[str, tuple[str, ...]] = {
    "the attacker sees a still": (
        "unprepared",
        "inverted",
        "smaller_short",
        "short",
        "own",
        "larger",
        "long",
        "larger_long",
    ),
    "it is released as": ("float", "own", "h264"),
    "the attacker sees a video": ("frame", "views", "video", "clips"),
}
# ``larger_long`` costs as much as all of these, and ``clips`` is a second way to see a whole video.
DEFAULT = tuple(name for name in ATTACKS if name not in ("larger_long", "clips"))
METHODS = ("raw", "identity", "downsample_2x", "downsample_4x", "obf_blackening", "supervised", "spact")
# Those between which validation rows choose the strongest: all learned on 8-bit stills.
CLASSIFIERS = ("smaller_short", "short", "own", "larger", "long", "larger_long")


def check(names: Iterable[str]) -> None:
    """Raise UserError for an unknown attacker."""
    for name in names:
        if name not in ATTACKS:
            raise unknown_name("attack", name, ATTACKS)


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
    role = videos(study) if attack.of_videos else study.protocol.targets["privacy"].learns
    of_frames = study.protocol.action if attack.of_videos else role
    if attack.of_videos and not study.store.read_only:
        _refuse_other_rows(study.data(role), study.data(of_frames))
    networks = {"own": p.target_f_B, "smaller": p.smaller_f_B, "larger": p.larger_f_B, "video": p.video_f_B}
    network, on_clips = networks.get(attack.network, attack.network), attack.network == "video"
    learned = method if attack.prepared else RAW
    target = study.fresh(learned, role, "action" if on_clips else "privacy", seed, network)
    # Raw frames have 8 bits to begin with.
    channel = "uint8" if attack.channel == "float" and method == RAW else attack.channel
    update = {
        "release": study.release(learned, of_frames).model_copy(update={"channel": channel}),
        "schedule": target.schedule.model_copy(update={"steps": max(1, round(attack.length * target.schedule.steps))}),
    }
    target = target.model_copy(update=update)
    if attack.prepared and attack.per == "row":
        return target
    tested = inverse(study, method, role) if attack.inverts else method
    pers = ("row",) if attack.per == "row" else ("frame", "video")  # both from one pass over all frames
    scores = tuple(ScoreSpec(task=role.task, per=per, without=()) for per in pers)
    return TestSpec(target=target, release=study.release(tested, of_frames), data=study.data(role), scores=scores)


def _refuse_other_rows(labels: DataSpec, frames: DataSpec) -> None:
    listed = ["path", "start", "end", "split"]
    if not manifest_of(labels).rows[listed].equals(manifest_of(frames).rows[listed]):
        raise UserError(
            f"dataset {labels.name!r} does not list the rows of {frames.name!r} in the same order and splits; prepare "
            "both from the same files and split"
        )


def inverse(study: Study, method: Method, role: Role) -> Method:
    """A method with a network behind it that learned to invert it, as f_A learned the identity: the profile's U-Net
    and schedule of Eq. 4, on the attacker's own pairs (train rows of ``role``). Raw frames need none."""
    if method == RAW:
        return RAW
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


def train(studies: Sequence[Study], methods: Sequence[str], names: Sequence[str]) -> None:
    """Make all attackers of all methods: on a CPU in as many processes as its threads leave cores for.

    Raises:
        UserError: an unknown name, or a method that cannot be trained, before anything is.
    """
    check(names)
    for study in studies:
        study.check(methods)
    # What takes longest first, so that no process is left alone with it.
    names = sorted(names, key=lambda name: list(ATTACKS).index(name), reverse=True)
    items = [(study, method, name) for study in studies for name in names for method in methods]
    threads = torch.get_num_threads()
    jobs = max(1, cores() // threads) if pick_device().type == "cpu" else 1
    with processes(studies[0].profile.name, jobs - 1, threads, [], partial(whatever_is_free, items, make)):
        whatever_is_free(items, make)


def reading(study: Study) -> Study:
    """The same study, training nothing."""
    return replace(study, store=Store(study.store.root, read_only=True))


def _left_out(study: Study) -> AbstractContextManager:
    """Within: where nothing is trained, what is not at hand is left out."""
    return suppress(UserError) if study.store.read_only else nullcontext()


def table(*studies: Study, methods: Sequence[str] = METHODS, names: Sequence[str] = DEFAULT) -> pd.DataFrame:
    """What every attacker reads from what every method releases: one replicate, or the mean over several.

    Returns:
        Index (attack, method), what is at hand of it where a store is read-only. Columns: ``here`` (cMAP or top-1 in
        percent, mean over target seeds), ``chance`` (its line), ``val`` (the same on validation rows, NaN where none
        was looked at), ``effort`` (FLOP of training, as a multiple of the tables' attacker; NaN for who did not learn
        on the release), ``replicates``, ``low`` and ``high`` (95 % t-interval, NaN for one replicate), ``boxes``.
    """
    check(names)
    rows = []
    for study in {study.init_f_A.key(): study for study in studies}.values():
        for name in methods:
            with _left_out(study):
                method = study.method(name)
                rows += [row for attack in names if (row := _cell(study, attack, name, method))]
    columns = ["attack", "method", "here", "chance", "val", "effort", "boxes"]
    found = pd.DataFrame(rows, columns=columns).groupby(["attack", "method"], sort=False)
    means = found[["here", "chance", "val", "effort"]].mean().assign(
        replicates=found["here"].size(),
        low=found["here"].agg(lambda values: t_interval(list(values))[0]),
        high=found["here"].agg(lambda values: t_interval(list(values))[1]),
        boxes=found["boxes"].agg("first"),
    )  # fmt: skip
    return means.reindex([(name, method) for name in names for method in methods if (name, method) in means.index])


def _cell(study: Study, attack: str, name: str, method: Method) -> dict | None:
    with _left_out(study):
        seeds = study.profile.target_seeds
        of_seeds = [score(study, attack, method, seed) for seed in seeds]
        lines = [s.get("cmap_chance", s.get("top1_chance")) for s in of_seeds]
        val = [math.nan if s.get("val") is None else s["val"] for s in of_seeds]
        spec, effort = spec_of(study, attack, method, seeds[0]), math.nan
        target = spec.target if isinstance(spec, TestSpec) else spec
        if ATTACKS[attack].prepared:
            effort = learning(target) / learning(study.target_spec(method, "privacy", seeds[0]))
        return {
            "attack": attack, "method": name, "here": np.mean([headline(s) for s in of_seeds]),
            "chance": np.mean(lines), "val": np.mean(val), "effort": effort, "boxes": getattr(method, "boxes", ""),
        }  # fmt: skip
    return None


def strongest(found: pd.DataFrame) -> pd.Series:
    """method -> the classifier that validation rows choose among ``CLASSIFIERS``; without such rows, none."""
    val = found["val"].unstack("method", sort=False).reindex(CLASSIFIERS).dropna(how="all")
    return val.dropna(axis=1, how="all").idxmax()


def reconstructions(*studies: Study, methods: Sequence[str] = METHODS) -> pd.DataFrame:
    """How near a method's release comes to the raw frames again, mean over replicates.

    Returns:
        Index ``method``. Columns ``psnr`` (dB), ``ssim`` of the reconstructions; both with suffix ``_released`` (of the
        release itself) and ``_blind`` (of the mean training frame: their chance lines).
    """
    columns = [f"{metric}{of}" for metric in ("psnr", "ssim") for of in ("", "_released", "_blind")]
    rows = []
    for study in {study.init_f_A.key(): study for study in studies}.values():
        for name in (name for name in methods if name != "raw"):
            with _left_out(study):
                spec = inverse(study, study.method(name), study.protocol.targets["privacy"].learns)
                rows.append({"method": name} | study.store.run(spec).metrics)
    means = pd.DataFrame(rows, columns=["method", *columns]).groupby("method", sort=False).mean()
    return means.reindex([name for name in methods if name in means.index])


def inverted(study: Study, methods: Iterable[str]) -> dict[str, Method]:
    """For strips of frames: each method by its label, then what was reconstructed from it, as far as at hand."""
    found: dict[str, Method] = {}
    for name in methods:
        with suppress(UserError):
            method = study.method(name)
            spec = inverse(study, method, study.protocol.targets["privacy"].learns)
            text = tables.label(name, getattr(method, "boxes", ""))
            if spec != RAW:
                study.store.files(spec)
            found |= {text: method} if spec == RAW else {text: method, f"{text}, inverted": spec}
    return found


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
    changes, found = {"target_seeds": tuple(target_seeds)} if target_seeds else {}, [reading(study)]
    for draw, seed in replicates:
        with suppress(UserError):
            found.append(reading(open_study(study.profile.name, draw=draw, seed=seed, protocol=protocol, **changes)))
    return list({each.init_f_A.key(): each for each in found}.values())


def folds(profile: str, protocol: str, groups: Sequence[str], seed: int, *, train: bool) -> list[Study]:
    """A study of one's own videos for each group that is left out (as ``crossval``).

    Args:
        protocol: ``DATASET:ACTION/PRIVACY``.
        groups: a column, and those of its values that are left out in turn.
        train: else what is finished or committed is read; with committed records the videos need not be here, and
            where there is neither, the list is empty.
    """
    column, *values = groups
    with nullcontext() if train else training_forbidden(), nullcontext() if train else suppress(UserError):
        studies = [open_study(profile, protocol=protocol, seed=seed, leave_out=(column, value)) for value in values]
        for study in studies:
            study.data(study.protocol.action)
        return studies
    return []


def fold_table(studies: Sequence[Study], methods: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """Accuracy of attackers over all folds together (single-label tasks), with exact 95 % binomial intervals.

    Returns:
        Like ``table``, with the number of test videos ``n`` and of folds ``folds``; chance: the mean of the folds'
        most frequent classes. A row is left out unless all folds have it.
    """
    check(names)
    rows = {}
    for attack in names:
        for name in methods:
            found = [cell for study in studies if (cell := _fold(study, attack, name))]
            if not found or len(found) < len(studies):
                continue
            hits, n, lines, efforts, boxes = zip(*found, strict=True)
            interval = binomtest(sum(hits), sum(n)).proportion_ci(0.95, method="exact")
            rows[attack, name] = {
                "here": 100 * sum(hits) / sum(n), "chance": np.average(lines, weights=n), "val": math.nan,
                "effort": efforts[0], "low": 100 * interval.low, "high": 100 * interval.high, "boxes": boxes[0],
                "replicates": 1, "n": sum(n), "folds": len(n),
            }  # fmt: skip
    index = pd.MultiIndex.from_tuples(list(rows), names=["attack", "method"])
    columns = ["here", "chance", "val", "effort", "low", "high", "boxes", "replicates", "n", "folds"]
    return pd.DataFrame(list(rows.values()), index, columns)


def _fold(study: Study, attack: str, name: str) -> tuple | None:
    with _left_out(study):
        method = study.method(name)
        found = score(study, attack, method, study.profile.target_seeds[0])
        effort = _cell(study, attack, name, method)["effort"]
        hits = round(found["top1"] * found["n_test"] / 100)
        return hits, found["n_test"], found["top1_chance"], effort, getattr(method, "boxes", "")
    return None
