"""The searches of the adapters, as somebody finds them who asks for help."""

import inspect

import numpy as np
import pytest

import aum_core

SEARCHES = ("find_mislabeled", "find_by_posterior")


@pytest.mark.parametrize("name", SEARCHES)
def test_help_is_about_the_search_of_the_adapter(adapter, name):
    find = getattr(adapter, name)
    assert inspect.isfunction(find)
    assert find.__name__ == name
    assert find.__module__ == adapter.__name__
    documented = inspect.getdoc(find)
    assert documented.startswith("Find the wrong labels of ")
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in documented, section
    for parameter in inspect.signature(find).parameters:
        assert parameter in documented, parameter


@pytest.mark.parametrize("name", SEARCHES)
def test_the_calculator_is_the_adapters_unless_another_is_given(adapter, name, tmp_path):
    seen = []

    def train(targets, num_classes, calculator):
        seen.append(type(calculator))
        calculator.add_totals(aum_core.Totals())

    def mine(*arguments, **options):
        return Mine(*arguments, **options)

    class Mine(aum_core.AUMCalculator):
        pass

    for options, wanted in (({}, adapter.AUMCalculator), ({"calculator": mine}, Mine)):
        with pytest.raises(ValueError, match=r"measured nothing|no other scores"):
            getattr(adapter, name)(train, np.array([0, 1] * 10), 2, save_dir=tmp_path, **options)
        assert seen.pop() is wanted
