"""Tests an order of the images that is passed to fit()."""

import dataclasses
import functools
import json
import signal

import jax
import numpy as np
import pytest
from helpers import assert_equal_states, latest, silent
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import Config, Stopped, UserError, fit
from cifar_jax.data.batches import BatchOrder
from cifar_jax.data.own_order import OwnOrder
from cifar_jax.training import train_state


def draw(seed, step):
    return np.random.default_rng((seed, step)).integers(64, size=8)


def config(**changes) -> Config:
    values = {"model": "small", "batch_size": 8, "log_frequency": 1}
    return Config(**values | {"max_steps": 10, "train_dir": None} | changes)


@given(st.integers(1, 9), st.integers(9, 20), st.integers(0, 2**31 - 1))
def test_epochs_are_how_often_all_images_could_have_been_seen(batch_size, count, step):
    order = OwnOrder(lambda step: [step % count] * batch_size, count, batch_size)
    batch = order(step)
    assert batch["indices"].tolist() == [step % count] * batch_size
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}
    assert batch["epochs"].tolist() == [step * batch_size // count] * batch_size


def test_the_own_order_of_fit_is_found_again(dataset):
    key = train_state.streams(jax.random.key(0)).order
    usual = BatchOrder(key, len(dataset.train), 8)
    settings = config(max_steps=8)  # one epoch, as epochs differ at batches that span
    expected = fit(settings, dataset, silent).state
    found = fit(settings, dataset, silent, order=lambda step: usual(step)["indices"])
    assert_equal_states(found.state, expected)


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_resumes_with_it_to_the_same_bits(dataset, tmp_path, stream):
    order = functools.partial(draw, 1)
    settings = config(stream=stream, distortions="crop, alternating_flip")
    whole = fit(settings, dataset, silent, order=order)
    other = fit(settings, dataset, silent, order=functools.partial(draw, 2))
    kernels = [r.state.params["head"]["kernel"] for r in (whole, other)]
    assert not np.array_equal(*kernels)
    kept = dataclasses.replace(settings, train_dir=str(tmp_path))

    def stop(line):
        if ": step 3," in line:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        fit(kept, dataset, stop, order=order)
    recorded = json.loads((tmp_path / "config.json").read_text())["order"]
    assert recorded.startswith("draw, SHA-256 ")
    for another, now in (
        (None, r"fit\(\)'s own"),
        (functools.partial(draw, 2), "draw"),
    ):
        with pytest.raises(UserError, match=f"order: {recorded} there, {now}.* now"):
            fit(kept, dataset, silent, order=another)
    resumed = fit(kept, dataset, silent, order=order)
    assert 0 < resumed.steps < 10
    assert_equal_states(resumed.state, whole.state)
    assert_equal_states(latest(tmp_path / "checkpoints", whole.state), whole.state)


def test_indices_may_come_from_a_device(dataset):
    result = fit(
        config(max_steps=2),
        dataset,
        silent,
        order=jax.jit(lambda step: (step + jax.numpy.arange(8)) % 64),
    )
    assert int(result.state.step) == 2


CHANGING = iter(range(50))


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("order", "message"),
    [
        (3, "order=3 must be a function of the step"),
        (lambda step: [1, 2], r"order\(0\) must be integers .8., .* not int64 .2."),
        (lambda step: [0.5] * 8, r"order\(0\) must be .* not float64 .8."),
        (lambda step: [True] * 8, r"not bool .8."),
        (lambda step: [[1], [2, 3]], r"order\(0\) must be integers"),
        (lambda step: None, r"order\(0\) must be integers"),
        (lambda step: [64] * 8, r"order\(0\) contains 64, but there are 64 .* to 63"),
        (lambda step: [-1] * 8, r"order\(0\) contains -1"),
        (lambda step: [step * 20] * 8, r"order\(4\) contains 80"),
        (lambda step: [next(CHANGING)] * 8, "does not always return the same indices"),
    ],
)
def test_what_is_no_order_is_refused(dataset, order, message):
    with pytest.raises(UserError, match=message) as caught:
        fit(config(), dataset, silent, order=order)
    assert "\n" not in str(caught.value)


def test_a_remainder_is_dropped_by_nobody_elses_order(dataset):
    with pytest.raises(UserError, match="--drop_remainder applies to fit"):
        fit(config(drop_remainder=True), dataset, silent, order=lambda step: [0] * 8)
