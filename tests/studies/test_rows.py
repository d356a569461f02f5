"""Tests the rows and the table of a study."""

import pytest

from cifar_jax.studies import report


@pytest.mark.parametrize(
    ("minutes", "expected", "cell"),
    [([1.5, 0.25], 1.75, "1.8"), ([None, 2.0], 2.0, "2.0"), ([None, None], None, "-")],
)
def test_minutes_are_of_all_runs_that_recorded_some(minutes, expected, cell):
    total = report.total(minutes)
    assert total == expected
    row = report.row(
        0, {"rate": "1"}, {0: 0.5, 1: 0.6}, {}, others={}, minutes=total, num_examples=9
    )
    header, _, line = report.table([row], "test").splitlines()
    assert header.split("|")[-2].strip() == "minutes"
    assert line.split("|")[-2].strip() == cell
