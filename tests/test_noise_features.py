"""Noise-features: how large the noise is, whose it is, what is learned, and how sigma is chosen."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from test_data import Arrays, noise
from tiny import TINY, VIEW, study, without
from torch import Tensor

from spact_lib.config import BaselineSpec, Schedule, TargetSpec
from spact_lib.data import ClipDataset, to_float, training_batches
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.noise_features import RELEASE, TRAINING, generator, train_noise_features, with_noise
from spact_lib.store import Artifact, Store

CPU = torch.device("cpu")


def network() -> tuple[Anonymizer, Tensor]:
    torch.manual_seed(0)
    return Anonymizer(2).eval(), torch.rand(3, 3, 32, 32)


@torch.no_grad()
def test_noise_has_sigma_times_the_spread_of_a_frames_features(monkeypatch: pytest.MonkeyPatch) -> None:
    f_A, frames = network()
    assert torch.equal(with_noise(f_A, frames, 0.0, [generator(CPU, 1)]), f_A(frames))
    features = f_A.encode(frames)
    monkeypatch.setattr(f_A, "decode", lambda given: given)
    for sigma in (0.5, 2.0):
        noisy = with_noise(f_A, frames, sigma, [generator(CPU, 1)])
        assert [x.shape[1] for x in noisy] == [2, 4, 8, 16, 16]  # every level has some
        for x, clean in zip(noisy, features, strict=True):
            for frame in range(3):
                drawn = (x[frame] - clean[frame]) / clean[frame].std() / sigma
                n = drawn.numel()
                assert abs(drawn.mean()) < 4 / n**0.5 and abs(drawn.std() - 1) < 4 / (2 * n) ** 0.5
    assert not torch.allclose(noisy[0][0] - features[0][0], noisy[0][1] - features[0][1])


@torch.no_grad()
def test_the_noise_of_a_frame_does_not_depend_on_what_is_released_with_it() -> None:
    f_A, frames = network()
    of_frames = [lambda k=k: generator(CPU, 0, RELEASE, 7, k) for k in range(3)]
    together = with_noise(f_A, frames, 1.0, [make() for make in of_frames])
    for k in range(3):
        torch.testing.assert_close(with_noise(f_A, frames[k : k + 1], 1.0, [of_frames[k]()]), together[k : k + 1])
    draws = [
        torch.randn(4, generator=generator(CPU, *seed)).tolist()
        for seed in ((0, RELEASE, 7, 0), (0, RELEASE, 7, 1), (0, RELEASE, 8, 0), (1, RELEASE, 7, 0), (0, TRAINING, 7))
    ]
    assert len({tuple(draw) for draw in draws}) == 5


def test_both_networks_go_down_the_gradient_of_L_T_plus_L1(tiny_csv: Path, tmp_path: Path) -> None:
    spec = study(tiny_csv, tmp_path).noise_features(0.5)
    view = VIEW.model_copy(update={"gray": 0.0, "erase": 0.0})
    start = spec.f_A.model_copy(update={"precision": "float32", "view": view})
    schedule = Schedule(steps=1, batch=3, lr=1e-3)
    spec = spec.model_copy(update={"f_T": spec.f_T.model_copy(update={"f_A": start}), "schedule": schedule})
    source, labels = Arrays(*[noise(9, seed=k) for k in range(3)]), np.array([0, 1, 1])
    table = SimpleNamespace(rows=pd.DataFrame({"split": ["train"] * 3}), sparse_labels=lambda task: labels)
    torch.manual_seed(0)
    f_A, f_T = Anonymizer(2), build_action_network("r3d_slim", 2)
    naive_A, naive_T = deepcopy(f_A).train(), deepcopy(f_T).train()
    train_noise_features(spec, f_A, f_T, (source, table), tmp_path / "run", CPU)

    dataset = ClipDataset(source, np.arange(3), labels, view, seed=spec.seed)
    (batch,) = training_batches(dataset, 3, 0, 1)
    clips = to_float(batch, CPU)
    frames = clips["clip"].flatten(0, 1)
    out = with_noise(naive_A, frames, 0.5, [generator(CPU, spec.seed, TRAINING, 0)])
    loss = F.cross_entropy(naive_T(out.unflatten(0, (3, 4))), clips["label"]) + (out - frames).abs().mean()
    loss.backward()
    for trained, naive in ((f_A, naive_A), (f_T, naive_T)):
        for (name, new), old in zip(trained.named_parameters(), naive.parameters(), strict=True):
            # Adam's first step is the rate times the sign, wherever the gradient is more than rounding.
            clear = old.grad.abs() > 1e-4
            assert torch.equal((new - old)[clear].sign(), -old.grad[clear].sign()), name
    assert (f_A.to_rgb.weight != naive_A.to_rgb.weight).all()


def test_a_collapse_is_said_and_recorded_as_of_the_game(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = study(tiny_csv, tmp_path)
    healthy = one.store.run(one.noise_features(0.5)).metrics
    assert healthy["collapsed"] is False and healthy["spread"] > 0.02 and not caplog.records
    decode = Anonymizer.decode
    monkeypatch.setattr(Anonymizer, "decode", lambda self, features: 0.5 + 1e-4 * decode(self, features))
    assert one.store.run(one.noise_features(0.6)).metrics["collapsed"] is True
    assert "f_A of noise features, sigma 0.6 has collapsed: it gives all frames nearly the same" in caplog.text


@pytest.mark.parametrize(
    ("raw", "found", "chosen"),
    [
        (90.0, {1.0: 95.0}, 1.0),
        (90.0, {1.0: 86.9, 0.5: 87.0}, 0.5),
        (90.0, {1.0: 1, 0.5: 2, 0.1: 3}, 0.1),
        (None, {}, 0.5),
    ],
)
def test_sigma_is_chosen_as_omega_is(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: float | None, found: dict, chosen: float
) -> None:
    one = study(tiny_csv, tmp_path, TINY.model_copy(update={"sigmas": (0.1, 1.0, 0.5)}))

    def canned(self: Store, spec: TargetSpec) -> Artifact:
        assert spec.task == "action"
        method = spec.release.method
        return Artifact({"metrics": {"val": raw if isinstance(method, BaselineSpec) else found[method.sigma]}}, None)

    monkeypatch.setattr(Store, "run", canned)
    assert one.method("noise_features") == one.noise_features(chosen)
    assert [spec.sigma for spec in one.tried("noise_features")] == list(found)


def test_a_release_with_noise_is_the_same_every_time_and_not_that_of_f_A_alone(tiny_csv: Path, tmp_path: Path) -> None:
    one = study(tiny_csv, tmp_path / "store")
    noisy, role = one.noise_features(0.5), one.protocol.action
    spec = one.release(noisy, role)
    first = one.store.release(spec)
    other = without(one, spec, tmp_path / "again")
    again = other.store.release(spec)
    every = np.arange(first.n_frames(0))
    assert np.array_equal(first.read(0, every), again.read(0, every))
    quiet = one.store.release(one.release(noisy.model_copy(update={"sigma": 0.0}), role))
    assert not np.array_equal(first.read(0, every), quiet.read(0, every))
