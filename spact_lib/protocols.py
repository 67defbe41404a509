"""Which dataset plays which role (Sec. 4.1 to 4.3): data, not branches in code."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spact_lib.config import DataSpec, Profile
from spact_lib.errors import UserError, unknown_name
from spact_lib.manifest import read_manifest
from spact_lib.paths import NOTEBOOKS, data_folder


@dataclass(frozen=True)
class Role:
    """A task of a dataset."""

    dataset: str
    task: str


@dataclass(frozen=True)
class Protocol:
    """``action``, ``privacy`` teach f_A; the targets are trained and tested on ``target_action``, ``target_privacy``.

    Privacy labels reach only f'_B, and f_B of the supervised baseline. ``columns`` names the paper's columns for the
    two targets in ``reported.csv``; ``test_action``, ``test_privacy`` say where the targets are tested if not on the
    test rows of what they learn.
    """

    action: Role
    privacy: Role
    target_action: Role
    target_privacy: Role
    columns: tuple[str, str] = ("", "")
    test_action: Role | None = None
    test_privacy: Role | None = None

    @property
    def roles(self) -> tuple[Role, ...]:
        given = (self.action, self.privacy, self.target_action, self.target_privacy)
        return *given, *(role for role in (self.test_action, self.test_privacy) if role)


def known(action: Role, privacy: Role, columns: tuple[str, str] = ("", "")) -> Protocol:
    """Known actions and attributes: the targets learn what f_A was learned with (Sec. 4.1, 4.2)."""
    return Protocol(action, privacy, action, privacy, columns)


PROTOCOLS: dict[str, Protocol] = {
    "ucf101_vispr1": known(Role("ucf101", "action"), Role("vispr", "vispr1"), ("ucf101", "vispr1")),
}


def protocol(name: str) -> Protocol:
    """A protocol by name, or ``DATASET:ACTION/PRIVACY`` for one's own dataset (a folder, or a CSV file) and two tasks.

    Raises:
        UserError: an unknown name.
    """
    dataset, mark, tasks = name.rpartition(":")
    if mark and tasks.count("/") == 1:
        action, privacy = tasks.split("/")
        return known(Role(dataset, action), Role(dataset, privacy))
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, [*PROTOCOLS, "DATASET:ACTION/PRIVACY"])
    return PROTOCOLS[name]


def is_own(dataset: str) -> bool:
    """Whether a dataset is named by its path, and so not one that a profile prepares."""
    return os.sep in dataset or dataset.endswith(".csv")


def dataset_folder(profile: Profile, name: str) -> Path:
    """Where a dataset of a profile lies once prepared; a name that is a path is that path."""
    return Path(name).resolve() if is_own(name) else data_folder(profile) / name


def data_label(profile: Profile, name: str) -> str:
    """A dataset's name in records: the same on every machine."""
    label = Path(name).stem
    return f"mini-{profile.scale}-draw{profile.draw}/{label}" if profile.source == "mini" and label == name else label


def data_spec(profile: Profile, name: str, leave_out: tuple[str, str] | None = None) -> DataSpec:
    """A prepared dataset as part of a spec.

    Where training is forbidden and the data are not here, the committed catalogue gives the fingerprint, so that a
    table can be shown from its records without any data.

    Raises:
        UserError: not prepared.
    """
    folder, label = dataset_folder(profile, name), data_label(profile, name)
    if os.environ.get("SPACT_READ_ONLY") == "1":
        catalogue = NOTEBOOKS / "records" / "data.json"
        listed = json.loads(catalogue.read_text(encoding="utf-8")) if catalogue.exists() else {}
        if label in listed:
            return DataSpec(name=label, folder=folder, fingerprint=listed[label], leave_out=leave_out)
    if not folder.exists():
        if folder == Path(name).resolve():
            raise UserError(f"there is no dataset at {folder}; give a CSV file or a folder with manifest.csv")
        drawn = f"spact prepare mini --draw {profile.draw} --scale {profile.scale}"
        how = drawn if profile.source == "mini" else f"spact prepare {name} --root DIR"
        raise UserError(f"dataset {name!r} is not prepared ({folder} does not exist); run `{how}`")
    return DataSpec(name=label, folder=folder, fingerprint=fingerprint(folder), leave_out=leave_out)


def fingerprint(folder: Path) -> str:
    """Of rows, labels and the files' sizes: other files under the same names are another dataset."""
    table = folder / "manifest.csv" if folder.is_dir() else folder
    return _fingerprint(folder, table.stat().st_mtime_ns if table.exists() else 0)


@cache
def _fingerprint(folder: Path, changed: int) -> str:
    # ``changed`` is only part of the key: a table edited beside a running notebook is read again.
    manifest = read_manifest(folder)
    digest = hashlib.sha256(manifest.fingerprint.encode())
    for path in manifest.rows["path"].unique():
        file = manifest.root / path
        digest.update(str(file.stat().st_size if file.exists() else -1).encode() + b",")
    return digest.hexdigest()
