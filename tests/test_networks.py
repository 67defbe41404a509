from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.video import mc3_18, r2plus1d_18, r3d_18

from spact_lib.errors import UserError
from spact_lib.networks.action import ACTION_NETWORKS, build_action_network, normal_flow
from spact_lib.networks.anonymizer import CONFIG, Anonymizer, anonymize_clips, read_config
from spact_lib.networks.privacy import ENCODERS, PrivacyNetwork, projection_head


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_f_A_has_the_papers_size() -> None:
    with torch.device("meta"):
        n = sum(p.numel() for p in Anonymizer(64).parameters())
    assert n == 17_267_523 and round(n / 1e6, 2) == 17.27


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (17, 31), (37, 50)])
def test_f_A_keeps_shape_and_range(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    f_A = Anonymizer(2)
    out = f_A(uniform(2, 3, *size))
    assert out.shape == (2, 3, *size) and out.dtype == torch.float32
    assert 0 <= out.min() < out.max() <= 1


def test_f_A_gives_float32_under_bfloat16_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = Anonymizer(2)(uniform(2, 3, 16, 16))
    assert out.dtype == torch.float32
    assert not torch.equal(out, out.bfloat16().float())  # finer than bfloat16, which is coarser than 8 bits near 1


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (3, 16, 16), (2, 4, 3, 16, 16)])
def test_f_A_refuses_what_is_not_frames(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"f_A takes frames of shape \(N, 3, H, W\), got \("):
        Anonymizer(2)(torch.zeros(shape))


def test_f_A_treats_frames_one_by_one() -> None:
    """The permutation trap: channels must not mix with time, nor frames with each other."""
    torch.manual_seed(0)
    f_A = Anonymizer(2).eval()
    clips = uniform(2, 4, 3, 16, 16)
    with torch.no_grad():
        out = anonymize_clips(f_A, clips)
        for b in range(2):
            for t in range(4):
                torch.testing.assert_close(out[b, t], f_A(clips[b, t][None])[0])
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(anonymize_clips(f_A, clips[:, order]), out[:, order])
        torch.testing.assert_close(anonymize_clips(f_A, clips.flip(0)), out.flip(0))
        assert (f_A(clips[0].flip(1)) - f_A(clips[0])).abs().max() > 1e-3  # BGR is not RGB


def test_r3d18_is_torchvisions_behind_our_layout() -> None:
    torch.manual_seed(3)
    ours = build_action_network("r3d18", 5).eval()
    torch.manual_seed(3)
    theirs = r3d_18(weights=None, num_classes=5).eval()
    clips = uniform(1, 4, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), theirs(clips.permute(0, 2, 1, 3, 4)))


def last_stage_length(body: nn.Module, frames: int) -> int:
    lengths = []
    body.layer4.register_forward_hook(lambda module, given, out: lengths.append(out.shape[2]))
    with torch.no_grad():
        body(torch.zeros(1, 3, frames, 16, 16))
    return lengths[0]


def test_the_dilated_last_stage_keeps_the_temporal_length() -> None:
    plain, dilated = (build_action_network(name, 2).eval().body for name in ("r3d18", "r3d18_dilated"))
    assert last_stage_length(plain, 16) == 2  # 16 -> 16, 8, 4, 2
    assert last_stage_length(dilated, 16) == 4
    first = dilated.layer4[0].conv1[0]
    assert (first.stride, first.dilation, first.padding) == ((1, 2, 2), (2, 1, 1), (2, 1, 1))
    sizes = [[tuple(p.shape) for p in body.parameters()] for body in (plain, dilated)]
    assert sizes[0] == sizes[1]


def test_the_slim_network_answers_per_clip_and_sees_time() -> None:
    torch.manual_seed(0)
    f_T = build_action_network("r3d_slim", 7).eval()
    clips = uniform(2, 4, 3, 16, 16)
    with torch.no_grad():
        logits = f_T(clips)
        assert logits.shape == (2, 7)
        torch.testing.assert_close(f_T(clips[1:]), logits[1:])
        assert (f_T(clips.flip(1)) - logits).abs().max() > 1e-5  # the order of the frames counts


@pytest.mark.parametrize("shape", [(2, 3, 4, 16, 16), (4, 3, 16, 16)])
def test_f_T_refuses_other_layouts(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"f_T takes clips of shape \(B, T, 3, H, W\), got \("):
        build_action_network("r3d_slim", 2)(torch.zeros(shape))


def head_sizes(network: PrivacyNetwork) -> list[list[tuple[int, ...]]]:
    return [[tuple(p.shape) for p in member[1].parameters() if p.dim() == 2] for member in network.members]


def test_resnet50_has_the_papers_projection_head() -> None:
    with torch.device("meta"):
        network = PrivacyNetwork("resnet50")
        out = network(torch.zeros(2, 3, 64, 64))
    assert head_sizes(network) == [[(2048, 2048), (128, 2048)]] and out.shape == (1, 2, 128)
    assert isinstance(network.members[0][1][1], nn.ReLU)
    assert sum(p.numel() for p in network.members[0][0].parameters()) == 23_508_032  # ResNet-50 without its classifier


def test_the_ensemble_has_a_head_for_each_encoder() -> None:
    with torch.device("meta"):
        network = PrivacyNetwork("resnet50+mobilenet_v1", 7)
        out = network(torch.zeros(2, 3, 64, 64))
    assert out.shape == (2, 2, 7)
    assert head_sizes(network) == [[(7, 2048)], [(7, 1024)]]


@pytest.mark.parametrize("n_outputs", [None, 5])
def test_members_of_an_ensemble_are_independent(n_outputs: int | None) -> None:
    torch.manual_seed(0)
    network, frames = PrivacyNetwork("slim8+slim8", n_outputs).eval(), uniform(3, 3, 16, 16)
    with torch.no_grad():
        out = network(frames)
        assert out.shape == (2, 3, n_outputs or 128) and not torch.allclose(out[0], out[1])
        torch.testing.assert_close(out[1], network.members[1](frames))
        torch.testing.assert_close(network(frames[2:]), out[:, 2:])


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v1", 1024), ("slim8", 64), ("slim16", 128), ("slim32", 256)])
def test_encoders_give_the_size_they_name(name: str, size: int) -> None:
    with torch.device("meta"):
        encoder, named = ENCODERS[name]()
        assert named == size and encoder(torch.zeros(2, 3, 32, 32)).shape == (2, size)
        assert projection_head(size)(torch.zeros(2, size)).shape == (2, 128)


def test_unknown_networks_name_the_legal_ones() -> None:
    with pytest.raises(UserError, match=f"unknown action network 'r3d'.*{', '.join(sorted(ACTION_NETWORKS))}"):
        build_action_network("r3d", 2)
    with pytest.raises(UserError, match=f"unknown privacy network 'vit'.*{', '.join(sorted(ENCODERS))}"):
        PrivacyNetwork("slim8+vit")


@pytest.mark.parametrize(("right", "down"), [(0.5, 0.0), (-0.5, 0.0), (0.0, 1.0), (0.0, -1.0), (0.0, 0.0)])
def test_normal_flow_of_a_moving_ramp_is_its_speed(right: float, down: float) -> None:
    y, x, t = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), torch.arange(5.0), indexing="ij")
    slope = 0.04
    ramp = 0.5 + slope * ((x - 7 - right * t) if down == 0 else (y - 7 - down * t))
    clips = ramp.permute(2, 0, 1).expand(1, 3, -1, -1, -1)  # (B, C, T, H, W)
    seen = normal_flow(clips)[..., 1:, 3:-3, 3:-3] * (slope**2 + 0.002) / slope**2
    expected = torch.tensor([right, down]).view(1, 2, 1, 1, 1).expand_as(seen)
    assert torch.allclose(seen, expected, atol=1e-4)


def test_the_motion_network_sees_the_frames_and_their_flow() -> None:
    torch.manual_seed(0)
    network = build_action_network("r3d_slim_motion", 4).eval()
    seen: list[Tensor] = []
    network.body.stem[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    clips = uniform(2, 5, 3, 32, 32)
    assert network(clips).shape == (2, 4)
    network(clips[:, :1].expand(-1, 5, -1, -1, -1))
    moving, standing = seen
    assert moving.shape == (2, 5, 5, 32, 32) and moving[:, 3:].any() and not standing[:, 3:].any()


@pytest.mark.parametrize("name", [*ENCODERS])
def test_no_network_meets_the_memory_error_of_onednn(name: str) -> None:
    """See ``privacy._down``: a strided 1x1 convolution with fewer than 16 input channels corrupts the heap."""
    convolutions = [m for m in PrivacyNetwork(name).modules() if isinstance(m, nn.Conv2d)]
    assert not [c for c in convolutions if c.kernel_size == (1, 1) and c.stride != (1, 1) and c.in_channels < 16]


@pytest.mark.parametrize(("name", "theirs"), [("r2plus1d18", r2plus1d_18), ("mc3_18", mc3_18)])
def test_other_f_T_are_torchvisions_behind_our_layout(name: str, theirs: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        ours, expected = build_action_network(name, 5).body, theirs(weights=None, num_classes=5)
        assert build_action_network(name, 5)(torch.zeros(2, 4, 3, 32, 32)).shape == (2, 5)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in expected.state_dict().items()}


def test_slim_R2Plus1D_separates_space_and_time() -> None:
    body = build_action_network("r2plus1d_slim_motion", 3).body
    kernels = {m.kernel_size for m in body.blocks.modules() if isinstance(m, nn.Conv3d)}
    assert kernels == {(1, 3, 3), (3, 1, 1), (1, 1, 1)}


def test_slim_MC3_is_3D_first_and_keeps_the_temporal_length_after() -> None:
    body = build_action_network("mc3_slim_motion", 3).body
    kernels = [{m.kernel_size for m in block.modules() if isinstance(m, nn.Conv3d)} for block in body.blocks]
    assert kernels == [{(3, 3, 3)}, {(1, 3, 3), (1, 1, 1)}, {(1, 3, 3), (1, 1, 1)}]
    with torch.no_grad():
        assert body.blocks(torch.zeros(1, 16, 8, 16, 16)).shape == (1, 64, 8, 4, 4)


@pytest.mark.parametrize("name", ["r3d_slim_motion", "r2plus1d_slim_motion", "mc3_slim_motion"])
def test_slim_networks_see_motion(name: str) -> None:
    torch.manual_seed(0)
    f_T, clips = build_action_network(name, 3).eval(), uniform(2, 4, 3, 32, 32)
    with torch.no_grad():
        logits = f_T(clips)
        torch.testing.assert_close(f_T(clips[1:]), logits[1:])
        assert (f_T(clips.flip(1)) - logits).abs().max() > 1e-5  # the order of the frames counts


def test_a_config_of_brackets_alone_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"cannot be read as JSON \(its brackets are too deep\); copy the folder again"):
        read_config(tmp_path)
