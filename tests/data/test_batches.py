"""Tests that batches form exact epochs and depend only on the key and the step."""

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifar_jax.data.batches import BatchOrder

KEY = jax.random.key(0)


@st.composite
def sizes(draw):
    # Only a few sizes, since each compiles its own permutation.
    num_examples = draw(st.sampled_from([1, 2, 12, 13, 40]))
    return num_examples, draw(st.integers(1, num_examples))


def epochs(order, first_step, count):
    """Returns `count` epochs as rows, beginning with the one that starts at a step."""
    num_batches = -(-count * order.num_examples // order.batch_size)
    steps = range(first_step, first_step + num_batches)
    indices = np.concatenate([order(step)["indices"] for step in steps])
    return indices[: count * order.num_examples].reshape(count, -1)


def assert_each_example_once(epochs):
    np.testing.assert_array_equal(
        np.sort(epochs), np.broadcast_to(np.arange(epochs.shape[1]), epochs.shape)
    )


@settings(max_examples=20)
@given(sizes())
@example((12, 4))
@example((12, 12))
@example((13, 4))
@example((13, 12))
def test_every_epoch_visits_every_example_once(sizes):
    assert_each_example_once(epochs(BatchOrder(KEY, *sizes), 0, count=4))


@settings(max_examples=20)
@given(sizes(), st.integers(0, 50))
def test_every_batch_is_full(sizes, step):
    batch = BatchOrder(KEY, *sizes)(step)
    for array in batch.values():
        assert array.shape == (sizes[1],)
        assert array.dtype == np.int32


def test_a_batch_is_a_function_of_the_step_alone():
    forwards, backwards = BatchOrder(KEY, 13, 4), BatchOrder(KEY, 13, 4)
    first = [forwards(step)["indices"] for step in range(30)]
    again = [backwards(step)["indices"] for step in reversed(range(30))]
    np.testing.assert_array_equal(first, again[::-1])


def test_a_batch_spans_the_end_of_an_epoch():
    # Position 12 of epoch 0, then positions 0, 1 and 2 of epoch 1.
    whole = BatchOrder(KEY, 13, 13)
    expected = np.concatenate([whole(0)["indices"][12:], whole(1)["indices"][:3]])
    batch = BatchOrder(KEY, 13, 4)(3)
    np.testing.assert_array_equal(batch["indices"], expected)
    np.testing.assert_array_equal(batch["epochs"], [0, 1, 1, 1])


def test_the_remainder_of_an_epoch_can_be_dropped():
    order = BatchOrder(KEY, 13, 4, drop_remainder=True)
    for epoch in range(2):
        batches = [order(3 * epoch + step) for step in range(3)]
        indices = np.concatenate([batch["indices"] for batch in batches])
        whole = BatchOrder(KEY, 13, 13)(epoch)["indices"]
        np.testing.assert_array_equal(indices, whole[:12])
        for batch in batches:
            np.testing.assert_array_equal(batch["epochs"], [epoch] * 4)


def test_every_epoch_and_key_has_its_own_order():
    order = BatchOrder(KEY, 100, 100)
    other = BatchOrder(jax.random.key(1), 100, 100)
    batches = [order(0), order(1), order(2), other(0), other(1)]
    orders = [np.arange(100), *(batch["indices"] for batch in batches)]
    assert len({tuple(indices) for indices in orders}) == len(orders)


def test_steps_beyond_int32():
    order = BatchOrder(KEY, num_examples=10, batch_size=3)
    step = 10**9  # 3 * 10**9 examples: the start of epoch 3 * 10**8
    assert step * order.batch_size > 2**31
    assert_each_example_once(epochs(order, step, count=3))


@pytest.mark.parametrize("batch_size", [-1, 0, 51])
def test_impossible_batch_sizes_are_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size {batch_size} .* 50 training"):
        BatchOrder(KEY, 50, batch_size)
