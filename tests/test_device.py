"""Where networks compute, in which precision, and that records say so."""

from collections.abc import Iterator

import pytest
import torch

from spact_lib import device

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SPACT_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.has_bfloat16.cache_clear()
    yield
    device.has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32),  # it would imitate, many times slower
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"architecture": "aarch64", "bf16": True}, torch.bfloat16),
    ],
)
def test_bfloat16_only_where_the_cpu_has_it_and_a_record_says_where_it_has_not(
    able: dict[str, object], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    with device.autocast(CPU, "bfloat16", dims=2):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    with device.autocast(CPU, "bfloat16", dims=3):  # never on a CPU
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with device.autocast(CPU, "float32", dims=2):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert ("float32 for bfloat16" in device.environment()["device"]) == (dtype == torch.float32)


@pytest.mark.parametrize("able", [True, False])
def test_a_gpu_without_bfloat16_computes_in_float32(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able and not including_emulation)
    assert device.has_bfloat16("cuda") == able
