"""Device, precision, versions: what a run happened on.

A spec gives the same bits twice on a CPU (same versions, kind of CPU and threads). On a GPU it gives the same first
weights and batches only: cuDNN's choice of algorithms and the order of atomic additions are left free.
"""

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import version

import torch

from spact_lib import distributed
from spact_lib.errors import UserError
from spact_lib.paths import REPOSITORY
from spact_lib.plain import plain


def pick_device() -> torch.device:
    """``SPACT_DEVICE`` where it is set, else the first GPU, else the CPU; of many processes, each one's own GPU."""
    if now := distributed.state():
        return now.device
    name = os.environ.get("SPACT_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"SPACT_DEVICE={name!r} cannot be used here ({error}); try 'cpu'") from error
    if device.type == "cuda" and device.index is not None:  # or loaders pin memory by way of the first GPU
        torch.cuda.set_device(device)
    return device


@cache
def has_bfloat16(device_type: str) -> bool:
    """Whether this machine computes in bfloat16, instead of imitating it: on a CPU with AVX2 alone a step of f_A then
    takes several times as long as in float32."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        return any(_cpu().get(name, False) for name in ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"))
    return True


def _cpu() -> Mapping[str, object]:
    """What this CPU is and can do; an older torch does not tell."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def autocast(device: torch.device, precision: str, dims: int) -> AbstractContextManager:
    """Mixed precision for 2-D or 3-D networks; float32 where the device has no bfloat16 (``environment`` says so).

    3-D networks stay in float32 on a CPU: torch 2.13 to 2.15 sometimes gives a non-finite weight gradient for
    conv3d under bfloat16 autocast there.
    """
    wanted = precision == "bfloat16" and not plain() and (dims == 2 or device.type != "cpu")
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bfloat16(device.type))


def layout(dims: int) -> torch.memory_format:
    """Memory format of what goes through 2-D or 3-D convolutions."""
    if plain():
        return torch.contiguous_format
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of this machine or of its GPU; of a CPU torch says so in words alone."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


@cache
def _commit() -> str | None:
    """The commit of this checkout, "-dirty" behind it where files differ; None outside of a repository."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def environment() -> dict[str, str | int | None]:
    """Versions and hardware for a record."""
    device = pick_device()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = str(_cpu().get("cpu_name") or platform.processor() or platform.machine())
    name += ", float32 for bfloat16" * (not has_bfloat16(device.type))
    return {
        "spact": version("spact"),
        "commit": _commit(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "python": platform.python_version(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
    } | ({"processes": ranks} if (ranks := distributed.which()[1]) > 1 else {})
