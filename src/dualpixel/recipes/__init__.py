"""One LightningModule per paper: losses, stages, schedule. The base owns the step that training, validation, test and predict share."""

from dualpixel.recipes.base import Recipe
from dualpixel.recipes.dpdnet import DPDNetRecipe
from dualpixel.recipes.loading import load
from dualpixel.recipes.optimizers import KerasAdam

__all__ = ["DPDNetRecipe", "KerasAdam", "Recipe", "load"]
