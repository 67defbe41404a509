"""``spact doctor``: packages, machine, data and notebooks of a profile, and what is still to do."""

import shutil
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from spact_lib.paths import REPOSITORY, committed_notebooks, data_folder, prepared, runs_root


def examine(profile_name: str) -> list[str]:
    """Print the state of everything that a profile needs; return the commands still to be given."""
    if to_do := _packages():
        return to_do  # the rest cannot be imported reliably

    from spact_lib.config import profile as named
    from spact_lib.device import environment
    from spact_lib.notebooks import needs

    profile = named(profile_name)
    print("machine: " + ", ".join(f"{key} {value}" for key, value in environment().items()))
    disk = next(path for path in (runs_root(), *runs_root().parents) if path.exists())
    print(f"store: {runs_root()}, {shutil.disk_usage(disk).free / 1e9:.0f} GB free")
    folder = data_folder(profile)
    have = prepared(folder)
    nothing = "none yet; `spact reproduce` draws them" if profile.source == "mini" else "none yet"
    print(f"data of profile {profile.name} in {folder}: {', '.join(have) or nothing}")
    for path in committed_notebooks():
        missing = [] if profile.source == "mini" else [name for name in needs(path) if name not in have]
        to_do += [f"spact prepare {name} --root DIR" for name in missing]
        has_run = (runs_root() / "notebooks" / profile.name / path.name).exists()
        state = f"needs {', '.join(missing)}" if missing else "has run" if has_run else "can run"
        print(f"{path.name}: {state}")
    return list(dict.fromkeys(to_do))


def _packages() -> list[str]:
    """Print how the installed packages differ from pins.txt; return the repairs that are needed."""
    lines = (REPOSITORY / "pins.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    unfit, differing = [], []
    for requirement in map(Requirement, requires("spact") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            unfit.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            unfit.append(f"{requirement} is needed, {found} installed")
        elif requirement.name not in pins:  # the metadata of an older checkout
            unfit.append(f"{requirement.name} is asked for but not pinned; the installed spact is another version")
        elif found != pins[requirement.name]:
            differing.append(f"{requirement.name} {found} (pinned {pins[requirement.name]})")
    if not unfit:
        try:
            import torchvision  # noqa: F401
        except Exception as error:  # built for another torch, it fails on whatever it meets first
            unfit.append(f"torchvision does not fit this torch ({error})")
    print("packages: " + ("; ".join(unfit + differing) or "as pinned in pins.txt"))
    return ["python -m pip install -c pins.txt -e '.[dev]'"] if unfit else []
