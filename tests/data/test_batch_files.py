"""Tests what the decoders of batch files read and what they refuse."""

import pickle
import zlib

import numpy as np
import pytest
import small_cifar

from cifar_jax.data import batch_files


def test_pickles_written_by_python_3_are_read():
    pixels, labels = small_cifar.arrays()["test_batch"]
    batch = {b"data": pixels, b"labels": labels.tolist(), b"filenames": [b"a.png"]}
    decoded = batch_files.decode_python(pickle.dumps(batch, protocol=2))
    np.testing.assert_array_equal(decoded[0], pixels)
    np.testing.assert_array_equal(decoded[1], labels)


def test_uncompressed_matlab_is_read():
    pixels, labels = small_cifar.arrays()["test_batch"]
    data = small_cifar.matlab_file(pixels, labels, compressed=False)
    decoded = batch_files.decode_matlab(data)
    np.testing.assert_array_equal(decoded[0], pixels)
    np.testing.assert_array_equal(decoded[1], labels)


def test_matlab_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(batch_files, "MAX_BYTES", 1_000_000)
    header = small_cifar.files("matlab")["test_batch.mat"][:128]
    bomb = zlib.compress(bytes(64_000_000))
    data = header + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb

    def decode():
        with pytest.raises(ValueError, match="implausibly large"):
            batch_files.decode_matlab(data)

    assert small_cifar.peak_bytes(decode) < 8_000_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo entry"),
        (b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b".", "bytearray8"),
        (b"\x80\x02\x96" + (1).to_bytes(8, "little") + b"a.", "opcode BYTEARRAY8"),
        (pickle.dumps([1], protocol=2), "not a dict"),
        (b"\x80\x02cbuiltins\neval\n.", "builtins.eval"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
    ],
)
def test_pickle_that_asks_for_memory_or_code_is_rejected(data, words):
    with pytest.raises((ValueError, pickle.UnpicklingError), match=words):
        batch_files.decode_python(data)
