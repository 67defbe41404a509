"""What makes the built-in data worth measuring on: properties that only a trained network can show.

Measured on the drawing that ``test_mini.FROZEN`` fixes; about 15 minutes on two cores (draw 0, the target networks
and schedules of the mini profile, test splits of 1,000 items). Run with: pytest -m slow tests/slow
"""

from pathlib import Path

import pytest

from data_prep import mini
from spact_lib import config
from spact_lib.config import BaselineSpec, DataSpec, FramesSpec, ReleaseSpec, TargetSpec
from spact_lib.experiments import Store
from spact_lib.protocols import fingerprint

MINI = config.profile("mini")
CLIPS, IMAGES = MINI.action_view, MINI.privacy_view


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return mini.draw(tmp_path_factory.mktemp("mini"), 0, "mini")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def measure(store: Store, folder: Path, task: str, *, clips: bool = False, method: str = "raw", size: int = 32) -> dict:
    """Metrics of a fresh target network on the released test split."""
    data = DataSpec(name=folder.name, folder=folder, fingerprint=fingerprint(folder))
    frames = FramesSpec(data=data, stored_side=CLIPS.stored_side)
    view = CLIPS if clips else IMAGES
    spec = TargetSpec(
        release=ReleaseSpec(method=BaselineSpec(name=method), frames=frames),
        data=data,
        task=task,
        network=MINI.target_f_T if clips else MINI.target_f_B,
        view=view.model_copy(update={"size": size}),
        schedule=MINI.target_action if clips else MINI.target_privacy,
        evaluations=MINI.evaluations,
        seed=0,
    )
    return store.run(spec).metrics


def test_actions_are_read_from_motion_and_not_saturated(store: Store, drawn: dict[str, Path]) -> None:
    raw = measure(store, drawn["ucf101"], "action", clips=True)["top1"]
    assert 80 <= raw <= 97
    coarse = measure(store, drawn["ucf101"], "action", clips=True, method="downsample_4x", size=8)["top1"]
    assert coarse <= raw - 10


@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51"])
def test_a_frame_does_not_tell_the_action(store: Store, drawn: dict[str, Path], dataset: str) -> None:
    metrics = measure(store, drawn[dataset], "action")
    assert metrics["top1"] <= metrics["top1_chance"] + 5


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        ("vispr", "vispr1"),
        ("vispr", "vispr2"),
        ("phvu", "object"),
        ("phvu", "scene"),
    ],
)
def test_attributes_are_read_from_a_frame(store: Store, drawn: dict[str, Path], dataset: str, task: str) -> None:
    metrics = measure(store, drawn[dataset], task)
    assert metrics["n_test"] >= 1000
    assert (metrics["cmap"] - metrics["cmap_chance"]) / (100 - metrics["cmap_chance"]) >= 0.6
    assert metrics["cmap"] <= 97
