"""One module per dataset: official files on disk -> manifest; ``mini`` draws the built-in ones in the same layouts."""

import logging
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Read the official files of dataset ``name`` under ``root``; write a folder in ``out``; returns its manifest.csv.

    The folder is called as the dataset, and after options that make another dataset of it: ``ucf101_split2``,
    ``hmdb51_without_pa``. ``options`` are the reader's keywords, such as ``split``. The media need not be there.
    A reader's module may have a function ``beside``, manifest -> file name -> table: they are written there too.

    Raises UserError for an unknown name or option, and naming file and line where the official files cannot be read;
    what lies in ``out`` is then as it was.
    """
    if name not in READERS:
        raise unknown_name("dataset", name, [*READERS, "mini"])
    # Imported here: the processes that draw the mini datasets need no tables.
    from spact_lib.files import atomic_path
    from spact_lib.manifest import check, write_manifest

    module_name, function = READERS[name]
    module = import_module(f"data_prep.{module_name}")
    reader = getattr(module, function)
    legal = [parameter for parameter in signature(reader).parameters if parameter != "root"]
    for option in options:
        if option not in legal:
            known = ", ".join(map(flag, legal)) or "none"
            raise UserError(f"{name} has no option {flag(option)}; its options: {known}")
    manifest = reader(Path(root), **options)
    check(manifest, manifest.name)
    if not _any_media(manifest):
        log.warning(
            "%s: no file of the %s rows is under %s; prepared from the annotations alone, to train put the media there",
            *(manifest.name, f"{len(manifest):,}", manifest.root),
        )
    folder = Path(out) / manifest.name
    for file, table in (module.beside(manifest) if hasattr(module, "beside") else {}).items():
        with atomic_path(folder / file) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    return write_manifest(manifest, folder)


def flag(option: str) -> str:
    """A reader's keyword as the command line spells it."""
    return f"--{option.replace('_', '-')}"


def _any_media(manifest: "Manifest") -> bool:
    # By folder first: asking for each of 261,224 files takes minutes on a network disk.
    paths = manifest.rows["path"].tolist()
    here = {folder for folder in {p.rpartition("/")[0] for p in paths} if (manifest.root / folder).is_dir()}
    return any((manifest.root / path).is_file() for path in paths if path.rpartition("/")[0] in here)
