"""One LightningModule per paper: losses, stages, schedule. The base owns the step that training, validation, test and predict share."""

from dualpixel.recipes.base import Recipe
from dualpixel.recipes.dddnet import DDDNetRecipe
from dualpixel.recipes.dpanet import DPANetRecipe
from dualpixel.recipes.dpdnet import DPDNetRecipe
from dualpixel.recipes.k3dn import K3DNRecipe
from dualpixel.recipes.loading import load
from dualpixel.recipes.mdp import MDPRecipe
from dualpixel.recipes.optimizers import KerasAdam
from dualpixel.recipes.schedules import WarmupCosine

__all__ = [
    "DDDNetRecipe",
    "DPANetRecipe",
    "DPDNetRecipe",
    "K3DNRecipe",
    "KerasAdam",
    "MDPRecipe",
    "Recipe",
    "WarmupCosine",
    "load",
]
