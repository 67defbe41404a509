"""One's own dataset: a CSV table as ``spact_lib.manifest`` describes it, checked and written as a manifest folder."""

from pathlib import Path

from data_prep import READERS
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, read_manifest


def prepare(root: Path) -> Manifest:
    """The dataset in the CSV file ``root``; it is called as the file. Paths in it are relative to the CSV's folder.

    Columns: ``path``, ``split`` (train, val, test, unused), a label column ``NAME:single`` or ``NAME:multi`` at least.
    """
    if root.is_dir() and not (root / "manifest.csv").exists():
        raise UserError(f"{root} is a folder; name your table: --root {root / 'mine.csv'}")
    manifest = read_manifest(root)
    if manifest.name in (*READERS, "mini"):
        raise UserError(f"{root} would be called {manifest.name!r}, as an official dataset; rename the file")
    return manifest
