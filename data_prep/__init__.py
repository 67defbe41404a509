"""One module per dataset: official files on disk -> manifest; ``mini`` draws the built-in ones in the same layouts."""

import logging
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from data_prep.archives import Absent
from data_prep.sources import how_to_get
from spact_lib.errors import UserError, unknown_name

if TYPE_CHECKING:
    from spact_lib.manifest import Manifest

log = logging.getLogger(__name__)

DATASETS = ("ucf101", "hmdb51", "pa_hmdb51", "vispr", "phvu")  # those of the paper; the mini datasets stand for them
# Name -> module and function that reads it.
READERS = {name: (name, "prepare") for name in (*DATASETS, "custom")} | {
    "vp_ucf101": ("vp", "prepare_ucf101"),
    "vp_hmdb51": ("vp", "prepare_hmdb51"),
}


def prepare(name: str, root: str | Path, out: str | Path, **options) -> Path:
    """``read``, then ``write``: official files under ``root`` become a folder in ``out``; returns its manifest.csv."""
    return write(name, read(name, root, **options), out)


def read(name: str, root: str | Path, **options) -> "Manifest":
    """The manifest of the official files of dataset ``name`` under ``root``. The media need not be there.

    ``options`` are the reader's keywords, such as ``split``.

    Raises UserError for an unknown name or option, and naming file and line where the official files cannot be read.
    """
    if name not in READERS:
        raise unknown_name("dataset", name, [*READERS, "mini"])
    reader = getattr(*_reader(name))
    legal = [parameter for parameter in signature(reader).parameters if parameter != "root"]
    for option in options:
        if option not in legal:
            known = ", ".join(map(flag, legal)) or "none"
            raise UserError(f"{name} has no option {flag(option)}; its options: {known}")
    try:
        manifest = reader(Path(root), **options)
    except Absent as error:
        raise UserError("; ".join(filter(None, (str(error), how_to_get(name))))) from error
    if not _any_media(manifest):
        log.warning(
            "%s: no file of the %s rows is under %s; prepared from the annotations alone, to train put the media there",
            *(manifest.name, f"{len(manifest):,}", manifest.root),
        )
    return manifest


def write(name: str, manifest: "Manifest", out: str | Path) -> Path:
    """Write what ``read`` has read of dataset ``name`` to a folder in ``out``; returns its manifest.csv.

    The folder is called as the manifest: as the dataset, and after options that make another dataset of it
    (``ucf101_split2``, ``hmdb51_without_pa``). The reader's module may have functions ``beside``, manifest -> file name
    -> table (written into that folder), and ``derived``, manifest -> manifests (written to folders of their own).

    Raises UserError where ``manifest.check`` finds a fault; what lies in ``out`` is then as it was.
    """
    # Imported here: the processes that draw the mini datasets need no tables.
    from spact_lib.manifest import check, write_manifest

    module, _ = _reader(name)
    others = derived(name, manifest)
    for each in (manifest, *others) if others else ():  # before anything is written
        check(each, each.name)
    for each in others:
        write_manifest(each, Path(out) / each.name)
    beside = module.beside(manifest) if hasattr(module, "beside") else {}
    return write_manifest(manifest, Path(out) / manifest.name, beside)


def derived(name: str, manifest: "Manifest") -> list["Manifest"]:
    """What ``write`` writes with the manifest of dataset ``name``, to folders of their own."""
    module, _ = _reader(name)
    return module.derived(manifest) if hasattr(module, "derived") else []


def _reader(name: str) -> tuple[ModuleType, str]:
    module, function = READERS[name]
    return import_module(f"data_prep.{module}"), function


def flag(option: str) -> str:
    """A reader's keyword as the command line spells it."""
    return f"--{option.replace('_', '-')}"


def _any_media(manifest: "Manifest") -> bool:
    # By folder first: asking for each of 261,224 files takes minutes on a network disk.
    paths = manifest.rows["path"].tolist()
    here = {folder for folder in {p.rpartition("/")[0] for p in paths} if (manifest.root / folder).is_dir()}
    return any((manifest.root / path).is_file() for path in paths if path.rpartition("/")[0] in here)
