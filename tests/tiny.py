"""The real experiments on a dozen tiny clips (``tiny_csv``): the smallest study, and what its parts are compared by."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spact_lib.attacks import inverse
from spact_lib.config import FramesSpec, Profile, Schedule, Spec, View, profile
from spact_lib.methods import METHODS
from spact_lib.protocols import protocol
from spact_lib.store import Artifact, Store, unfolded
from spact_lib.study import Study

VIEW = View(stored_side=16, size=16, n_frames=4, stride=1, crop=(0.8, 1.0), test_crop=1.0, flip=0.0, test_clips=2)


def steps(n: int, batch: int = 4) -> Schedule:
    return Schedule(steps=n, batch=batch, lr=1e-3)


TINY = profile(
    "smoke",
    action_view=VIEW,
    privacy_view=VIEW.frames(),
    width=2,
    init_f_A=steps(3),
    init_f_T=steps(3),
    init_f_B=steps(3),
    minimax=steps(3, batch=8),  # more than there are training clips
    privacy_batch=3,
    target_action=steps(4),
    target_privacy=steps(4),
    target_seeds=(0, 1),
)

# A user's clips have no boxes of persons.
HERE = {name: method for name, method in METHODS.items() if method != "obfuscation"}


@contextmanager
def one_cpu_thread() -> Iterator[None]:
    """Within: the same numbers on every machine, and children may be forked."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPACT_DEVICE", "cpu")
        yield
    torch.set_num_threads(threads)


def study(csv: Path, root: Path, profile: Profile = TINY, **options: object) -> Study:
    return Study(profile, protocol(f"{csv}:action/attributes"), Store(root, read_only=False, **options))


def targets(one: Study, name: str) -> dict[str, list[list[dict]]]:
    """Metrics of a table row: target -> for every target seed, those of its columns."""
    method, seeds = one.method(name), one.profile.target_seeds
    return {target: [one.scores(method, target, seed) for seed in seeds] for target in one.protocol.targets}


def specs(one: Study) -> dict[str, Spec]:
    """A spec of every kind that training or decoding makes."""
    spact = one.anonymizer("spact", 0.5)
    return {
        "frames": FramesSpec(data=unfolded(spact.f_A.action), stored_side=16),
        "f_A": spact.f_A,
        "f_T": spact.f_T,
        "f_B": spact.f_B,
        "supervised f_B": one.anonymizer("supervised", 0.5).f_B,
        "spact": spact,
        "moco f_B": one.anonymizer("moco", 0.5).f_B,
        "moco": one.anonymizer("moco", 0.5),
        "tedspad": one.anonymizer("tedspad", 0.5),
        "plus": one.anonymizer("spact_plus", 0.5),
        "stills": one.anonymizer("spact_stills", 0.5),
        "noise": one.noise_features(0.5),
        "release": one.release(spact, one.protocol.action),
        "float release": one.release(spact, one.protocol.action).model_copy(update={"channel": "float"}),
        "h264 release": one.release(spact, one.protocol.action).model_copy(update={"channel": "h264"}),
        "f'_T": one.target_spec(spact, "action"),
        "f'_B": one.target_spec(spact, "privacy"),
        "inverse": inverse(one, spact, one.protocol.privacy),
        "test": one.score_spec(spact, "privacy", tested=one.method("raw")),
    }


def outcome(artifact: Artifact) -> dict[str, object]:
    """Everything that a spec made, bit for bit; of the record what is no time."""
    found = {
        path.name: path.read_bytes()
        for path in artifact.folder.iterdir()
        if path.name not in ("record.json", "checkpoint.pt") and not path.name.startswith(".")
    }
    kept = ("kind", "key", "metrics", "spec", "environment")
    return found | {"record": json.dumps({name: artifact.record[name] for name in kept})}


def without(one: Study, spec: Spec, root: Path) -> Study:
    """A study whose store has everything but one artifact; links, as the store replaces files and changes none."""
    shutil.copytree(one.store.root, root, copy_function=os.link)
    shutil.rmtree(root / spec.kind / spec.key())
    return replace(one, store=Store(root, read_only=False))
