"""Damaged and odd files of weights."""

import functools
import itertools
import json
import os
import pathlib
import random
import shutil
import struct
from collections.abc import Callable

import jax
import numpy as np
from helpers import call_in_process
from keras_files import layers_of, write

from campaign_parts.attempts import Table, attempt, damaged
from campaign_parts.kills import train
from cifar_jax import load_data, load_exported, models, predict_logits
from cifar_jax.training import trained

KERAS = (".h5", ".weights.h5", ".keras")


def weights(count: int, folder: pathlib.Path, table: Table) -> None:
    """Damages files of weights `count` times, and then reads odd ones."""
    train(folder)
    done = call_in_process("export", "--checkpoint_dir=run", "--out=export", cwd=folder)
    assert done.returncode == 0, done.stderr
    export = folder / "export" / "model.safetensors"
    bundled = folder / trained.PRETRAINED.name
    shutil.copy(trained.PRETRAINED, bundled)
    # The digest of the bundled network is known, where the package has it.
    trained.PRETRAINED = bundled
    readers: dict[pathlib.Path, Callable[[pathlib.Path], object]] = {
        export: _export(export),
        bundled: _export(bundled),
    }
    for ending in KERAS:
        path = write(folder / f"keras{ending}", layers_of("vgg16"))
        readers[path] = _keras(path)
    for path, read in itertools.islice(itertools.cycle(readers.items()), count):
        with damaged(path) as words:
            reading = functools.partial(read, path)
            attempt(table, f"damage of {path.name}", f"{path}: {words}", reading)
    for path, read in readers.items():
        for kind, make in ODD.items():
            odd = folder / kind / path.name
            odd.parent.mkdir(exist_ok=True)
            make(odd, path)
            reading = functools.partial(read, odd)
            attempt(table, f"odd files for {path.name}", f"{odd}", reading)


def _export(path: pathlib.Path) -> Callable[[pathlib.Path], str]:
    """Returns a function that reads a file as an export, and compares its logits."""
    shape = load_exported(path).image_shape
    images = load_data("digits").test.images[:8]
    assert images.shape[1:] == shape
    expected = predict_logits(load_exported(path), images)

    def read(path: pathlib.Path) -> str:
        logits = predict_logits(load_exported(path), images)
        assert np.array_equal(logits, expected), "silently used"
        return "no change"

    return read


def _keras(path: pathlib.Path) -> Callable[[pathlib.Path], str]:
    """Returns a function that reads a file as Keras's, and compares its weights."""
    expected = models.from_keras(path)

    def read(path: pathlib.Path) -> str:
        found = models.from_keras(path)
        same = jax.tree.map(np.array_equal, found, expected)
        if all(jax.tree.leaves(same)):
            return "no change"
        # An .h5 file has no checksum, so some damage cannot be told from weights.
        assert not path.name.endswith(".keras"), "silently used"
        assert jax.tree.all(jax.tree.map(lambda x: np.isfinite(x).all(), found))
        return "other numbers, in a format without checksums"

    return read


def _device(path: pathlib.Path, original: pathlib.Path) -> None:
    path.symlink_to("/dev/zero")


def _no_numbers(path: pathlib.Path, original: pathlib.Path) -> None:
    """Makes the last number of a file NaN."""
    path.write_bytes(original.read_bytes()[:-4] + np.float32(np.nan).tobytes())


def _sparse(path: pathlib.Path, original: pathlib.Path) -> None:
    """Makes a file of 64 GiB, of which nothing is on disk."""
    path.touch()
    os.truncate(path, 1 << 36)


def _huge_header(path: pathlib.Path, original: pathlib.Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 40) + original.read_bytes()[8:])


def _huge_image(path: pathlib.Path, original: pathlib.Path) -> None:
    """Changes the image shape in a safetensors description to one of terabytes."""
    content = original.read_bytes()
    size = struct.unpack("<Q", content[:8])[0] if path.suffix == ".safetensors" else 0
    if size:
        header = json.loads(content[8 : 8 + size])
        text = json.dumps(header["__metadata__"]).replace(
            "[32, 32, 3]", "[1000000, 1000000, 3]"
        )
        header["__metadata__"] = json.loads(text)
        new = json.dumps(header).encode()
        content = struct.pack("<Q", len(new)) + new + content[8 + size :]
    path.write_bytes(content)


ODD: dict[str, Callable[[pathlib.Path, pathlib.Path], object]] = {
    "fifo": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "device": _device,
    "loop": lambda path, _: path.symlink_to(path),
    "missing": lambda path, _: None,
    "empty": lambda path, _: path.touch(),
    "noise": lambda path, _: path.write_bytes(random.randbytes(10_000)),
    "sparse": _sparse,
    "nan": _no_numbers,
    "header": _huge_header,
    "image": _huge_image,
}
