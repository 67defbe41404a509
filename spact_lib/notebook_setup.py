"""What every notebook does first: its parameters checked, the built-in data drawn, its study opened."""

import os
from collections.abc import Iterable

from spact_lib.config import Profile
from spact_lib.config import profile as named_profile
from spact_lib.device import environment
from spact_lib.errors import UserError
from spact_lib.notebooks import in_name
from spact_lib.paths import mini_folder
from spact_lib.protocols import is_own
from spact_lib.protocols import protocol as named_protocol
from spact_lib.study import Study, open_study
from spact_lib.tables import replicate


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
    for name, value in (("DRAW", draw), ("SEED", seed)):
        if type(value) is not int or value < 0:
            raise UserError(f"{name} = {value!r}: give an integer from 0 up")
    changes = {"target_seeds": tuple(target_seeds)} if target_seeds else {}
    settings = read_profile(profile, **changes)  # a wrong name or value is told before minutes of drawing
    roles = named_protocol(protocol).roles
    if not all(is_own(role.dataset) for role in roles):
        draw_data(settings.name, draw)
    study = open_study(settings.name, draw=draw, seed=seed, protocol=protocol, **changes)
    print(f"profile {study.profile.name}, protocol {protocol}, {replicate(study)}")
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    if study.store.read_only:
        print("read-only: everything below comes from finished or committed records, nothing is trained")
    return study


def read_profile(profile: str, **changes: object) -> Profile:
    """A notebook's profile, or the one that the environment variable SPACT_PROFILE names in its place.

    Raises:
        UserError: it is no name, or an unknown one.
    """
    if not isinstance(profile, str):
        raise UserError(f"PROFILE = {profile!r}: give a name")
    return named_profile(os.environ.get("SPACT_PROFILE", profile), **changes)


def suffix(study: Study, protocol: str = "ucf101_vispr1", default_protocol: str = "ucf101_vispr1") -> str:
    """What is added to the names of a run's tables, figures and records: nothing for the default run of a profile.

    So a run with another draw, seed, protocol or other target seeds does not overwrite what is to be committed, nor
    does one of ``spact run`` with another parameter (``notebooks.run_digest``).

    Args:
        protocol: of the run.
        default_protocol: of the notebook.
    """
    own, default = study.profile, named_profile(study.profile.name)
    parts = {
        f"draw{own.draw}": own.draw != default.draw,
        f"seed{study.seed}": study.seed != 0,
        in_name(protocol, "A-Za-z0-9_"): protocol != default_protocol,
        "targets" + "_".join(map(str, own.target_seeds)): own.target_seeds != default.target_seeds,
        (digest := os.environ.get("SPACT_RUN_DIGEST", "")): bool(digest),
    }
    return "".join(f"-{part}" for part, differs in parts.items() if differs)


def draw_data(profile: str, draw: int) -> None:
    """Draw the built-in datasets where a profile uses them; returns at once when they are there or not to be made."""
    settings = named_profile(profile)
    if settings.source != "mini" or os.environ.get("SPACT_READ_ONLY") == "1":
        return
    # Imported here: data_prep is needed by nothing else in the library.
    from data_prep import mini

    folder = mini_folder(settings.scale, draw)
    if not mini.is_drawn(folder, draw, settings.scale):
        took = ": about two minutes on two cores" if settings.scale == "mini" else ""
        print(f"drawing the built-in data, draw {draw}{took}", flush=True)
    mini.draw(folder, draw=draw, scale=settings.scale)
