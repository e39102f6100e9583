"""Examples in docstrings are run. Walked by name, since importing files of a checkout by path would make a second copy of each."""

import doctest
import importlib
import pkgutil

import pytest

import dualpixel

MODULES = [
    module.name for module in pkgutil.walk_packages(dualpixel.__path__, "dualpixel.") if "_files" not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_some_docstring_has_an_example():
    finder = doctest.DocTestFinder()
    assert any(test.examples for name in MODULES for test in finder.find(importlib.import_module(name)))
