"""One module per dataset: official files on disk -> manifest; ``mini`` draws the built-in ones in the same layouts."""

from importlib import import_module
from pathlib import Path

from spact_lib.errors import unknown_name

DATASETS = ("ucf101", "hmdb51", "pa_hmdb51", "vispr", "phvu")


def prepare(name: str, root: str | Path, out: str | Path) -> Path:
    """Read the official files of dataset ``name`` under ``root``; write ``out/name``; returns its manifest.csv.

    Raises UserError for an unknown name, and naming file and line where the official files cannot be read.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    # Imported here: the processes that draw the mini datasets need no tables.
    from spact_lib.manifest import write_manifest

    manifest = import_module(f"data_prep.{name}").prepare(Path(root))
    return write_manifest(manifest, Path(out) / name)
