"""SPAct: self-supervised privacy preservation for action recognition (CVPR 2022), a reproducible companion."""

__version__ = "0.1.0"
