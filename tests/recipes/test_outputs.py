from types import SimpleNamespace

import pytest

from dualpixel.recipes.outputs import trained_outputs

ALL = ("sharp", "left", "right")


def recipe(inputs, targets):
    return SimpleNamespace(inputs=inputs, targets=targets)


@pytest.mark.parametrize(
    ("inputs", "targets", "expected"),
    [
        (("left", "right"), ("sharp",), ("sharp",)),  # DPDNet
        (("combined",), ("left", "right", "sharp"), ALL),  # MDP, second step
        (("combined",), ("left", "right"), ("left", "right")),  # first step: sharp has random weights
        (("left", "right"), ("left", "right", "sharp"), ("sharp",)),  # an input is not scored
        (("combined",), ("left", "sharp"), ("sharp",)),  # one view alone says nothing of disparity
        (("combined",), (), ()),
    ],
)
def test_what_a_recipe_is_trained_for_counts(inputs, targets, expected):
    assert trained_outputs(recipe(inputs, targets)) == expected
    assert trained_outputs(recipe(inputs, targets), ALL, {*ALL, "depth"}) == expected


def test_what_is_not_predicted_or_not_in_the_batch_does_not_count():
    mdp = recipe(("combined",), ALL)
    assert trained_outputs(mdp, {"sharp": 0}, ALL) == ("sharp",)
    assert trained_outputs(mdp, ALL, {"left": 0, "right": 0, "combined": 0}) == ("left", "right")
    assert trained_outputs(mdp, ("left", "sharp"), ("right", "sharp")) == ("sharp",)
