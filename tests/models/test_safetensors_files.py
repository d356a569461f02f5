"""Tests that safetensors files are read as written, and untrusted ones refused."""

import json
import os

import ml_dtypes
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save

from cifar_jax import UserError
from cifar_jax.models import safetensors_files

RECORD = {"format": 1, "model": "small", "class_names": ["a", "b"]}
VARIABLES = {
    "params": {
        "head": {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}
    },
    "batch_stats": {"block": {"norm": {"mean": np.arange(3, dtype=np.float32)}}},
}


def written(tmp_path, contents: bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(contents)
    return path


def with_arrays(**arrays) -> bytes:
    """Returns a file with these arrays, whose names have dots in the place of /."""
    named = {name.replace(".", "/"): np.asarray(a) for name, a in arrays.items()}
    return save(named, {"config": json.dumps(RECORD)})


def test_what_was_written_is_read(tmp_path):
    statistics = {"statistics": {"mean": np.ones((2, 2, 3), np.float32)}}
    contents = safetensors_files.to_bytes(RECORD, VARIABLES | statistics)
    found = safetensors_files.read(written(tmp_path, contents))
    assert found.description == RECORD
    np.testing.assert_equal(found.variables, VARIABLES)
    np.testing.assert_equal(found.statistics, statistics["statistics"])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_numbers_become_float32(tmp_path, dtype):
    kernel = np.array([0.1, 100], dtype)
    file = written(tmp_path, with_arrays(**{"params.head.kernel": kernel}))
    found = safetensors_files.read(file).variables["params"]["head"]["kernel"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, kernel.astype(np.float32))


WHOLE = safetensors_files.to_bytes(RECORD, VARIABLES)
ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is damaged, or not a safetensors file"),
        (b"\xff" * 100, "is damaged, or not a safetensors file"),
        (WHOLE[:-1], "is damaged, or not a safetensors file"),
        (save({"params/a/b": ONE}), "does not say which network"),
        *(
            (save({"a": ONE}, {"config": text}), "does not say which network")
            for text in (
                *("", "[]", "1", '{"format": 1}', "[" * 100_000),
                json.dumps(RECORD | {"class_names": "ab"}),
                json.dumps(RECORD | {"class_names": [1]}),
                json.dumps(RECORD | {"model": None}),
            )
        ),
        (save({"a": ONE}, {"config": json.dumps(RECORD | {"format": 2})}), "is 2, and"),
        (with_arrays(**{"params.head.bias": np.ones(2)}), "bias is of type F64, not"),
        (with_arrays(**{"params.a.b": np.ones(1, int)}), "params/a/b is of type I64"),
        (
            with_arrays(**{"params.head.bias": np.array([1, np.nan, 3], np.float16)}),
            r"it has non-finite values in params/head/bias \(1 of 3\)",
        ),
        (
            with_arrays(**{"statistics.mean": np.array([1, np.inf], np.float32)}),
            r"it has non-finite values in statistics/mean \(1 of 2\)",
        ),
        (with_arrays(a=ONE), "a is not the name of a variable"),
        (with_arrays(**{"params.a": ONE, "params.a.b": ONE}), "a/b is not the name of"),
    ],
)
def test_other_files_are_refused(tmp_path, contents, message):
    file = written(tmp_path, contents)
    with pytest.raises(UserError, match=message) as caught:
        safetensors_files.read(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.wrong_types
def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.safetensors")
    for path, message in (
        (tmp_path / "fifo.safetensors", "is not a regular file"),
        ("/dev/zero", "is not a regular file"),
        (tmp_path, "is a directory"),
        (tmp_path / "missing.safetensors", "there is no file"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "cannot be read"),
        (None, "path=None must be the name of a file"),
        (b"model.safetensors", "path=b'model.safetensors' must be the name of a file"),
    ):
        with pytest.raises(UserError, match=message):
            safetensors_files.read(path)


def changed(**changes) -> bytes:
    """Returns a file with its sum, but another description or arrays."""
    arrays = {"params/a/kernel": ONE, "params/a/bias": ONE}
    digest = {"digest": safetensors_files.digest(RECORD, arrays)}
    description = RECORD | digest | changes.pop("description", {})
    return save(arrays | changes, {"config": json.dumps(description)})


@pytest.mark.parametrize(
    "content",
    [
        changed(description={"class_names": ["b", "a"]}),
        changed(description={"imports": {"model a": "b"}}),
        changed(description={"digest": ""}),
        changed(description={"digest": 0}),
        changed(description={"digest": [{}]}),
        changed(**{"params/a/bias": 2 * ONE}),
        changed(**{"params/a/bias": np.float16(ONE)}),
        changed(**{"params/a/bias": ONE[:, None]}),
        changed(**{"params/a/more": ONE}),
    ],
)
def test_the_sum_is_that_of_all_that_a_file_says(tmp_path, content):
    assert safetensors_files.read(written(tmp_path, changed()))
    with pytest.raises(UserError, match="its digest does not match, so it is damaged"):
        safetensors_files.read(written(tmp_path, content))


def test_a_file_that_was_saved_again_is_the_same(tmp_path):
    path = written(tmp_path, WHOLE)
    with safetensors.safe_open(path, "np") as file:
        metadata = {"another": "text"} | file.metadata()
    path.write_bytes(save(load_file(path), metadata))
    np.testing.assert_equal(safetensors_files.read(path).variables, VARIABLES)


def test_bfloat16_has_a_sum(tmp_path):
    arrays = {"params": {"a": {"bias": np.ones(3, ml_dtypes.bfloat16)}}}
    content = bytearray(safetensors_files.to_bytes(RECORD, arrays))
    assert safetensors_files.read(written(tmp_path, bytes(content)))
    content[-1] ^= 1
    with pytest.raises(UserError, match="its digest does not match"):
        safetensors_files.read(written(tmp_path, bytes(content)))


def test_a_sum_that_is_known_from_elsewhere(tmp_path):
    path = written(tmp_path, with_arrays(**{"params.head.bias": ONE}))
    sha256 = safetensors_files.digest(RECORD, {"params/head/bias": ONE})
    assert safetensors_files.read(path, sha256).description == RECORD
    with pytest.raises(UserError, match="its digest does not match"):
        safetensors_files.read(path, sha256[::-1])


def test_headers_of_any_size_are_not_read(tmp_path):
    size = 99 << 20
    path = written(tmp_path, size.to_bytes(8, "little") + b'{"a":')
    with path.open("r+b") as file:
        file.truncate(size + 8)  # a file with a hole, which takes no space
    with pytest.raises(UserError, match="its header would have 103,809,024 bytes"):
        safetensors_files.read(path)
