"""Helpers shared by the tests: small networks and data, commands and comparisons."""

import contextlib
import importlib
import io
import os
import pathlib
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import pytest
from flax import linen as nn
from jaxtyping import PyTree

from cifar_jax import Config, Dataset, Network, Split, fit, load_trained, read_run
from cifar_jax import command as command_lib
from cifar_jax.devices import sharding
from cifar_jax.devices.strategies import STRATEGIES, Strategy
from cifar_jax.runs import checkpoints

# Writes the official CIFAR-10 archive, if a copy of the images is available.
UNPACK = pathlib.Path(__file__).parents[2] / "shared" / "cifar10" / "unpack.py"
# They halve the time of unoptimized compilations, but JAX 0.12 does not have them.
FORMER_EMITTERS = (
    {
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_parallel_codegen_split_count": 1,
    }
    if jax.__version_info__ < (0, 11)
    else {}
)
# Whether commands compile as they do for users even if the tests do not.
commands_optimize = False
# The flags of `digits_run` except for --max_steps.
DIGITS = (
    *("--dataset=digits", "--batch_size=8", "--train_dir=run"),
    *("--validation_size=97", "--log_frequency=1"),
)


class SmallBatchNorm(Network):
    """A convolution, BatchNorm and a head, to test running statistics."""

    classifier = ("head",)

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(8, (3, 3), strides=2, use_bias=False, name="conv")(images)
        x = self.batch_norm("norm", train)(x)
        x = self.tap("conv", nn.relu(x)).mean(axis=(1, 2))
        return self.tap("head", nn.Dense(self.num_classes, name="head")(x))


class SmallNetwork(Network):
    """Two dense layers on a downscaled image; compiles within a second."""

    weight_decays = {"hidden": 1}  # noqa: RUF012
    classifier = ("head",)

    @nn.compact
    def __call__(self, images, train=False):
        n, height = images.shape[:2]
        small = images.reshape(n, 8, height // 8, 8, -1, 3)
        x = small.mean(axis=(2, 4)).reshape(n, -1)
        x = self.tap("hidden", nn.relu(nn.Dense(32, name="hidden")(x)))
        return self.tap("head", nn.Dense(self.num_classes, name="head")(x))


class Dropping(Network):
    """Drops half of its inputs in training."""

    @nn.compact
    def __call__(self, images, train=False):
        x = images[:, ::4, ::4].reshape(len(images), -1)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return self.tap("head", nn.Dense(self.num_classes, name="head")(x))


def make_dataset(train: int = 64, test: int = 20, seed: int = 0) -> Dataset:
    """Returns noisy images of three colors that a network can tell apart."""
    random = np.random.RandomState(seed)

    def split(n: int) -> Split:
        labels = random.randint(0, 3, n).astype(np.int32)
        images = random.randint(0, 128, (n, 32, 32, 3), dtype=np.uint8)
        images[np.arange(n), :, :, labels] += 100
        return Split(images, labels)

    parts = split(train), split(test)
    names = ("red", "green", "blue")
    return Dataset.create("cifar10", *parts, class_names=names, source="a test")


def silent(line: str) -> None:
    """Discards a log line."""


def logged_losses(config: Config, dataset: Dataset) -> list[float]:
    """Trains, and returns the losses in the log lines."""
    lines: list[str] = []
    fit(config, dataset, log=lines.append)
    return [float(x.split("loss = ")[1].split()[0]) for x in lines if "loss = " in x]


class OnDisk:
    """An array whose rows are read as from an HDF5 file, and never all at once."""

    def __init__(self, array: np.ndarray):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.read: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key):
        first = key[0] if isinstance(key, tuple) else key
        if isinstance(first, np.ndarray):
            assert (np.diff(first) > 0).all()
        self.read.append(np.atleast_1d(np.arange(len(self))[first]).tolist())
        return self._array[key]

    def __array__(self, *arguments, **options):
        raise AssertionError("the whole array is read")


def command(name: str, *arguments: object) -> list[str]:
    """Returns a `python -m cifar_jax.NAME` command in which our warnings are errors."""
    return [
        *(sys.executable, "-W", "error:::cifar_jax", "-m", f"cifar_jax.{name}"),
        *map(str, arguments),
    ]


def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    """Returns an environment that keeps the user's own files out of reach.

    Commands compile as fast as the tests do, if those do, except in slow tests: see
    conftest.py.
    """
    variables = {
        "TFDS_DATA_DIR": str(tmp_path / "tfds"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    unoptimized = jax.config.values["jax_disable_most_optimizations"]
    if unoptimized and not commands_optimize:
        flags_ = (f"--{k}={str(v).lower()}" for k, v in FORMER_EMITTERS.items())
        variables["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *flags_))
        variables["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "True"
    return os.environ | variables


def call_in_process(
    name: str, *arguments: object, cwd: pathlib.Path
) -> subprocess.CompletedProcess:
    """Runs a command to completion in this process, as if in a folder."""
    module = importlib.import_module(f"cifar_jax.{name}")
    words = [f"cifar_jax/{name}.py", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", words),
        mock.patch.dict(os.environ, {"TFDS_DATA_DIR": str(cwd / "tfds")}),
        # It must not be called after JAX has started, and there is only one process.
        mock.patch("jax.distributed.initialize"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            command_lib.run(module.main, module.define_flags, module.__doc__)
        except SystemExit as exit_:
            code = exit_.code
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def started(folder: pathlib.Path, name: str, *arguments: object, **options):
    """Starts a command in a folder and kills it when the context ends."""
    process = subprocess.Popen(
        command(name, *arguments),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen, text: str) -> list[str]:
    """Returns a process's lines up to one with this text; fails without such a line."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    pytest.fail(f"{text!r} never came: {lines} {process.stderr.read()}")


def assert_one_line(result: subprocess.CompletedProcess, status: int, *words: str):
    """Asserts that a command failed with this status and one line with these words."""
    assert result.returncode == status, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the contents of all files below a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def state_of(folder: pathlib.Path, step: int) -> list[np.ndarray]:
    """Returns the raw and averaged variables of a run's checkpoint."""
    run = read_run(folder)
    trees = [load_trained(run, step, raw_params=raw).variables for raw in (True, False)]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trees)]


def assert_equal_states(found: PyTree, expected: PyTree) -> None:
    """Asserts that trees have the same leaves, to the bit; names one that differs."""
    found, expected = map(_named_leaves, (found, expected))
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name, strict=True)


def _named_leaves(tree: PyTree) -> dict[str, np.ndarray]:
    def raw(leaf: object) -> np.ndarray:
        is_key = jax.dtypes.issubdtype(
            getattr(leaf, "dtype", None), jax.dtypes.prng_key
        )
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): raw(leaf) for path, leaf in leaves}


def damages():
    """Returns functions that damage a file, by name."""

    def flip(path: pathlib.Path) -> None:
        content = bytearray(path.read_bytes() or b"\0")
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def truncate(path: pathlib.Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return {
        "flipped": flip,
        "truncated": truncate,
        "emptied": lambda path: path.write_bytes(b""),
        "missing": pathlib.Path.unlink,
    }


def strategy(mode: str = "jit", num_devices: int = 1) -> Strategy:
    """Returns a strategy on the first devices."""
    return STRATEGIES[mode](sharding.create_mesh(num_devices))


def latest(directory: pathlib.Path, like: PyTree) -> PyTree | None:
    """Returns the state of the newest intact checkpoint, or None."""
    step = checkpoints.newest_step(directory)
    return None if step is None else checkpoints.restore(directory, step, like)
