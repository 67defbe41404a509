import math
from itertools import permutations
from statistics import mean

import numpy as np
import pytest
import torch

from spact_lib.errors import UserError
from spact_lib.metrics import (
    chance_average_precision,
    headline,
    multi_label_metrics,
    per_video,
    prediction_loss,
    score,
    single_label_metrics,
)


def slow_ap(scores: list[float], targets: list[int]) -> float:
    """Mean over the positives of the precision at their rank; ties share the rank of their last."""
    at = []
    for score_, target in zip(scores, targets, strict=True):
        if target:
            above = [t for s, t in zip(scores, targets, strict=True) if s >= score_]
            at.append(sum(above) / len(above))
    return mean(at)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 2), (2, 2), (1, 6), (2, 6), (5, 6), (6, 6), (3, 7)])
def test_chance_ap_is_the_mean_over_all_rankings(m: int, n: int) -> None:
    rankings = set(permutations([1] * m + [0] * (n - m)))
    scores = [float(n - k) for k in range(n)]
    assert chance_average_precision(m, n) == pytest.approx(mean(slow_ap(scores, list(r)) for r in rankings), rel=1e-12)


def test_chance_cmap_is_what_random_scores_get() -> None:
    rng = np.random.default_rng(0)
    targets = torch.zeros(200, 2, dtype=torch.uint8)
    targets[:3, 0], targets[:120, 1] = 1, 1
    results = [multi_label_metrics(torch.from_numpy(rng.random((200, 2))), targets) for _ in range(300)]
    cmaps, chance = [r["cmap"] for r in results], results[0]["cmap_chance"]
    assert abs(mean(cmaps) - chance) < 4 * np.std(cmaps) / 300**0.5
    assert abs(chance - 100 * mean([3 / 200, 120 / 200])) > 1  # the prevalence alone is too low


def test_cmap_equals_the_slow_version_ties_included() -> None:
    rng = np.random.default_rng(1)
    probabilities, targets = rng.integers(0, 8, (40, 3)) / 8, rng.integers(0, 2, (40, 3))
    got = multi_label_metrics(torch.from_numpy(probabilities), torch.from_numpy(targets))
    expected = [100 * slow_ap(probabilities[:, k].tolist(), targets[:, k].tolist()) for k in range(3)]
    assert got["ap"] == pytest.approx(expected, rel=1e-6)
    assert got["cmap"] == pytest.approx(mean(expected), rel=1e-6)


def test_a_case_by_hand_with_a_class_that_does_not_occur() -> None:
    probabilities = torch.tensor([[0.9, 0.6, 0.9], [0.8, 0.7, 0.8], [0.6, 0.1, 0.7], [0.2, 0.2, 0.6]])
    targets = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.uint8)
    got = multi_label_metrics(probabilities, targets)
    # Class 0: precisions 1 and 2/3. Class 1: the positive is first. Class 2 never occurs: left out, and counted.
    assert got["ap"][:2] == pytest.approx([100 * 5 / 6, 100]) and math.isnan(got["ap"][2])
    assert got["cmap"] == pytest.approx(100 * (5 / 6 + 1) / 2)
    assert (got["n_classes"], got["n_test"]) == (2, 4)
    # Above 0.5: class 0 three (two right of two), class 1 two (one right of one).
    assert got["f1"] == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (2 + 1)) / 2)
    # The official threshold is sigmoid(0.5) = 0.622: class 0 two (one right), class 1 one (right).
    assert got["f1_official"] == pytest.approx((2 * 1 / (2 + 2) + 1) / 2)
    assert got["cmap_chance"] == pytest.approx(50 * (chance_average_precision(2, 4) + chance_average_precision(1, 4)))


def test_the_f1_line_is_that_of_always_present() -> None:
    targets = torch.tensor([[1, 0], [1, 0], [0, 1], [1, 0]])
    got = multi_label_metrics(torch.ones(4, 2), targets)
    assert got["f1"] == pytest.approx(got["f1_chance"]) == pytest.approx((6 / 7 + 2 / 5) / 2)


def test_one_attribute_is_a_task_and_none_is_an_error() -> None:
    got = multi_label_metrics(torch.tensor([[0.9], [0.3]]), torch.tensor([[1], [0]]))
    assert got["cmap"] == pytest.approx(100) and got["f1"] == 1
    with pytest.raises(UserError, match="none of the 2 classes occurs in the 3 rows"):
        multi_label_metrics(torch.rand(3, 2), torch.zeros(3, 2))


def test_top1_and_its_majority_line() -> None:
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.4, 0.5, 0.1], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0]])
    got = single_label_metrics(probabilities, torch.tensor([0, 1, 0, 0, 1]))
    assert got == pytest.approx({"top1": 40, "top1_chance": 60, "n_test": 5})


def test_the_kind_of_task_chooses_the_metrics() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert headline(score(probabilities, torch.tensor([0, 1]))) == pytest.approx(100)
    assert headline(score(probabilities, torch.tensor([[1, 0], [0, 1]]))) == pytest.approx(100)
    assert "cmap" in score(probabilities, torch.eye(2))


def test_frames_become_videos_by_the_mean_and_by_any() -> None:
    probabilities = torch.tensor([[0.2, 0.9], [0.4, 0.1], [0.6, 0.3]])
    targets = torch.tensor([[0, 1], [0, 0], [1, 0]], dtype=torch.uint8)
    means, present = per_video(probabilities, targets, np.array(["b", "a", "b"]))
    torch.testing.assert_close(means, torch.tensor([[0.4, 0.1], [0.4, 0.6]]))  # a, then b
    assert present.tolist() == [[0, 0], [1, 1]] and present.dtype == torch.uint8
    assert per_video(probabilities, torch.tensor([3, 2, 3]), np.array(["b", "a", "b"]))[1].tolist() == [2, 3]
    with pytest.raises(UserError, match="video b has rows of several classes"):
        per_video(probabilities, torch.tensor([3, 2, 1]), np.array(["b", "a", "b"]))


def test_the_loss_of_probabilities_is_cross_entropy_and_stays_finite() -> None:
    probabilities = torch.tensor([[0.5, 0.25], [0.8, 0.1]])
    assert prediction_loss(probabilities, torch.tensor([1, 0])) == pytest.approx(-math.log(0.25 * 0.8) / 2)
    multi = torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    assert prediction_loss(probabilities, multi) == pytest.approx(-math.log(0.5 * 0.75 * 0.2 * 0.1) / 4)
    certain, eps = torch.tensor([[1.0, 0.0]]), torch.finfo(torch.float32).eps
    assert prediction_loss(certain, torch.tensor([1])) == pytest.approx(-math.log(eps))  # wrong, and not infinite
    assert prediction_loss(certain, torch.tensor([0])) == pytest.approx(eps, rel=0.01)
    assert prediction_loss(certain, torch.tensor([[0, 1]])) == pytest.approx(-math.log(eps), rel=1e-5)


def test_the_kind_of_metrics_chooses_the_headline() -> None:
    assert headline({"top1": 1.0, "cmap": 2.0}) == 1 and headline({"cmap": 2.0, "f1": 3.0}) == 2
