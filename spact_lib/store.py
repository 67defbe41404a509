"""The experiment store: spec -> artifact, made once, resumed when interrupted, reused everywhere.

``store.run(spec)`` returns the artifact of a spec. A finished one is loaded; an interrupted one continues; two
processes that want the same one wait for each other under a file lock. ``record.json`` is written last: a folder
that has it is complete. Of many processes that train together (``distributed``), the main one finds, locks and writes.
How each kind of spec is made: ``experiments``.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import load_model
from torch import nn

from spact_lib.branches import Branch, build_branch
from spact_lib.config import (
    AnonymizerSpec,
    BaselineSpec,
    DataSpec,
    FramesSpec,
    InitAnonymizerSpec,
    InitPrivacySpec,
    LearnedSpec,
    ReconstructionSpec,
    ReleaseSpec,
    Spec,
)
from spact_lib.data import FrameSource, VideoFrames, loader_workers
from spact_lib.device import environment, pick_device
from spact_lib.distributed import on_main
from spact_lib.errors import MissingError, UserError
from spact_lib.files import disk_errors, read_json, remove_leftovers, write_json
from spact_lib.manifest import Manifest, read_manifest, refuse_missing
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.own_code import TABLES, own_code
from spact_lib.packed import PackedFrames
from spact_lib.results import find_committed

# Kinds of specs that cost minutes.
TRAINED = ("init_f_A", "init_f_T", "init_f_B", "anonymizer", "noise_features", "reconstruction", "target", "test")
CODE = "code.json"  # in the folder of what code of one's own has made, or begins to make: ``own_code``


class NotTrainedError(MissingError):
    """Read-only and there is no record of this spec."""


class BusyError(UserError):
    """Another process is making this, and this store does not wait."""


@dataclass(frozen=True)
class Artifact:
    """What a spec made: its record, and its folder (None when only the committed record is at hand)."""

    record: dict
    folder: Path | None

    @property
    def metrics(self) -> dict:
        return self.record["metrics"]


@cache
def _manifest(folder: Path, leave_out: tuple[str, str] | None, fingerprint: str) -> Manifest:
    # ``fingerprint`` is only part of the key: a table edited beside a running notebook is read again.
    manifest = read_manifest(folder)
    return manifest.leave_out(*leave_out) if leave_out else manifest


# A quarter of a million files are not asked for again by every spec that reads them.
_refuse_missing_once = cache(refuse_missing)


def trained_parts(spec: Spec) -> dict[str, Spec]:
    """``spec`` and all specs within it that are trained, by key."""
    found = {spec.key(): spec} if spec.kind in TRAINED else {}
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, Spec):
            found |= trained_parts(value)
    return found


def manifest_of(data: DataSpec) -> Manifest:
    """The manifest that a spec speaks of, with its fold."""
    return _manifest(data.folder, data.leave_out, data.fingerprint)


class Store:
    """The experiment store in a folder.

    Args:
        root: of the store.
        decode_once: keep decoded raw frames as pixels; else videos are decoded at every use. Changes no result.
        workers: of the data loaders, at most; fewer where the machine has fewer cores. Changes no result.
        read_only: never train; use what is finished, else the committed records (environment: SPACT_READ_ONLY=1), but
            none of what has been learned from a part that was made anew since.
    """

    def __init__(self, root: Path, *, decode_once: bool = True, workers: int = 0, read_only: bool | None = None):
        self.root, self.decode_once, self.workers = root, decode_once, loader_workers(workers)
        self.read_only = os.environ.get("SPACT_READ_ONLY") == "1" if read_only is None else read_only
        self.wait = True  # for what another process is making; else BusyError
        self.used: dict[str, dict] = {}  # records of every spec asked for, for the notebook to keep

    def reading(self, root: Path | None = None) -> "Store":
        """The same store (or that in ``root``), which trains nothing and has been asked for nothing yet."""
        return Store(root or self.root, decode_once=self.decode_once, read_only=True)

    def folder(self, spec: Spec) -> Path:
        return self.root / spec.kind / spec.key()

    def run(self, spec: Spec) -> Artifact:
        """The artifact of ``spec``: loaded, continued or made.

        Raises:
            NotTrainedError: it is not there and this store is read-only.
            BusyError: another process is making it, and ``wait`` is false.
            UserError: the disk is full or read-only; or other code of one's own made it (``own_code``).
        """
        with disk_errors(self.folder(spec)):
            return self._run(spec)

    def _run(self, spec: Spec) -> Artifact:
        artifact = on_main(lambda: self._find(spec))
        if artifact is None:
            folder = self.folder(spec)
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{folder}.lock", timeout=-1 if self.wait else 0)
            try:
                on_main(lambda: bool(lock.acquire()))
                artifact = on_main(lambda: self._find(spec)) or self._make(spec, folder)
            except Timeout as error:
                raise BusyError(f"{spec.kind} {spec.key()} is being made by another process") from error
            finally:
                lock.release()
        self.used[spec.key()] = artifact.record
        return artifact

    def _find(self, spec: Spec) -> Artifact | None:
        folder = self.folder(spec)
        if (folder / "record.json").exists():
            _refuse_other_code(spec, folder)
            if not self.read_only:
                with suppress(OSError):  # of a read-only disk
                    (folder / "checkpoint.pt").unlink(missing_ok=True)  # three times the weights, nothing to continue
            return Artifact(read_json(folder / "record.json"), folder)
        if not self.read_only:
            return None
        record = find_committed(spec)
        if record is None:
            raise NotTrainedError(
                f"no record of {spec.kind} {spec.key()} in {self.root} or notebooks/records, and training is forbidden "
                "(SPACT_READ_ONLY=1); unset it, or run `make reproduce`"
            )
        if (part := self._made_anew(spec, record)) is not None:
            raise NotTrainedError(
                f"the committed record of {spec.kind} {spec.key()} is of another {part.kind} {part.key()} than the one "
                "that was made since; unset SPACT_READ_ONLY to make it anew, too"
            )
        return Artifact(record, None)

    def _made_anew(self, spec: Spec, record: dict) -> Spec | None:
        """The part of ``spec``, if any, that is not the one of which a committed ``record`` speaks: it is younger, or
        this store has made its own. Its weights are others, where another machine or version has made them."""
        for key, part in trained_parts(spec).items():
            if key != spec.key():
                path, committed = self.folder(part) / "record.json", find_committed(part)
                here = read_json(path) if path.exists() else committed
                if here is not None and (here["made"] > record["made"] or here["made"] != (committed or here)["made"]):
                    return part
        return None

    def _make(self, spec: Spec, folder: Path) -> Artifact:
        from spact_lib import experiments  # here, because what is made looks into the store for what it is made from

        folder.mkdir(exist_ok=True)
        code = on_main(lambda: _refuse_other_code(spec, folder))
        on_main(lambda: remove_leftovers(folder))  # a checkpoint may be gigabytes
        if code:
            on_main(lambda: write_json(folder / CODE, code))
        on_main(lambda: write_json(folder / "spec.json", spec.model_dump(mode="json")))
        began = time.monotonic()
        metrics = experiments.BUILDERS[type(spec)](spec, folder, self)
        seconds, waited = metrics.pop("seconds", time.monotonic() - began), metrics.pop("waited", None)
        elsewhere = metrics.pop("elsewhere", [])
        record = {
            "kind": spec.kind,
            "key": spec.key(),
            "metrics": metrics,
            "seconds": round(seconds, 1),
            **({} if waited is None else {"waited": round(waited, 1)}),  # for data; of the seconds
            "environment": environment(),
            **({"earlier_environments": elsewhere} if elsewhere else {}),  # of a run continued with another commit, ...
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "spec": spec.model_dump(mode="json"),
        }

        def finish() -> Artifact:
            write_json(folder / "record.json", record)
            return self._find(spec)

        return on_main(finish)

    def files(self, spec: Spec) -> Path:
        """The folder of ``spec`` with the files it made.

        Raises:
            NotTrainedError: this store is read-only and has at most the committed record.
        """
        folder = self.run(spec).folder
        if folder is None:
            raise NotTrainedError(
                f"only the record of {spec.kind} {spec.key()} is committed, not its files, and training is forbidden "
                "(SPACT_READ_ONLY=1); unset it, or run `make reproduce`"
            )
        return folder

    def frames(self, spec: FramesSpec) -> tuple[FrameSource, Manifest]:
        """Raw frames of a dataset, and its manifest."""
        manifest = manifest_of(spec.data)
        if not self.decode_once:
            _refuse_missing_once(manifest)
            return VideoFrames(manifest, spec.stored_side), manifest
        return PackedFrames(self.files(spec)), manifest

    def raw(self, data: DataSpec, stored_side: int) -> tuple[FrameSource, Manifest]:
        """Raw frames of a dataset, and its manifest with its fold."""
        return self.frames(FramesSpec(data=unfolded(data), stored_side=stored_side))[0], manifest_of(data)

    def release(self, spec: ReleaseSpec) -> FrameSource:
        """A dataset through a method. Raw data are not written a second time."""
        if spec.method == BaselineSpec(name="raw") and spec.channel != "h264":
            return self.frames(spec.frames)[0]
        return PackedFrames(self.files(spec))

    def load_anonymizer(self, spec: LearnedSpec) -> Anonymizer:
        """f_A of a finished artifact, on the device of this machine, in eval mode (noise is not part of it)."""
        f_A = Anonymizer(spec.width if isinstance(spec, InitAnonymizerSpec) else spec.f_A.width)
        load_model(f_A, self.files(spec) / "f_A.safetensors")
        return f_A.to(pick_device()).eval()

    def load_privacy(self, spec: InitPrivacySpec | AnonymizerSpec) -> nn.Module:
        """f_B before (``InitPrivacySpec``) or after the game, on the device of this machine, in eval mode."""
        f_B = branch_of(spec if isinstance(spec, InitPrivacySpec) else spec.f_B).build()
        load_model(f_B, self.files(spec) / "f_B.safetensors")
        return f_B.to(pick_device()).eval()

    def load_inverse(self, spec: ReconstructionSpec) -> Anonymizer:
        """g of a finished reconstruction attack, on the device of this machine, in eval mode."""
        g = Anonymizer(spec.width)
        load_model(g, self.files(spec) / "g.safetensors")
        return g.to(pick_device()).eval()


def branch_of(spec: InitPrivacySpec) -> Branch:
    """Network and loss of an f_B, with as many outputs as its labels have classes."""
    task = spec.branch.task
    return build_branch(spec.branch, manifest_of(spec.f_A.privacy).task(task).n_classes if task else 0)


def unfolded(data: DataSpec) -> DataSpec:
    """The same frames serve all folds of a dataset."""
    return data.model_copy(update={"leave_out": None})


def _refuse_other_code(spec: Spec, folder: Path) -> dict[str, str]:
    """Refuse a folder that other code of one's own has made, or begun; else return the code (``own_code``)."""
    code = own_code(spec)
    before = read_json(folder / CODE) if (folder / CODE).exists() else {}
    for name in sorted(before.keys() | code.keys()):
        # A name without code here is the library's, or one that this process does not know and so cannot judge.
        ours = name in code or any(name in table for table in TABLES)
        if (folder / "spec.json").exists() and ours and before.get(name) != code.get(name):
            raise UserError(
                f"the code of {name!r} is not the one that made, or began to make, {folder}: delete that folder, or "
                "give the new code another name"
            )
    return code
