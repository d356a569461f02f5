"""Means over seeds, and paired tests between settings."""

import statistics
from collections.abc import Mapping
from typing import NamedTuple

# Values by seed.
BySeed = Mapping[int, float]


class Summary(NamedTuple):
    """A sample of values.

    Attributes:
        n: the number of values, at least 1.
        mean: their mean.
        sd: their sample standard deviation; None for a single value.
        interval: the 95% confidence interval of the mean, from Student's t
            distribution; None for a single value.
    """

    n: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None


def summarize(values: BySeed) -> Summary:
    """Returns the summary of the values of a setting."""
    numbers = list(values.values())
    mean = statistics.fmean(numbers)
    if len(numbers) < 2:
        return Summary(len(numbers), mean, None, None)
    sd = statistics.stdev(numbers)
    return Summary(len(numbers), mean, sd, _interval(mean, sd, len(numbers)))


class Difference(NamedTuple):
    """How a setting differs from a baseline, by the seeds that both have.

    Attributes:
        n: the number of these seeds, at least 1.
        mean: the mean difference.
        interval: its 95% confidence interval; None for a single seed.
        p: the p-value of the paired t-test, two-sided; None for a single seed, or if
            all differences are equal, when there is no test.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None
    p: float | None


def difference(values: BySeed, baseline: BySeed) -> Difference | None:
    """Returns the difference of a setting from a baseline; None without common seeds.

    Runs with the same seed start from the same initial parameters, if the networks are
    the same, and see the same images in the same order. Differences within pairs
    therefore vary less than those between all runs.
    """
    # Imported here because SciPy takes a second.
    from scipy import stats

    common = sorted(values.keys() & baseline.keys())
    if not common:
        return None
    gaps = [values[seed] - baseline[seed] for seed in common]
    n, mean = len(gaps), statistics.fmean(gaps)
    if n < 2:
        return Difference(n, mean, None, None)
    sd = statistics.stdev(gaps)
    if sd == 0:
        return Difference(n, mean, (mean, mean), None)
    p = float(2 * stats.t.sf(abs(mean) / (sd / n**0.5), n - 1))
    return Difference(n, mean, _interval(mean, sd, n), p)


def _interval(mean: float, sd: float, n: int) -> tuple[float, float]:
    from scipy import stats

    half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    return mean - half, mean + half
