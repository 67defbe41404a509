"""Where things lie: the repository, its notebooks, and the store of everything that a run produces."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"


def runs_root() -> Path:
    """The store: the folder named by the environment variable SPACT_RUNS, else ``runs`` in the repository."""
    return Path(os.environ.get("SPACT_RUNS") or REPOSITORY / "runs").resolve()


def mini_folder(scale: str, draw: int) -> Path:
    """Folder of one draw of the built-in data: a folder per dataset with its manifest, and ``official``."""
    return runs_root() / "data" / "mini" / f"{scale}-draw{draw}"
