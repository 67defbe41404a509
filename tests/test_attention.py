"""Attention maps: against a slow version, and that a bright spot is where the map says."""

import numpy as np
import pytest
import torch
from torch import nn

from spact_lib.attention import attention, last_feature_map
from spact_lib.errors import UserError
from spact_lib.networks.privacy import PrivacyNetwork


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["slim4", "resnet50", "mobilenet_v1", "slim4+slim8"])
def test_maps_are_of_the_frames_size_and_reach_one(name, frames):
    torch.manual_seed(0)
    f_B = PrivacyNetwork(name).eval()
    frames = frames if name.startswith("slim") else frames.repeat(2, 1).repeat(2, 2)  # 64 pixels, for a map of 2 x 2
    maps = attention(f_B, frames)
    assert maps.shape == frames.shape[:3] and maps.min() >= 0
    assert np.allclose(maps.max((1, 2)), 1)


def test_the_map_is_the_energy_of_the_last_feature_map(frames):
    torch.manual_seed(0)
    f_B = PrivacyNetwork("slim4").eval()
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    encoder = f_B.members[0][0]
    features = nn.Sequential(*list(encoder)[:-2])(images)  # without pooling and flattening
    assert torch.allclose(last_feature_map(encoder, images), features)
    slow = np.zeros((3, 4, 4))
    for n, c, y, x in np.ndindex(*features.shape):
        slow[n, y, x] += features[n, c, y, x].item() ** 2
    where = attention(f_B, frames)[:, 4::8, 4::8]  # beside the cells' centres
    for n in range(3):
        assert np.corrcoef(where[n].ravel(), slow[n].ravel())[0, 1] > 0.9
    assert not any(module._forward_hooks for module in f_B.modules())


def test_a_network_that_sees_clips_is_refused():
    with pytest.raises(UserError, match="this one sees clips"):
        last_feature_map(nn.Sequential(nn.Conv3d(3, 2, 3), nn.Flatten()), torch.zeros(1, 3, 4, 8, 8))
