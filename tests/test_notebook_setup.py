"""What notebooks share: names of what a run writes."""

from types import SimpleNamespace

import pytest

from spact_lib.config import profile
from spact_lib.notebook_setup import suffix


@pytest.mark.parametrize(
    ("changes", "seed", "protocol", "expected"),
    [
        ({}, 0, "ucf101_vispr1", ""),
        ({"draw": 2}, 1, "ucf101_vispr1", "-draw2-seed1"),
        ({"target_seeds": (0, 1)}, 0, "/my/clips.csv:gesture/person", "-my_clips_csv_gesture_person-targets0_1"),
    ],
)
def test_only_the_default_run_gets_the_plain_name(changes, seed, protocol, expected):
    study = SimpleNamespace(profile=profile("mini", **changes), seed=seed)
    assert suffix(study, protocol) == expected
