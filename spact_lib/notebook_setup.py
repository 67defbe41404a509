"""What every notebook does first, and the frames that several of them show."""

import os
from collections.abc import Iterable

import numpy as np

from spact_lib.config import Method
from spact_lib.config import profile as named_profile
from spact_lib.device import environment
from spact_lib.errors import UserError
from spact_lib.experiments import manifest_of
from spact_lib.paths import mini_folder, runs_root
from spact_lib.protocols import Role
from spact_lib.study import Study, open_study


def open_notebook(
    profile: str, *, draw: int, seed: int, protocol: str = "ucf101_vispr1", target_seeds: Iterable[int] = ()
) -> Study:
    """Check the parameters, draw the built-in data where a profile uses them, say on what this runs.

    The environment variable SPACT_PROFILE takes the place of ``profile``: nbval cannot inject parameters.

    Args:
        target_seeds: of f'_T and f'_B; empty: the profile's own.

    Raises:
        UserError: a parameter of the wrong type, or an unknown name.
    """
    for name, value, kind in (("PROFILE", profile, str), ("DRAW", draw, int), ("SEED", seed, int)):
        if type(value) is not kind or (kind is int and value < 0):
            raise UserError(f"{name} = {value!r}: give {'a name' if kind is str else 'an integer from 0 up'}")
    profile = os.environ.get("SPACT_PROFILE", profile)
    draw_data(profile, draw)
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    study = open_study(profile, draw=draw, seed=seed, protocol=protocol, **changes)
    print(f"profile {study.profile.name}, protocol {protocol}, draw {study.profile.draw}, seed {seed}")
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    if study.store.read_only:
        print("read-only: everything below comes from finished or committed records, nothing is trained")
    return study


def draw_data(profile: str, draw: int) -> None:
    """Draw the built-in datasets where a profile uses them; returns at once when they are there or not to be made."""
    settings = named_profile(profile)
    if settings.source != "mini" or os.environ.get("SPACT_READ_ONLY") == "1":
        return
    # Imported here: data_prep is needed by nothing else in the library.
    from data_prep import mini

    mini.draw(mini_folder(settings.scale, draw), draw=draw, scale=settings.scale)


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as a committed notebook may show it: from the store's folder on, without the machine's part."""
    return os.path.relpath(path, runs_root().parent)


def test_items(study: Study, role: Role, n: int) -> np.ndarray:
    """``n`` rows spread over the test split of a role's dataset."""
    rows = np.flatnonzero(manifest_of(study.data(role)).rows["split"] == "test")
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)]


def released(
    study: Study, methods: dict[str, Method], role: Role, rows: Iterable[int], parts: Iterable[float] = (0.5,)
) -> dict[str, np.ndarray]:
    """Frames as each method releases them: name -> uint8 (rows * parts, h, w, 3).

    Args:
        rows: of the role's dataset.
        parts: moments of each row's video, 0 its first frame and 1 its last.
    """
    found = {}
    for name, method in methods.items():
        source = study.store.release(study.release(method, role))
        at = [(row, np.array([round(part * (source.n_frames(row) - 1))])) for row in rows for part in parts]
        found[name] = np.concatenate([source.read(row, index) for row, index in at])
    return found
