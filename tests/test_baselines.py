"""Baselines that learn nothing: what a low resolution keeps, and what it takes away."""

import pytest
import torch

from spact_lib.baselines import BASELINES, baseline
from spact_lib.errors import UserError


@pytest.mark.parametrize(("name", "factor"), [("downsample_2x_up", 2), ("downsample_4x_up", 4)])
def test_up_again_has_all_pixels_but_no_more_detail(name: str, factor: int) -> None:
    apply = baseline(name)
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(36.0), indexing="ij")
    ramp = (0.01 * x + 0.02 * y).expand(1, 3, -1, -1)
    checks = ((x + y) % 2).expand(1, 3, -1, -1)
    inside = (..., slice(2 * factor, -2 * factor), slice(2 * factor, -2 * factor))
    torch.testing.assert_close(apply(ramp)[inside], ramp[inside])  # bilinear both ways: a plane stays
    torch.testing.assert_close(apply(checks)[inside], torch.full_like(checks, 0.5)[inside], atol=0.02, rtol=0)
    odd = torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(0))
    assert apply(odd).shape == odd.shape and 0 <= apply(odd).min() <= apply(odd).max() <= 1
    # What went down is in what came up again: going down once more finds nothing else to remove.
    down = baseline(name.removesuffix("_up"))
    assert (down(apply(odd)) - down(odd)).abs().mean() < (down(odd) - 0.5).abs().mean()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda frames: frames[:, :1], r"'mine' made \(2, 1, 8, 8\) of frames \(2, 3, 8, 8\)"),
        (lambda frames: frames[:1], r"'mine' made \(1, 3, 8, 8\)"),
        (lambda frames: frames * 255, r"'mine' gave values from 0 to 255; frames are in \[0, 1\]"),
        (lambda frames: frames * torch.nan, "'mine' gave values from nan to nan"),
    ],
)
def test_a_baseline_that_gives_no_frames_is_named(monkeypatch: pytest.MonkeyPatch, wrong, said: str) -> None:
    monkeypatch.setitem(BASELINES, "mine", wrong)
    with pytest.raises(UserError, match=said):
        baseline("mine")(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]))
