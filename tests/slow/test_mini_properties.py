"""What makes the built-in data worth measuring on: properties that only a trained network can show.

Measured on the drawing that ``test_mini.FROZEN`` fixes (draw 0, the target networks and schedules of the mini profile,
test splits of 1,000 items), in the experiment store: what is trained stays trained. Run with: make slow
"""

import pytest

from data_prep import mini
from spact_lib import config
from spact_lib.config import BaselineSpec, FramesSpec, ReleaseSpec, TargetSpec
from spact_lib.paths import mini_folder, runs_root
from spact_lib.protocols import data_spec
from spact_lib.store import Store

MINI = config.profile("mini", draw=0)
CLIPS, IMAGES = MINI.action_view, MINI.privacy_view


@pytest.fixture(scope="module")
def store() -> Store:
    mini.draw(mini_folder("mini", 0), 0, "mini")
    return Store(runs_root() / "store", read_only=False)


def measure(store: Store, dataset: str, task: str, *, clips: bool = False, method: str = "raw", size: int = 32) -> dict:
    """Metrics of a fresh target network on the released test split."""
    data = data_spec(MINI, dataset)
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


def test_actions_are_read_from_motion_and_not_saturated(store: Store) -> None:
    raw = measure(store, "ucf101", "action", clips=True)["top1"]
    assert 80 <= raw <= 97
    coarse = measure(store, "ucf101", "action", clips=True, method="downsample_4x", size=8)["top1"]
    assert coarse <= raw - 10


@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51"])
def test_a_frame_does_not_tell_the_action(store: Store, dataset: str) -> None:
    metrics = measure(store, dataset, "action")
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
def test_attributes_are_read_from_a_frame(store: Store, dataset: str, task: str) -> None:
    metrics = measure(store, dataset, task)
    assert metrics["n_test"] >= 1000
    assert (metrics["cmap"] - metrics["cmap_chance"]) / (100 - metrics["cmap_chance"]) >= 0.6
    assert metrics["cmap"] <= 97
