import types

import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import UserError
from cifar_jax.metrics import METRICS
from cifar_jax.metrics.steps import StepResults, measure

GRADS = {"a": {"kernel": jnp.array([[3.0, 0.0]]), "bias": jnp.array([4.0])}}
RESULTS = StepResults(
    logits=jnp.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
    targets=jnp.array([1, 0, 0, 1]),
    grads=GRADS,
    updates={"a": {"kernel": jnp.array([[0.0, 6.0]]), "bias": jnp.array([8.0])}},
    params={"a": {"kernel": jnp.array([[5.0, 0.0]]), "bias": jnp.array([12.0])}},
)


def test_each_metric_is_what_its_name_says():
    found = measure([kind() for kind in METRICS.values()], RESULTS, ())
    expected = {"grad_norm": 5, "update_norm": 10, "param_norm": 13, "accuracy": 0.75}
    assert expected.items() <= {name: float(x) for name, x in found.items()}.items()


def test_accuracy_is_by_the_likeliest_of_soft_targets_and_nan_for_nan():
    soft = jnp.eye(2)[RESULTS.targets] * 0.6 + 0.2
    metric = METRICS["accuracy"]()
    assert metric(RESULTS._replace(targets=soft)) == 0.75
    assert np.isnan(
        metric(RESULTS._replace(logits=RESULTS.logits.at[0, 0].set(np.nan)))
    )


def test_accuracy_is_that_of_the_examples_that_count():
    metric = METRICS["accuracy"]()
    for weights, expected in (([2.0, 2.0, 0.0, 0.0], 1), ([0.0, 2.0, 2.0, 0.0], 0.5)):
        assert metric(RESULTS._replace(weights=jnp.array(weights))) == expected


class Named:
    def __init__(self, name, value):
        self.name = name
        self.value = value

    def __call__(self, step):
        return self.value


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([Named("total_loss", 1.0)], "has the name 'total_loss'; give it one of its"),
        ([Named("a", 1.0), Named("a", 2.0)], "has the name 'a'; give"),
        ([types.SimpleNamespace()], "has the name None; give"),
        ([Named("a", jnp.ones(3))], "must return one number"),
        ([Named("a", None)], "must return one number, not None"),
        ([Named("a", "b")], "must return one number, not 'b'"),
    ],
)
def test_metrics_that_are_none_are_refused(metrics, message):
    with pytest.raises(UserError, match=message):
        measure(metrics, RESULTS, {"total_loss"})
