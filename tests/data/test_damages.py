"""Tests that any damage to a file is refused in one line, or changes nothing."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pytest
import small_cifar
from helpers import assert_equal_states
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxtyping import PyTree
from keras_files import Layer, write
from mutations import mutated

from cifar_jax import UserError, models
from cifar_jax.data import npz
from cifar_jax.data.cifar import archives, tfds_builder
from cifar_jax.models import safetensors_files

HEAD = {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}


class Kind(NamedTuple):
    """How to write a file into a folder, and how to read it from the returned path."""

    write: Callable[[pathlib.Path], pathlib.Path]
    read: Callable[[pathlib.Path], PyTree]
    name: str = "."  # of the file, if a folder is read
    has_sums: bool = True


def arrays(parts) -> PyTree:
    return [[np.asarray(part.images), part.labels] for part in parts]


def archive(kind: str, published=small_cifar.CIFAR10) -> Kind:
    def read(path):
        layout = small_cifar.layout(kind, published)
        return arrays(archives.read(published, path, layout))

    return Kind(
        lambda folder: small_cifar.write_archive(folder, kind, published=published),
        read,
    )


def unpacked(kind: str, published=small_cifar.CIFAR100) -> Kind:
    contents = small_cifar.files(kind, published=published)

    def write(folder):
        return small_cifar.write_folder(folder / kind, contents)

    return Kind(write, archive(kind, published).read, next(iter(contents)), False)


def write_npz(folder: pathlib.Path) -> pathlib.Path:
    images, labels = (
        np.arange(288, dtype=np.uint8).reshape(6, 4, 4, 3),
        np.arange(6) % 3,
    )
    parts = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(folder / "data.npz", **parts)
    return folder / "data.npz"


def read_npz(path: pathlib.Path) -> PyTree:
    dataset = npz.load(path)
    return arrays([dataset.train, dataset.test])


def write_safetensors(folder: pathlib.Path) -> pathlib.Path:
    record = {"format": 1, "model": "small", "class_names": ["a", "b"]}
    path = folder / "model.safetensors"
    path.write_bytes(safetensors_files.to_bytes(record, {"params": {"head": HEAD}}))
    return path


def read_safetensors(path: pathlib.Path) -> PyTree:
    found = safetensors_files.read(path)
    # Damage to its name only makes the digest unusable.
    names = ("format", "model", "class_names")
    return found.variables, found.statistics, [found.description[x] for x in names]


def prepared(pattern: str) -> Kind:
    published = small_cifar.CIFAR10

    def write(folder):
        archive = small_cifar.write_archive(folder, published=published)
        tfds_builder.prepare(published, folder, archive)
        [path] = tfds_builder.prepared_folder(published, folder).glob(pattern)
        path.rename(folder / "file")
        path.symlink_to(folder / "file")
        return folder

    def read(path):
        return arrays(tfds_builder.read_prepared(published, path))

    return Kind(write, read, "file")


KINDS = {
    **{f"{kind} archive": archive(kind) for kind in small_cifar.KINDS},
    **{f"unpacked {kind} files": unpacked(kind) for kind in small_cifar.KINDS},
    "arrays in a .npz file": Kind(write_npz, read_npz),
    "weights in a .safetensors file": Kind(write_safetensors, read_safetensors),
    "weights in a .keras file": Kind(
        lambda folder: write(folder / "a.keras", [Layer("head", "dense", HEAD)]),
        models.from_keras,
    ),
    "TFDS's images": prepared("*test.array_record*"),
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """Returns a kind, the path to read, and its contents."""
    kind = KINDS[request.param]
    path = kind.write(tmp_path_factory.mktemp("whole"))
    return kind, path, kind.read(path), (path / kind.name).read_bytes()


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_it_is_refused_on_one_line_or_reads_the_same(whole, data):
    kind, path, expected, content = whole
    (path / kind.name).write_bytes(data.draw(mutated(content)))
    refused = None
    try:
        found = kind.read(path)
    except UserError as error:
        refused = str(error)
    if refused:
        assert str(path) in refused
        assert "\n" not in refused
    elif kind.has_sums:
        assert_equal_states(found, expected)
    else:
        assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, expected)
