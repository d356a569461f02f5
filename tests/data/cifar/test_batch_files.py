"""Tests what the decoders of batch files read and what they refuse."""

import pickle
import zlib

import numpy as np
import pytest
import small_cifar

from cifar_jax.data.cifar import batch_files

LIMIT = 100_000


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("as_text", [False, True])
def test_pickles_written_by_python_3_are_read(published, protocol, as_text):
    pixels, labels = next(iter(small_cifar.arrays(published=published).values()))
    keys = small_cifar.keys(published)
    batch = {b"data": pixels, b"filenames": [b"a.png"]}
    for key, column in zip(keys, labels.T, strict=True):
        batch[key.encode()] = column.tolist()
    if as_text:
        batch = {key.decode(): value for key, value in batch.items()}
    data = pickle.dumps(batch, protocol)
    decoded = batch_files.decode_python(data, keys, LIMIT)
    np.testing.assert_array_equal(decoded[0], pixels)
    np.testing.assert_array_equal(decoded[1], labels)


def test_uncompressed_matlab_is_read(published):
    pixels, labels = next(iter(small_cifar.arrays(published=published).values()))
    keys = small_cifar.keys(published)
    data = small_cifar.matlab_file(pixels, labels, keys, compressed=False)
    decoded = batch_files.decode_matlab(data, keys, LIMIT)
    np.testing.assert_array_equal(decoded[0], pixels)
    np.testing.assert_array_equal(decoded[1], labels)


@pytest.mark.parametrize("kind", small_cifar.KINDS)
def test_labels_are_told_apart_by_their_keys(kind):
    pixels, labels = small_cifar.arrays(published=small_cifar.CIFAR100)["train"]
    data = small_cifar.encode(kind, pixels, labels, small_cifar.CIFAR100)
    decode = small_cifar.layout(kind).format.decode
    coarse, fine = decode(data, ["coarse_labels", "fine_labels"], LIMIT)[1].T
    np.testing.assert_array_equal(coarse, labels[:, 0])
    np.testing.assert_array_equal(fine, labels[:, 1])


@pytest.mark.parametrize("kind", ["python", "matlab"])
def test_files_without_one_of_the_labels_are_rejected(kind):
    pixels, labels = small_cifar.arrays()["test_batch"]
    data = small_cifar.ENCODERS[kind](pixels, labels, ["fine_labels"])
    decode = small_cifar.layout(kind).format.decode
    with pytest.raises(ValueError, match="coarse_labels"):
        decode(data, ["coarse_labels", "fine_labels"], LIMIT)


def test_lists_of_labels_of_different_lengths_are_rejected():
    pixels = np.zeros((2, 3072), np.uint8)
    batch = {b"data": pixels, b"coarse_labels": [1, 2], b"fine_labels": [3]}
    with pytest.raises(ValueError, match="inhomogeneous"):
        batch_files.decode_python(
            pickle.dumps(batch, protocol=2), ["coarse_labels", "fine_labels"], LIMIT
        )


def test_matlab_bomb_is_not_unpacked():
    header = small_cifar.files("matlab")["test_batch.mat"][:128]
    bomb = zlib.compress(bytes(64_000_000))
    data = header + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb

    def decode():
        with pytest.raises(ValueError, match="implausibly large"):
            batch_files.decode_matlab(data, ["labels"], 1_000_000)

    assert small_cifar.peak_bytes(decode) < 8_000_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo entry"),
        (b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b".", "bytearray8"),
        (b"\x80\x04\x8f.", "opcode EMPTY_SET"),
        (b"\x80\x04\x8e" + (10**12).to_bytes(8, "little") + b".", "bytes8"),
        (b"}p2147483647\n.", "memo entry"),
        (pickle.dumps({b"data": [], b"labels": []}, 5), "object has no attribute"),
        # An array of a claimed length, without its bytes.
        (
            b"\x80\x04}(X\x06\x00\x00\x00labels]X\x04\x00\x00\x00data"
            b"cnumpy.core.numeric\n_frombuffer\n(J\xff\xff\xff\x7f"
            b"cnumpy\ndtype\n(U\x02u1tRK\x00\x85X\x01\x00\x00\x00CtRu.",
            "bytes-like object is required|expected|buffer",
        ),
        (pickle.dumps([1], protocol=2), "not a dict"),
        (b"\x80\x02cbuiltins\neval\n.", "builtins.eval"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
    ],
)
def test_pickle_that_asks_for_memory_or_code_is_rejected(data, words):
    def decode():
        errors = (ValueError, TypeError, AttributeError, pickle.UnpicklingError)
        with pytest.raises(errors, match=words):
            batch_files.decode_python(data, ["labels"], LIMIT)

    assert small_cifar.peak_bytes(decode) < 8_000_000
