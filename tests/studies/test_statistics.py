import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_jax.studies.statistics import difference, summarize

precision = st.floats(0, 1).map(lambda number: round(number, 4))
samples = st.dictionaries(st.integers(0, 9), precision, min_size=2)


@given(samples)
def test_means_and_intervals_are_those_of_scipy(values):
    found = summarize(values)
    numbers = list(values.values())
    assert (found.n, found.mean) == (len(numbers), pytest.approx(np.mean(numbers)))
    assert found.sd == pytest.approx(np.std(numbers, ddof=1))
    if found.sd > 1e-9:
        interval = stats.ttest_1samp(numbers, 0).confidence_interval(0.95)
        assert found.interval == pytest.approx(tuple(interval))


@given(samples, samples)
def test_differences_are_those_of_the_paired_test_of_scipy(values, baseline):
    found = difference(values, baseline)
    common = sorted(values.keys() & baseline.keys())
    if not common:
        assert found is None
        return
    ours, theirs = ([each[seed] for seed in common] for each in (values, baseline))
    gaps = np.subtract(ours, theirs)
    assert (found.n, found.mean) == (len(common), pytest.approx(gaps.mean()))
    if len(common) == 1:
        assert found.interval is None
        assert found.p is None
    elif np.ptp(gaps) > 1e-9:
        expected = stats.ttest_rel(ours, theirs)
        assert found.p == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert found.interval == pytest.approx(tuple(interval))


def test_a_single_value_has_no_spread():
    assert summarize({3: 0.5}) == (1, 0.5, None, None)


def test_equal_differences_have_no_test():
    found = difference({0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.25})
    assert found == (2, 0.25, (0.25, 0.25), None)
    assert difference({0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}).p is None
