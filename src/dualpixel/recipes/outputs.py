"""Which images of a prediction mean something: those that the recipe is trained for."""

from collections.abc import Container

from dualpixel.recipes.base import Recipe

VIEWS = ("left", "right")
OUTPUTS = ("sharp", *VIEWS)


def trained_outputs(recipe: Recipe, *among: Container[str]) -> tuple[str, ...]:
    """Return the outputs of a recipe that are scored, drawn and written.

    An output counts where the recipe is trained towards it, so that it is one of its `targets`, and is not given it as one of
    its `inputs`. A decoder with random weights, as that of the sharp image in MDP's first step, predicts an image, too, but
    nothing to be compared. The two views count together or not at all.

    Args:
        recipe: its `inputs` and `targets` are asked for.
        among: what else must hold an output for it to count, such as the prediction, and the batch with the targets.

    Returns:
        Those of "sharp", "left", "right" that count, in this order.
    """
    found = [
        name
        for name in OUTPUTS
        if name in recipe.targets and name not in recipe.inputs and all(name in one for one in among)
    ]
    both = set(VIEWS) <= set(found)
    return tuple(name for name in found if both or name not in VIEWS)
