"""Where things lie: the repository, its notebooks, and the store of everything that a run produces."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from spact_lib.plain import plain

if TYPE_CHECKING:
    from spact_lib.config import Profile

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"


def runs_root() -> Path:
    """The store: the folder named by the environment variable SPACT_RUNS, else ``runs`` in the repository.

    With SPACT_PLAIN=1 its subfolder ``plain``, so that the two kinds of results never mix.
    """
    root = Path(os.environ.get("SPACT_RUNS") or REPOSITORY / "runs").resolve()
    # Notebooks are handed this folder as SPACT_RUNS.
    return root / "plain" if plain() and root.name != "plain" else root


def mini_folder(scale: str, draw: int) -> Path:
    """Folder of one draw of the built-in data: a folder per dataset with its manifest, and ``official``."""
    return runs_root() / "data" / "mini" / f"{scale}-draw{draw}"


def official_folder() -> Path:
    """Where manifests of official datasets lie: the environment variable SPACT_DATA, else in the store."""
    return Path(os.environ.get("SPACT_DATA") or runs_root() / "data" / "official").resolve()


def data_folder(profile: "Profile") -> Path:
    """Where the prepared datasets of a profile lie, a folder with a manifest for each."""
    return mini_folder(profile.scale, profile.draw) if profile.source == "mini" else official_folder()


def prepared(folder: Path) -> list[str]:
    """Names of the datasets prepared in ``folder``."""
    return sorted(path.parent.name for path in folder.glob("*/manifest.csv"))


def committed_notebooks() -> list[Path]:
    """The notebooks in reading order."""
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
