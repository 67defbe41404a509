"""What an epoch would cost on N GPUs: computed, not measured, from counted FLOP and the decoding time measured here.

Each batch serves one of the two steps, so a clip passes f_A three times as often as forward in step 1 (forward, two
gradients) and once in step 2, f_T and f_B twice and three times: on average 2, 2.5 and 2.5 forward passes. A clip is 16
frames for f_T, 2 for f_B, and all 18 for f_A. With N GPUs each has 1 / N of the batch, and all exchange gradients.
"""

import torch

from benchmarks.frames import CACHED_FIRST, FIRST, PAIR
from benchmarks.harness import Row, place, read
from spact_lib.config import PAPER
from spact_lib.errors import UserError
from spact_lib.flop import forward_flop
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.networks.privacy import PrivacyNetwork

EPOCHS = {"UCF101": (9_537, "MPEG-4"), "P-HVU": (245_212, "H.264")}  # training clips, codec
DECODING = {"decoding s": FIRST, "cached decoding s": CACHED_FIRST}  # -> variant of the benchmark of frames
GPUS = (1, 2, 4, 8)  # more do not share all batches evenly (``data.StepSampler``)
PEAK = 989e12  # FLOP/s of an H200, bfloat16 without sparsity (NVIDIA's data sheet)
SHARE = 0.25  # of the peak; assumed
CORES = 16  # processor cores for each GPU; assumed
LINK = 50e9  # bytes/s that a GPU sends to others (400 Gbit/s); assumed


def run() -> list[Row]:
    """The records: seconds of an epoch, by dataset and number of GPUs.

    Raises:
        UserError: nobody has measured here how long decoding takes.
    """
    if not place("frames").exists():
        raise UserError("the scaling of an epoch needs the time that decoding takes here; run `spact bench frames`")
    of_the_game = [row for row in read(place("frames")) if row["case"].endswith(PAIR)]
    view = PAPER.action_view
    forward = {
        "f_A": 18 * forward_flop("f_A", "", 1, view.size, PAPER.width),
        "f_T": forward_flop("target", PAPER.f_T, view.n_frames, view.size),
        "f_B": 2 * forward_flop("f_B", PAPER.f_B, 1, view.size),
    }
    passes = {"f_A": 2.0, "f_T": 2.5, "f_B": 2.5}
    with torch.device("meta"):  # shapes without numbers
        networks = (Anonymizer(PAPER.width), build_action_network(PAPER.f_T, 101), PrivacyNetwork(PAPER.f_B))
    gradients = 4 * sum(p.numel() for network in networks for p in network.parameters())  # bytes, of an iteration
    loaders = min(PAPER.workers, CORES - 1)  # of each GPU, as ``data.loader_workers`` takes them
    made = []
    for dataset, (clips, codec) in EPOCHS.items():
        ms = {row["variant"]: row["ms per clip"] for row in of_the_game if row["case"].startswith(codec)}
        for n in GPUS:
            iterations = clips / PAPER.minimax.batch / 2
            seconds = {name: clips * passes[name] * flop / (n * SHARE * PEAK) for name, flop in forward.items()}
            exchange = iterations * 2 * (n - 1) / n * gradients / LINK
            busy = sum(seconds.values()) + exchange
            row = {"case": f"{dataset}, an epoch, computed", "variant": f"{n} x H200"}
            row |= {f"{name} s": round(each, 1) for name, each in seconds.items()}
            row |= {"gradients s": round(exchange, 1), "GPU s": round(busy, 1)}
            row |= {name: round(clips * ms[variant] / 1000 / (n * loaders), 1) for name, variant in DECODING.items()}
            made.append(row)
    return made
