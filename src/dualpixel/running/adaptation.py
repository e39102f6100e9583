"""Fine-tuning a network on photographs without any truth: what it predicts, rendered, has to be the views that came in."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpixel.data.fields import IMAGES
from dualpixel.data.pairs import Photographs
from dualpixel.data.simulated import Place
from dualpixel.data.stream import to_floats
from dualpixel.errors import DualPixelError
from dualpixel.losses.depth import share_beyond
from dualpixel.optics import combine
from dualpixel.recipes.base import Batch, Prediction, Recipe
from dualpixel.running.adaptation_places import CropPlaces

VIEWS = ("left", "right")
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Adaptation:
    """How weights are adapted to photographs.

    Args:
        steps: of the optimizer at most.
        learning_rate: of Adam.
        crop_size: side of the crops, pixels; all are as large as the smallest photograph allows.
        batch_size: crops in a step.
        patience: after so many checks in a row without a lower error, it ends.
        every: steps between two checks.
        seed: of the places of all crops.

    Raises:
        DualPixelError: a value that is not positive.
    """

    steps: int = 200
    learning_rate: float = 1e-5
    crop_size: int = 192
    batch_size: int = 4
    patience: int = 5
    every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "seed" and not 0 < value < math.inf:
                raise DualPixelError(f"--{name} {value}: must be positive")
        if self.seed < 0:
            raise DualPixelError(f"--seed {self.seed}: must not be negative")


@dataclass
class Measured:
    """The reblur error of some weights at the places where it is measured.

    Args:
        errors: photograph -> its error: `dualpixel.losses.depth.reblur_loss` with the rendering and the margin of the recipe.
        without: photograph -> the error of the answer that needs no network: the mean of the views, and no blur at all.
        radii: photograph -> percentiles 5, 50 and 95 of the signed blur radius, pixels.
        beyond: photograph -> the share of radii that the renderer clamps.
        shown: photograph -> ``left``, ``sharp`` (3, H, W) and ``radius`` (H, W), of those that are drawn.
    """

    errors: dict[str, float]
    without: dict[str, float]
    radii: dict[str, list[float]]
    beyond: dict[str, float]
    shown: dict[str, dict[str, Tensor]]

    @property
    def error(self) -> float:
        """The mean over the photographs."""
        return sum(self.errors.values()) / len(self.errors)

    @property
    def error_without(self) -> float:
        """The mean of the errors of no blur at all."""
        return sum(self.without.values()) / len(self.without)


@dataclass
class Adapted:
    """What came of it. The recipe's network holds the best weights.

    Args:
        before: of the weights that came in.
        after: of those with the lowest error, which may be the same.
        curve: step and error at each check, step 0 first.
        best_step: the step of the lowest error.
        steps: those that were made.
        ended: why there were no more.
        held_out: photograph -> whether its error was measured where no training crop lay.
        crop: height and width of the crops, pixels.
    """

    before: Measured
    after: Measured
    curve: list[tuple[int, float]]
    best_step: int
    steps: int
    ended: str
    held_out: dict[str, bool]
    crop: tuple[int, int]


def check_adapts(recipe: Recipe) -> None:
    """Refuse a recipe whose prediction cannot be rendered into the views again.

    Raises:
        DualPixelError: the recipe has no ``radius``, ``rendering`` or ``reblur``, or renders one sign of the two that the network knows.
    """
    missing = [name for name in ("radius", "rendering", "reblur") if not hasattr(recipe, name)]
    if missing:
        raise DualPixelError(
            f"recipe {recipe.name} cannot be adapted: it predicts no blur that is rendered into the views (it has no "
            f"{' and no '.join(missing)}); take one that does, such as dddnet"
        )
    if getattr(recipe, "renders_half", False):
        raise DualPixelError(
            f"the weights know blur of both signs, recipe {recipe.name} renders one: give the configuration that they were trained "
            "with, --recipe runs/RUN/config.yaml"
        )


def read_photographs(recipe: Recipe, paths: Sequence[Any]) -> dict[str, dict[str, Tensor]]:
    """Read the views of all photographs; they stay in memory, as they are stored.

    Args:
        recipe: which asks for its inputs.
        paths: see `dualpixel.data.pairs.find_photographs`.

    Returns:
        Photograph -> {field: (1, H, W, 3) uint8 or uint16}; ``combined`` only where all photographs have it.

    Raises:
        DualPixelError: as `dualpixel.data.pairs.Photographs`.
    """
    photographs = Photographs(paths, list(dict.fromkeys((*recipe.inputs, *VIEWS))))
    common = set.intersection(*(set(files) for _, files in photographs.photographs)) & set(IMAGES)
    samples = (photographs[position] for position in range(len(photographs)))
    return {one["key"]: {name: torch.from_numpy(one[name])[None] for name in sorted(common)} for one in samples}


def adapt_weights(
    recipe: Recipe,
    photographs: dict[str, dict[str, Tensor]],
    settings: Adaptation,
    shown: Sequence[str] = (),
    advance: Callable[[int], Any] = lambda steps: None,
) -> Adapted:
    """Lower the reblur error (Pan et al., "Dual Pixel Exploration", CVPR 2021, equation 11) by all weights of a network.

    The network stays in eval mode: batch normalisation uses the statistics that came with the weights and leaves them as they
    are, since those of a few crops would be worse. The recipe is in training mode, so that nothing is clamped.

    Args:
        recipe: one that `check_adapts` lets pass, on its device; gets the best weights.
        photographs: of `read_photographs`.
        settings: see there.
        shown: photographs of which the prediction before and after is returned.
        advance: called with the number of steps made.

    Returns:
        Errors and predictions before and after.

    Raises:
        DualPixelError: the recipe cannot be adapted, its prediction has no ``blur``, or the weights that come in predict no numbers.
    """
    check_adapts(recipe)
    recipe.net.requires_grad_(True)
    random = np.random.default_rng(settings.seed)
    sizes = {name: next(iter(views.values())).shape[1:3] for name, views in photographs.items()}
    crop = tuple(min(settings.crop_size, *(size[axis] for size in sizes.values())) for axis in (0, 1))
    places = {name: CropPlaces(tuple(size), crop, random) for name, size in sizes.items()}

    def measured() -> Measured:
        return _measure(recipe, photographs, {name: one.evaluated for name, one in places.items()}, shown)

    before = measured()
    wrong = [name for name, error in before.errors.items() if not math.isfinite(error)]
    if wrong:
        raise DualPixelError(
            f"{wrong[0]}: the reblur error of the weights that come in is {before.errors[wrong[0]]}; they are damaged, or for other data"
        )
    curve, best, best_step, lowest = [(0, before.error)], _copied(recipe), 0, before.error
    optimizer = torch.optim.Adam(recipe.net.parameters(), lr=settings.learning_rate)
    names, step, ended = list(photographs), 0, "all steps were made"
    while step < settings.steps:
        chosen = [names[index] for index in random.integers(len(names), size=settings.batch_size)]
        crops = [_cut(photographs[name], places[name].draw(random), recipe.device) for name in chosen]
        batch = {name: torch.cat([one[name] for one in crops]) for name in crops[0]}
        recipe.train()
        recipe.net.eval()
        optimizer.zero_grad()
        loss = _reblur(recipe, batch, recipe(batch))
        if not bool(loss.isfinite()):
            ended = f"the loss was {loss.item()} at step {step + 1}"
            break
        loss.backward()
        optimizer.step()
        step += 1
        advance(1)
        if step % settings.every == 0 or step == settings.steps:
            error = measured().error
            if not math.isfinite(error):
                ended = f"the error was {error} at step {step}"
                break
            curve.append((step, error))
            if curve[-1][1] < lowest:
                best, best_step, lowest = _copied(recipe), step, curve[-1][1]
            elif sum(at > best_step for at, _ in curve) >= settings.patience and step < settings.steps:
                ended = f"the error had not fallen for {settings.patience} checks"
                break
    recipe.net.load_state_dict(best)
    held_out = {name: one.held_out for name, one in places.items()}
    return Adapted(before, measured(), curve, best_step, step, ended, held_out, crop)


@torch.no_grad()
def _measure(
    recipe: Recipe, photographs: dict[str, dict[str, Tensor]], places: dict[str, Place], shown: Sequence[str]
) -> Measured:
    recipe.eval()
    found = Measured({}, {}, {}, {}, {})
    for name, views in photographs.items():
        batch = _cut(views, places[name], recipe.device)
        prediction = recipe(batch)
        found.errors[name] = float(_reblur(recipe, batch, prediction))
        radius, mean = recipe.radius(prediction["blur"]), combine(batch["left"], batch["right"])
        found.without[name] = float(recipe.reblur(mean, torch.zeros_like(radius), batch))
        found.radii[name] = np.percentile(radius.cpu().numpy(), PERCENTILES).tolist()
        found.beyond[name] = float(share_beyond(radius, recipe.rendering.get("maximum_radius", math.inf)))
        if name in shown:
            images = {"left": batch["left"][0], "sharp": prediction["sharp"][0], "radius": radius[0, 0]}
            found.shown[name] = {field: image.float().cpu() for field, image in images.items()}
    return found


def _reblur(recipe: Recipe, batch: Batch, prediction: Prediction) -> Tensor:
    if "blur" not in prediction:
        raise DualPixelError(
            f"recipe {recipe.name} cannot be adapted: it predicts {', '.join(prediction)}, and no blur; take dddnet"
        )
    return recipe.reblur(prediction["sharp"], recipe.radius(prediction["blur"]), batch)


def _cut(views: dict[str, Tensor], place: Place, device: torch.device) -> dict[str, Tensor]:
    return to_floats({name: image[:, place.rows, place.columns].to(device) for name, image in views.items()})


def _copied(recipe: Recipe) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in recipe.net.state_dict().items()}
