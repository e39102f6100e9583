"""One pure-torch network per paper, made of `dualpixel.blocks`."""

from dualpixel.nets.dpanet import DPANet
from dualpixel.nets.dpdnet import DPDNet
from dualpixel.nets.k3dn import K3DN

__all__ = ["K3DN", "DPANet", "DPDNet"]
