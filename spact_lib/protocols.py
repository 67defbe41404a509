"""Which dataset plays which role (Sec. 4.1 to 4.3): data, not branches in code.

A protocol says what f_A learns from, and what fresh targets learn and are tested on. Protocols whose ``action`` and
``privacy`` are the same share their f_A's: each is learned once, whatever tables it serves.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from spact_lib.config import DataSpec, Profile
from spact_lib.errors import MissingError, UserError, unknown_name
from spact_lib.files import read_json
from spact_lib.manifest import read_manifest
from spact_lib.paths import NOTEBOOKS, data_folder


@dataclass(frozen=True)
class Role:
    """A task of a dataset; several multi-label ones are joined by "+"."""

    dataset: str
    task: str


@dataclass(frozen=True)
class Column:
    """How a target is scored: a column of a table, or two (cMAP and F1).

    Args:
        name: in tables, before the metric; with the word "action" it is utility, else privacy.
        paper: the paper's column in ``reported.csv``; empty: it has none.
        task: of the test rows, with the classes of the task learned; empty: the learned one.
        per: row: the mean over a row's test clips; frame: every frame of every row, with its row's labels; video:
            the rows of a file together, the mean over all their frames, and present what is present in any of them.
        without: classes whose test rows are left out (single-label).
    """

    name: str
    paper: str = ""
    task: str = ""
    per: Literal["row", "frame", "video"] = "row"
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A fresh network: what it learns, on which dataset's test rows it is tested (empty: its own), how it is scored."""

    learns: Role
    columns: tuple[Column, ...]
    tested: str = ""

    @property
    def tested_on(self) -> tuple[Role, ...]:
        """The tasks of the test rows."""
        dataset = self.tested or self.learns.dataset
        return tuple(dict.fromkeys(Role(dataset, column.task or self.learns.task) for column in self.columns))


@dataclass(frozen=True)
class Protocol:
    """``action`` and ``privacy`` teach f_A; ``targets`` judge it: "action" is an f'_T, any other name an f'_B.

    Privacy labels reach only f'_B, and f_B of the supervised baseline.
    """

    action: Role
    privacy: Role
    targets: dict[str, Target]

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every task that is asked for, each once."""
        targets = (role for target in self.targets.values() for role in (target.learns, *target.tested_on))
        return tuple(dict.fromkeys((self.action, self.privacy, *targets)))

    @property
    def axes(self) -> tuple[str, str]:
        """The two targets of a trade-off: "action" and the first f'_B.

        Raises:
            UserError: one of them is not there.
        """
        privacy = next((name for name in self.targets if name != "action"), None)
        if privacy is None or "action" not in self.targets:
            raise UserError(f"a trade-off needs an action and a privacy target, not {', '.join(self.targets)} alone")
        return "action", privacy


def known(action: Role, privacy: Role, paper: tuple[str, str] = ("", ""), of: str = "") -> Protocol:
    """Known actions and attributes: the targets learn what f_A was learned with (Sec. 4.1, 4.2).

    Args:
        of: how the columns' names begin, in a table that has others.
    """
    targets = {
        name: Target(role, (Column(of + name, column),))
        for name, role, column in zip(("action", "privacy"), (action, privacy), paper, strict=True)
    }
    return Protocol(action, privacy, targets)


_UCF101, _VISPR1 = Role("ucf101", "action"), Role("vispr", "vispr1")
# HMDB51 without the videos of PA-HMDB51, on which f'_T is tested.
_HMDB51 = Role("hmdb51_without_pa", "action")
_PHVU = {task: Role("phvu", task) for task in ("action", "object", "scene", "object+scene")}


def _pa_action(paper: str) -> Target:
    return Target(_HMDB51, (Column("PA-HMDB51 action", paper),), tested="pa_hmdb51_videos")


def _pa_attributes(paper: str) -> Target:
    """f'_B learned on VISPR by the official mapping. Whether the paper counts frames or videos, and partial nudity, is
    not known: all four are scored."""
    columns = tuple(
        Column(f"PA-HMDB51 privacy per {per}{how}", paper, task, per)
        for per in ("frame", "video")
        for task, how in (("pa_attributes", ""), ("pa_attributes_nudity2", ", semi nudity"))
    )
    return Target(Role("vispr_pa", "pa_attributes"), columns, tested="pa_hmdb51")


def _phvu(known_to_f_A: str, columns: dict[str, Column]) -> Protocol:
    """P-HVU, with the attributes that the supervised baseline's f_B learns."""
    targets = {task: Target(_PHVU[task], (column,)) for task, column in columns.items()}
    return Protocol(_PHVU["action"], _PHVU[known_to_f_A], targets)


# HMDB51 is the novel action set of UCF101, but these classes show an action that UCF101 has too. Ours: nobody published
# which pairs the paper's numbers contain. All but "dive" and "handstand" are the twelve classes that the UCF-HMDB
# benchmark of domain adaptation (Chen et al., ICCV 2019) takes as shared.
SAME_AS_UCF101 = {
    "climb": ("RockClimbingIndoor", "RopeClimbing"),
    "dive": ("CliffDiving", "Diving"),
    "fencing": ("Fencing",),
    "golf": ("GolfSwing",),
    "handstand": ("HandstandPushups", "HandstandWalking"),
    "kick_ball": ("SoccerPenalty",),
    "pullup": ("PullUps",),
    "punch": ("BoxingPunchingBag", "BoxingSpeedBag", "Punch"),
    "pushup": ("PushUps",),
    "ride_bike": ("Biking",),
    "ride_horse": ("HorseRiding",),
    "shoot_ball": ("Basketball",),
    "shoot_bow": ("Archery",),
    "walk": ("WalkingWithDog",),
}


def overlapping_classes(known: Iterable[str], novel: Iterable[str]) -> list[tuple[str, str]]:
    """(UCF101 class, HMDB51 class) pairs that show the same action, among the classes ``known`` and ``novel``.

    Top-1 on novel actions is reported with and without the HMDB51 classes in these pairs.
    """
    known = set(known)
    return [(ucf, hmdb) for hmdb in novel for ucf in SAME_AS_UCF101.get(hmdb, ()) if ucf in known]


PROTOCOLS: dict[str, Protocol] = {
    # Known actions and attributes: Table 1.
    "ucf101_vispr1": known(_UCF101, _VISPR1, ("ucf101", "vispr1")),
    "hmdb51_vispr1": Protocol(
        _HMDB51, _VISPR1, {"action": _pa_action("pa_hmdb51"), "privacy": _pa_attributes("pa_hmdb51")}
    ),
    "phvu": _phvu(
        "object+scene",
        {
            "action": Column("P-HVU action", "phvu_action"),
            "object": Column("P-HVU objects", "phvu_object"),
            "scene": Column("P-HVU scenes", "phvu_scene"),
        },
    ),
    # Novel actions or attributes: Table 2. The f_A's of the first two are those of ucf101_vispr1.
    "novel": Protocol(
        _UCF101,
        _VISPR1,
        {
            "action": Target(
                Role("hmdb51", "action"),
                (
                    Column("HMDB51 action", "ucf101_to_hmdb51"),
                    Column("HMDB51 action without shared classes", without=tuple(sorted(SAME_AS_UCF101))),
                ),
            ),
            "privacy": Target(Role("vispr", "vispr2"), (Column("VISPR2 privacy", "vispr1_to_vispr2"),)),
        },
    ),
    "ucf101_to_pa_hmdb51": Protocol(_UCF101, _VISPR1, {"action": _pa_action("ucf101_to_pa_hmdb51")}),
    "phvu_scene_to_object": _phvu(
        "scene",
        {
            "action": Column("P-HVU action (scenes known)", "phvu_action"),
            "object": Column("P-HVU scenes to objects", "phvu_scene_to_object"),
        },
    ),
    "phvu_object_to_scene": _phvu(
        "object",
        {"action": Column("P-HVU action (objects known)"), "scene": Column("P-HVU objects to scenes")},
    ),
    # f_T learns what one sees, the scene, in place of what one does: is it L_T that decides what is kept? (claim K7)
    "phvu_scenes_wanted": Protocol(
        _PHVU["scene"],
        _PHVU["object"],
        {
            "action": Target(_PHVU["scene"], (Column("P-HVU scenes as action"),)),
            "object": Target(_PHVU["object"], (Column("P-HVU objects"),)),
        },
    ),
    # STPrivacy's bits: privacy of the very videos whose action is known, no second dataset.
    "vp_ucf101": known(Role("vp_ucf101", "action"), Role("vp_ucf101", "vp_attributes"), of="VP-UCF101 "),
    "vp_hmdb51": known(Role("vp_hmdb51", "action"), Role("vp_hmdb51", "vp_attributes"), of="VP-HMDB51 "),
}

# The protocols of a table's groups of columns; a table that is not named has those of Table 3 to 6: UCF101 and VISPR1.
TABLE_PROTOCOLS: dict[str, tuple[str, ...]] = {
    "table1": ("ucf101_vispr1", "hmdb51_vispr1", "phvu", "vp_ucf101"),
    "table2": ("novel", "ucf101_to_pa_hmdb51", "phvu_scene_to_object", "phvu_object_to_scene"),
}


def how_to_prepare(profile: Profile, name: str) -> str:
    """The command that prepares a dataset of a profile."""
    if profile.source == "mini":
        return f"spact prepare mini --draw {profile.draw} --scale {profile.scale}"
    # Imported here: only data_prep knows which reader writes what.
    from data_prep.sources import how_to_prepare as official

    return official(name)


def protocol(name: str) -> Protocol:
    """A protocol by name, or ``DATASET:ACTION/PRIVACY`` for one's own dataset (a folder, or a CSV file) and two tasks.

    Raises:
        UserError: an unknown name, or one task that is to be both kept and hidden.
    """
    dataset, mark, tasks = name.rpartition(":")
    if mark and tasks.count("/") == 1:
        action, privacy = tasks.split("/")
        if action == privacy:
            raise UserError(f"{action!r} cannot be both the action to keep and the privacy to hide; name two tasks")
        return known(Role(dataset, action), Role(dataset, privacy))
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, [*PROTOCOLS, "DATASET:ACTION/PRIVACY"])
    return PROTOCOLS[name]


def is_own(dataset: str) -> bool:
    """Whether a dataset is named by its path, and so not one that a profile prepares."""
    return os.sep in dataset or dataset.endswith(".csv")


MARKED = "+persons"
LOOKED_AT = 65_536  # bytes at either end of a file, for its dataset's fingerprint


def absolute(name: str) -> str:
    """A protocol's name for a process in another folder, as a notebook's: the path of one's own data whole."""
    dataset, _, tasks = name.rpartition(":")
    return f"{Path(dataset).resolve()}:{tasks}" if is_own(dataset) else name


def dataset_folder(profile: Profile, name: str) -> Path:
    """Where a dataset of a profile lies once prepared; a name that is a path is that path."""
    return Path(name).resolve() if is_own(name) else data_folder(profile) / name


def data_label(profile: Profile, name: str) -> str:
    """A dataset's name in records: the same on every machine."""
    label = Path(name).stem
    return f"mini-{profile.scale}-draw{profile.draw}/{label}" if profile.source == "mini" and label == name else label


def data_spec(profile: Profile, name: str, leave_out: tuple[str, str] | None = None) -> DataSpec:
    """A prepared dataset as part of a spec.

    Where training is forbidden, the committed catalogue gives the fingerprint of data that are not here, or half made,
    so that a table can be shown from its records without them. Data that are here speak for themselves: other versions
    may have encoded them otherwise, and then committed numbers are none of theirs.

    Raises:
        MissingError: not prepared.
    """
    folder, label = dataset_folder(profile, name), data_label(profile, name)
    if os.environ.get("SPACT_READ_ONLY") == "1" and not _is_here(profile, name, folder):
        catalogue = NOTEBOOKS / "records" / "data.json"
        listed = read_json(catalogue) if catalogue.exists() else {}
        if label in listed:
            return DataSpec(name=label, folder=folder, fingerprint=listed[label], leave_out=leave_out)
    if not folder.exists():
        if folder == Path(name).resolve():
            raise MissingError(f"there is no dataset at {folder}; give a CSV file or a folder with manifest.csv")
        how = how_to_prepare(profile, name)
        raise MissingError(f"dataset {name!r} is not prepared ({folder} does not exist); run `{how}`")
    return DataSpec(name=label, folder=folder, fingerprint=fingerprint(folder, own=is_own(name)), leave_out=leave_out)


def _is_here(profile: Profile, name: str, folder: Path) -> bool:
    if is_own(name):
        return folder.exists()
    drawn = profile.source != "mini" or (folder.parent / "drawn.json").exists()  # written last, as manifest.csv is
    return drawn and (folder / "manifest.csv").exists()


def fingerprint(folder: Path, own: bool) -> str:
    """Of rows, labels and the files' sizes; of one's ``own`` files, which nobody else has counted, also of how they
    begin and end: other files under the same names are another dataset. Where the table marks persons it ends in
    ``MARKED``: who said where they are is then known where neither table nor videos are at hand."""
    table = folder / "manifest.csv" if folder.is_dir() else folder
    return _fingerprint(folder, own, table.stat().st_mtime_ns if table.exists() else 0)


@cache
def _fingerprint(folder: Path, own: bool, changed: int) -> str:
    # ``changed`` is only part of the key: a table edited beside a running notebook is read again.
    manifest = read_manifest(folder)
    digest = hashlib.sha256(manifest.fingerprint.encode())
    used = set(manifest.rows.loc[manifest.rows["split"] != "unused", "path"]) if own else set()
    for path in manifest.rows["path"].unique():
        file = manifest.root / path
        size = file.stat().st_size if file.exists() else -1
        digest.update(f"{size},".encode())
        if path in used and size > 0 and file.is_file():
            with open(file, "rb") as content:
                digest.update(content.read(LOOKED_AT))
                content.seek(max(0, size - LOOKED_AT))
                digest.update(content.read(LOOKED_AT))
    return digest.hexdigest() + MARKED * manifest.marks_persons
