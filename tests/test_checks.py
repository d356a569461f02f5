"""Tests the conversions of values; test_config.py and test_registry.py use them."""

import math
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from cifar_jax.checks import as_kind, check_range


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (np.int64(3), int, 3),
        (3, float, 3.0),
        (np.float32(0.5), float | None, 0.5),
        (None, float | None, None),
        (np.bool_(True), bool, True),
        (pathlib.Path("a"), str, "a"),
        ([1, np.int32(2)], tuple[int, ...], (1, 2)),
        ((), tuple[int, ...], ()),
        ((1, 2), tuple[float, float], (1.0, 2.0)),
        ("max", Literal["max", "mean"], "max"),
        (3, int | Literal["all"], 3),
        ("all", int | Literal["all"], "all"),
        (abs, Callable[[int], int], abs),
        ("anything", Any, "anything"),
        (3, object, 3),
    ],
)
def test_values_become_what_their_annotation_says(value, kind, expected):
    found = as_kind("x", value, kind)
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(found, tuple):
        assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, int, "x=True must be an integer"),
        (1, bool, "x=1 must be True or False"),
        (1.0, int | None, "x=1.0 must be an integer or None"),
        ("3", float, "x='3' must be a number"),
        (math.inf, float, "x=inf is not a finite number"),
        (10**400, float, "is not a finite number"),
        ((1.0, math.nan), tuple[float, ...], "is not a finite number"),
        (3, tuple[int, ...], "x=3 must be a list of integers"),
        ((1, 2.5), tuple[int, ...], r"x=\(1, 2.5\) must be a list of integers"),
        ((1, 2), tuple[int, int, int], r"x=\(1, 2\) must be a list of 3 integers"),
        ("median", Literal["max", "mean"], "x='median' must be one of max, mean"),
        ("any", int | Literal["all"], "x='any' must be an integer or all"),
    ],
)
def test_other_values_are_refused(value, kind, message):
    with pytest.raises(ValueError, match=message):
        as_kind("x", value, kind)


def test_each_number_of_a_tuple_must_be_in_the_range():
    check_range("x", (1, 2, 3), at_least=1, at_most=3)
    with pytest.raises(ValueError, match=r"x=\(1, 2, 3\) must be below 3"):
        check_range("x", (1, 2, 3), below=3)
