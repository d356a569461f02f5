"""Tests that only the rows that are needed are read."""

import jax
import numpy as np
import pytest
from helpers import OnDisk
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import UserError
from cifar_jax.data.arrays import (
    as_indices,
    blocks,
    bounds,
    empty_images,
    part,
    rows,
    take,
)

ARRAY = np.arange(40, dtype=np.int32).reshape(20, 2)
INDICES = np.array([7, 3, 19, 3, 0])


@pytest.fixture(params=["memory", "memmap", "on disk", "h5py"])
def array(request, tmp_path):
    if request.param == "memory":
        yield ARRAY
    elif request.param == "memmap":
        ARRAY.tofile(tmp_path / "array")
        yield np.memmap(tmp_path / "array", np.int32, "r", shape=ARRAY.shape)
    elif request.param == "on disk":
        yield OnDisk(ARRAY)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "array.h5", "w") as file:
            yield file.create_dataset("array", data=ARRAY)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="others have own memory")
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_the_cpu_uses_images_without_copying_them(count):
    images = empty_images(count, (32, 32, 3))
    images[...] = 7
    assert images.shape == (count, 32, 32, 3)
    on_device = jax.device_put(images)
    assert on_device.unsafe_buffer_pointer() == images.ctypes.data


def test_rows_come_in_the_order_of_their_indices(array):
    found = rows(array, INDICES)
    assert type(found) in (np.ndarray, np.memmap)
    np.testing.assert_array_equal(found, ARRAY[INDICES])
    out = np.zeros((5, 2), np.int32)
    rows(array, INDICES, out=out)
    np.testing.assert_array_equal(out, ARRAY[INDICES])
    assert rows(array, np.zeros(0, int)).shape == (0, 2)


def test_no_other_rows_are_read():
    array = OnDisk(ARRAY)
    rows(array, INDICES)
    assert array.read == [[0, 3, 7, 19]]


def test_blocks_are_the_whole_array(array, monkeypatch):
    monkeypatch.setattr("cifar_jax.data.arrays.BYTES_PER_BLOCK", 24)
    found = list(blocks(array))
    assert [len(block) for block in found] == [3] * 6 + [2]
    np.testing.assert_array_equal(np.concatenate(found), ARRAY)
    assert bounds(array) == (0, 39)


def test_a_row_may_be_larger_than_a_block(array, monkeypatch):
    monkeypatch.setattr("cifar_jax.data.arrays.BYTES_PER_BLOCK", 1)
    assert [len(block) for block in blocks(array)] == [1] * 20


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_part_is_indexed_as_an_array_in_memory(first, last, start, stop):
    array = OnDisk(ARRAY)
    expected, found = ARRAY[first:last], part(array, first, last)
    assert array.read == []
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert len(found) == len(expected)
    for key in (slice(start, stop), slice(-start, None), (slice(start, None), 1)):
        np.testing.assert_array_equal(found[key], expected[key])
    again = part(found, start, stop)
    np.testing.assert_array_equal(again[:], expected[start:stop])
    for number in range(len(expected)):
        np.testing.assert_array_equal(found[number], expected[number])
    with pytest.raises(IndexError):
        found[len(expected)]
    chosen = np.arange(len(expected))[start:stop:2]
    np.testing.assert_array_equal(found[chosen], expected[chosen])
    read = {number for numbers in array.read for number in numbers}
    assert read <= set(range(first, last))


@given(
    st.lists(st.integers(0, 19), min_size=1, max_size=8),
    st.integers(-9, 9),
    st.integers(-9, 9),
)
def test_chosen_rows_are_indexed_as_an_array_in_memory(chosen, start, stop):
    indices = np.array(chosen)
    array = OnDisk(ARRAY)
    expected, found = ARRAY[indices], take(array, indices)
    assert array.read == []
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert len(found) == len(expected)
    for key in (slice(start, stop), (slice(None), 1), -1, (0, slice(1))):
        np.testing.assert_array_equal(found[key], expected[key])
    np.testing.assert_array_equal(part(found, 1, 5)[:], expected[1:5])
    again = np.arange(len(chosen))[::-2]
    np.testing.assert_array_equal(take(found, again)[:], expected[again])
    np.testing.assert_array_equal(rows(found, again), expected[again])
    assert {n for numbers in array.read for n in numbers} <= set(chosen)


def test_chosen_rows_of_a_file_stay_in_it(array):
    found = take(array, INDICES)
    in_memory = type(array) is np.ndarray
    assert isinstance(found, np.ndarray) == in_memory
    np.testing.assert_array_equal(found[:], ARRAY[INDICES])


@given(st.lists(st.booleans(), min_size=1, max_size=9).filter(any))
def test_a_mask_chooses_what_its_indices_do(mask):
    expected = [i for i, chosen in enumerate(mask) if chosen]
    for chosen in (mask, np.array(mask), expected, np.array(expected, np.uint8)):
        found = as_indices(chosen, len(mask))
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([], "there must be at least one of the chosen images"),
        (np.zeros(5, bool), "at least one of"),
        (np.ones(4, bool), "the mask of the chosen images has 4 values, but .* are 5"),
        ([0, 5], "include 5, but there are 5 training images, from 0 to 4"),
        ([-1], "include -1, but there are 5"),
        ([0.0], r"integers .m. or a mask .5., not float64 .1.$"),
        ("first", r"not <U5 .."),
        ([[0]], r"not int64 .1, 1."),
        ([[0], [1, 2]], "by integers or a mask$"),
    ],
)
def test_what_chooses_no_images_is_refused(chosen, message):
    with pytest.raises(UserError, match=message):
        as_indices(chosen, 5)
