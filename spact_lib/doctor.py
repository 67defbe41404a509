"""``spact doctor``: packages, machine, data and notebooks of a profile, and what is still to do."""

import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from spact_lib.errors import UserError
from spact_lib.paths import REPOSITORY, committed_notebooks, data_folder, prepared, runs_root


def examine(profile_name: str) -> tuple[list[str], list[str]]:
    """Print the state of everything that a profile needs.

    Returns:
        What is still to be done before everything runs by default; and what then only ``--full`` asks for.
    """
    if to_do := _packages():
        return to_do, []  # the rest cannot be imported reliably
    for_full: list[str] = []

    from data_prep.sources import how_to_get
    from spact_lib.config import profile as named
    from spact_lib.notebooks import needs
    from spact_lib.protocols import how_to_prepare

    profile = named(profile_name)
    _machine()
    _weights(profile.boxes)
    folder = data_folder(profile)
    have = prepared(folder)
    nothing = "none yet; `spact reproduce` draws them" if profile.source == "mini" else "none yet"
    print(f"data of profile {profile.name} in {folder}:{'' if have else f' {nothing}'}")
    mend = {name: fault for name in have if (fault := _dataset(folder / name))}
    wanted = {path: (needs(path), needs(path, full=True)) for path in committed_notebooks()}
    asked = (name for each in wanted.values() for names in each for name in names)
    if profile.source == "mini":  # what is not there is drawn; what was drawn once is not looked at again
        mend = {name: f"delete {folder}, then: {how_to_prepare(profile, name)}" for name in mend}
        asked = ()
    for name in dict.fromkeys(name for name in asked if name not in have):
        print(f"  {name}: not prepared")
        mend[name] = "; ".join(filter(None, (how_to_prepare(profile, name), how_to_get(name))))
    for path, (names, full) in wanted.items():
        missing = [name for name in names if name in mend]
        further = [name for name in full if name in mend and name not in missing]
        to_do += [mend[name] for name in missing]
        for_full += [mend[name] for name in further]
        has_run = (runs_root() / "notebooks" / profile.name / path.name).exists()
        state = f"needs {', '.join(missing)}" if missing else "has run" if has_run else "can run"
        print(f"{path.name}: {state}")
        if further:
            print(f"  for all columns: needs {', '.join(further)}")
    to_do = list(dict.fromkeys(to_do))
    return to_do, [step for step in dict.fromkeys(for_full) if step not in to_do]


def _machine() -> None:
    from spact_lib.device import environment, pick_device
    from spact_lib.filework import cores

    found = {**environment(), "cores": cores()}
    if (device := pick_device()).type == "cuda":
        import torch

        found["GPU memory"] = f"{torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB"
    print("machine: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    disk = next(path for path in (runs_root(), *runs_root().parents) if path.exists())
    print(f"store: {runs_root()}, {shutil.disk_usage(disk).free / 1e9:.0f} GB free")


def _weights(boxes: str) -> None:
    """All networks start from scratch; the obfuscation rows may look for persons with a COCO detector."""
    if boxes != "coco":
        print("weights: none needed")
        return
    from spact_lib.obfuscation import detector_weights

    file = detector_weights()
    state = "there" if file.exists() else "downloaded when a blackened or blurred row is made first"
    print(f"weights: the person detector's, {file}: {state}")


def _dataset(folder: Path) -> str | None:
    """Print what is there of a prepared dataset; return what to do when it cannot be trained on."""
    from data_prep.sources import how_to_get, how_to_prepare
    from spact_lib.manifest import listed_splits, missing_files, read_manifest

    try:
        manifest = read_manifest(folder)
    except UserError as error:
        print(f"  {folder.name}: {error}")
        return how_to_prepare(folder.name)
    gone = len(missing_files(manifest))
    files = manifest.rows.loc[manifest.rows["split"] != "unused", "path"].nunique()
    state = "all there" if not gone else f"{gone:,} missing"
    listed = listed_splits(manifest)
    aside = int((listed != manifest.rows["split"]).sum())
    if aside:  # P-HVU's, when it was prepared
        state += f"; {aside:,} of {int((listed != 'unused').sum()):,} selected clips are not on disk, and set aside"
    name, steps = folder.name, []
    if name in _learned_from() and not (manifest.rows["split"] == "train").any():  # P-HVU's, perhaps
        state += "; no training rows"
        lacks = "clips" if (listed == "train").any() else "csv"
        again = f"get its training {lacks} and prepare again: `{how_to_prepare(name)}`"
        steps += [f"{name} has no training rows; {again}", how_to_get(name)]
    print(f"  {name}: {len(manifest):,} rows, {files:,} files in use, {state}")
    if gone:
        where = f"under {manifest.root.resolve()}"
        some = f"{gone:,} of {files:,} are missing {where}; spact report {folder} lists them"
        steps.append(
            f"put the files of {name} " + (f"{where}: none is there" if gone == files else f"in place: {some}")
        )
    return "; ".join(steps) or None


def _learned_from() -> set[str]:
    """Datasets whose training rows a protocol asks for."""
    from spact_lib.protocols import PROTOCOLS

    roles = ((p.action, p.privacy, *(target.learns for target in p.targets.values())) for p in PROTOCOLS.values())
    return {role.dataset for each in roles for role in each}


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
