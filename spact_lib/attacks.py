"""How hard a release was attacked. An attacker is a row of ``ATTACKS``; what it trains is a target like any other, so
that it is made once, resumed, shared and recorded by the experiment store.

The paper has one attacker: a fresh network on the 8-bit frames. A privacy number is worth as much as its attacker.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spact_lib.ahead import processes, whatever_is_free
from spact_lib.baselines import SHRINKS
from spact_lib.config import BaselineSpec, DataSpec, Method, ReconstructionSpec, ScoreSpec, TargetSpec, TestSpec
from spact_lib.device import pick_device
from spact_lib.errors import UserError, unknown_name
from spact_lib.filework import cores
from spact_lib.methods import F_B, architecture
from spact_lib.networks.privacy import ENCODERS, encoder_dims
from spact_lib.protocols import Role
from spact_lib.store import manifest_of
from spact_lib.study import Study

RAW = BaselineSpec(name="raw")
NETWORKS = F_B | {"own": "target_f_B"}  # his own is the targets', not the game's


@dataclass(frozen=True)
class Attack:
    """An attacker of a release; pydantic refuses a channel, length or crf that cannot be, and both of inverting and a
    channel.

    Args:
        text: for readers.
        network: which of the profile's architectures (``NETWORKS``), or a name of ``networks.privacy.ENCODERS``; a 3-D
            one sees clips.
        length: steps, as a multiple of the profile's.
        channel: how the frames reach him; he learns on the same.
        crf: of H.264.
        enlarges: frames that a method made smaller are brought to their size before; as H.264 by their owner, so that
            who attacks a Downsample row through H.264 sees large frames.
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
    seen = inverse(study, method, role) if attack.inverts else _enlarged(method) if attack.enlarges else method
    learned = seen if attack.prepared else RAW
    network = architecture(p, NETWORKS, attack.network)
    target = study.fresh(learned, role, "action" if encoder_dims(network) == 3 else "privacy", seed, network)
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
