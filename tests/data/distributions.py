"""Assertions about the distribution of random draws.

Seeds are fixed, so a p-value below `SIGNIFICANCE` means a wrong distribution, not bad
luck.
"""

import numpy as np
from scipy import stats

SIGNIFICANCE = 1e-3


def assert_uniform(draws, low, high):
    draws = np.asarray(draws).ravel()
    width = high - low
    assert low <= draws.min() < low + 1e-3 * width
    assert high - 1e-3 * width < draws.max() < high
    uniform = stats.uniform(loc=low, scale=width)
    assert stats.kstest(draws, uniform.cdf).pvalue > SIGNIFICANCE


def assert_equally_likely(draws, outcomes):
    """Asserts by a chi-square test that 0, 1, ..., outcomes - 1 are equally likely."""
    draws = np.asarray(draws).ravel()
    assert draws.min() >= 0
    assert draws.max() < outcomes
    counts = np.bincount(draws, minlength=outcomes)
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


def assert_independent(first, second):
    """Asserts independence by a chi-square test on the table of pair counts."""
    table = stats.contingency.crosstab(np.ravel(first), np.ravel(second)).count
    assert stats.chi2_contingency(table).pvalue > SIGNIFICANCE
