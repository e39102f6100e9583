"""One pure-torch network per paper, made of `dualpixel.blocks`."""

from dualpixel.nets.dpanet import DPANet
from dualpixel.nets.dpdnet import DPDNet

__all__ = ["DPANet", "DPDNet"]
