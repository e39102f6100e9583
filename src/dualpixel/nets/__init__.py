"""One pure-torch network per paper, made of `dualpixel.blocks`."""

from dualpixel.nets.dddnet import DDDNet
from dualpixel.nets.dpanet import DPANet
from dualpixel.nets.dpdnet import DPDNet
from dualpixel.nets.k3dn import K3DN
from dualpixel.nets.mdp import MDP

__all__ = ["K3DN", "MDP", "DDDNet", "DPANet", "DPDNet"]
