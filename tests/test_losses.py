import math

import pytest
import torch
from torch import Tensor

from spact_lib.losses import (
    classification_loss,
    info_nce,
    l1_reconstruction,
    nt_xent,
    nt_xent_uninformative,
    triplet_margin,
)


def slow_nt_xent(z: Tensor, z_prime: Tensor, tau: float, both_directions: bool) -> float:
    """Eq. 5 element by element, from the paper, in Python floats."""

    def h(u: Tensor, v: Tensor) -> float:
        dot = sum(a * b for a, b in zip(u.tolist(), v.tolist(), strict=True))
        norms = math.hypot(*u.tolist()) * math.hypot(*v.tolist())
        return math.exp(dot / norms / tau)

    def one_direction(a: Tensor, b: Tensor) -> float:
        total, n = 0.0, len(a)
        for i in range(n):
            denominator = 0.0
            for j in range(n):
                if j != i:
                    denominator += h(a[i], a[j])
                denominator += h(a[i], b[j])
            total += -math.log(h(a[i], b[i]) / denominator)
        return total / n

    if not both_directions:
        return one_direction(z, z_prime)
    return (one_direction(z, z_prime) + one_direction(z_prime, z)) / 2


def pairs(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(3 * torch.randn(2, n, d, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("both_directions", [True, False])
@pytest.mark.parametrize(("n", "d", "tau"), [(2, 1, 0.5), (2, 3, 0.1), (5, 4, 0.1), (9, 16, 1.0)])
def test_nt_xent_equals_the_slow_version(n: int, d: int, tau: float, both_directions: bool) -> None:
    z, z_prime = pairs(n, d)
    expected = slow_nt_xent(z, z_prime, tau, both_directions)
    assert nt_xent(z, z_prime, tau, both_directions).item() == pytest.approx(expected, rel=1e-12)


def test_nt_xent_is_float32_under_autocast() -> None:
    z, z_prime = (v.bfloat16() for v in pairs(8, 16))
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(z, z_prime)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_nt_xent(z, z_prime, 0.1, True), rel=1e-5)


@pytest.mark.parametrize("both_directions", [True, False])
@pytest.mark.parametrize("tau", [0.1, 0.7])
def test_nt_xent_closed_forms(tau: float, both_directions: bool) -> None:
    n = 6
    basis, e = torch.eye(n, dtype=torch.float64), math.exp(1 / tau)
    # Pairs aligned, videos orthogonal: one e^(1/tau) and 2N - 2 ones in the denominator.
    assert nt_xent(basis, basis, tau, both_directions).item() == pytest.approx(math.log(1 + (2 * n - 2) / e))
    # Anti-aligned pairs: above the uninformative value, though nothing is hidden.
    apart = nt_xent(basis, -basis, tau, both_directions).item()
    assert apart == pytest.approx(1 / tau + math.log(1 / e + 2 * n - 2)) and apart > nt_xent_uninformative(n)
    # Everything at one point: uninformative.
    same = torch.ones(n, 4, dtype=torch.float64)
    assert nt_xent(same, same, tau, both_directions).item() == pytest.approx(nt_xent_uninformative(n))
    assert nt_xent_uninformative(n) == pytest.approx(math.log(11))


def test_two_directions_are_symmetric_and_the_printed_form_is_not() -> None:
    z, z_prime = pairs(5, 4)
    assert torch.isclose(nt_xent(z, z_prime), nt_xent(z_prime, z), rtol=1e-12)
    one, other = nt_xent(z, z_prime, both_directions=False), nt_xent(z_prime, z, both_directions=False)
    assert abs(one - other) > 1e-3
    assert torch.isclose(nt_xent(z, z_prime), (one + other) / 2, rtol=1e-12)


def test_norms_and_the_order_of_videos_do_not_matter() -> None:
    z, z_prime = pairs(5, 4)
    loss, order = nt_xent(z, z_prime), torch.tensor([3, 0, 4, 2, 1])
    scale = torch.tensor([[0.1], [2], [30], [4], [5]], dtype=torch.float64)
    assert torch.isclose(nt_xent(z * scale, z_prime / scale), loss, rtol=1e-12)
    assert torch.isclose(nt_xent(z[order], z_prime[order]), loss, rtol=1e-12)
    assert not torch.isclose(nt_xent(z, z_prime[order]), loss)  # other pairs are another loss


@pytest.mark.parametrize("both_directions", [True, False])
def test_nt_xent_gradient(both_directions: bool) -> None:
    z, z_prime = (x.requires_grad_() for x in pairs(3, 4))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.3, both_directions), (z, z_prime))


@pytest.mark.parametrize(
    ("shapes", "tau", "message"),
    [
        (((1, 4), (1, 4)), 0.1, "at least 2 videos"),
        (((3, 4), (4, 4)), 0.1, r"\(3, 4\), \(4, 4\)"),
        (((3, 4, 1), (3, 4, 1)), 0.1, r"one shape \(N, D\)"),
        (((3, 4), (3, 4)), 0.0, "temperature must be > 0"),
    ],
)
def test_nt_xent_refuses(shapes: tuple, tau: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nt_xent(*map(torch.zeros, shapes), tau)


def test_l1_is_a_mean_over_all_pixels() -> None:
    frames, reconstructed = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    reconstructed[0, 0, 0, 0], reconstructed[1, 2, 1, 1] = 0.6, -1.8
    assert l1_reconstruction(frames, reconstructed).item() == pytest.approx(2.4 / 24)


def test_the_targets_choose_the_classification_loss() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    single = classification_loss(logits, torch.tensor([0, 1]))
    assert single.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)
    multi = classification_loss(logits, torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8))
    assert multi.item() == pytest.approx((math.log(1 + math.exp(-2)) + 3 * math.log(2)) / 4)


def test_info_nce_closed_forms() -> None:
    keys = torch.eye(5, 9)
    negatives = torch.eye(9)[5:]
    e = math.exp(1 / 0.2)
    assert info_nce(3 * keys, keys, negatives, 0.2).item() == pytest.approx(math.log(1 + 4 / e), rel=1e-5)
    same = torch.ones(5, 9)
    assert info_nce(same, same, torch.ones(4, 9)).item() == pytest.approx(math.log(1 + 4))


def test_info_nce_equals_the_slow_version_whatever_the_norms_and_the_precision() -> None:
    (queries, keys), (negatives, _) = pairs(4, 6), pairs(7, 6, seed=1)

    def similarity(u: Tensor, v: Tensor) -> float:
        return math.exp(torch.dot(u, v).item() / (u.norm() * v.norm()).item() / 0.1)  # 0.1: MoCo's and the default

    slow = 0.0
    for query, key in zip(queries, keys, strict=True):
        positive = similarity(query, key)
        slow -= math.log(positive / (positive + sum(similarity(query, negative) for negative in negatives))) / 4
    assert info_nce(queries, keys, negatives).item() == pytest.approx(slow, rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(queries.float(), keys.float(), negatives.float())
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(slow, rel=1e-5)


def test_info_nce_of_bfloat16_projections_is_computed_in_float32() -> None:
    q, k, negatives = (torch.randn(n, 16, generator=torch.Generator().manual_seed(n)).bfloat16() for n in (4, 4, 9))
    k = k + q
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(q, k, negatives), info_nce(q.float(), k.float(), negatives.float()))


def test_triplets_by_hand() -> None:
    anchor = torch.zeros(2, 2)
    positive, negative = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [5.0, 0.0]])
    # max(0, 5 - 1 + 1) and max(0, 1 - 5 + 1).
    assert triplet_margin(anchor, positive, negative, 1.0).item() == pytest.approx(2.5, abs=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = triplet_margin(anchor.bfloat16(), positive.bfloat16() + 1 / 64, negative.bfloat16(), 1.0)
    assert loss.dtype == torch.float32
