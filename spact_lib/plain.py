"""The one switch that turns every optimisation off: the environment variable SPACT_PLAIN=1.

With it, computation is what one first writes. Results differ by rounding and lie in a folder of their own.

- The game and the initialisation compute gradients that nobody uses (``training.frozen``, ``without_graph``).
- Everything in float32 (``device.autocast``) and in torch's default layouts (``device.layout``).
- One process, no training ahead (``ahead.spread``); optimizers are not fused (``training.adam``).
- Raw frames are decoded at every use (``study.open_study``); videos are released one by one (``experiments``).
- ``paths.runs_root`` is another folder, and ``spact promote`` refuses.
"""

import os


def plain() -> bool:
    """Whether optimisations are switched off."""
    return os.environ.get("SPACT_PLAIN") == "1"
