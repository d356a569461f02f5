import os
import pathlib
import subprocess
import tempfile

import pytest
from helpers import command, environment, make_dataset

from cifar_jax import Config, Dataset, fit

_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config: pytest.Config) -> None:
    """Lets all workers and subprocesses of one test run share what they compile."""
    if _CACHE not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="cifar_jax_tests_")
        config.add_cleanup(cache.cleanup)
        os.environ[_CACHE] = cache.name


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture(scope="session")
def finished_run(dataset, tmp_path_factory) -> pathlib.Path:
    """The folder of a run of 12 steps, for tests that only read it."""
    train_dir = tmp_path_factory.mktemp("run") / "finished"
    config = Config(max_steps=12, batch_size=8, train_dir=str(train_dir))
    fit(config, dataset, log=lambda line: None)
    return train_dir


@pytest.fixture
def run_command(tmp_path):
    """Runs one of the commands to its end in an empty folder."""

    def run(name: str, *arguments: object, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(name, *arguments),
            **{"cwd": tmp_path, "env": environment(tmp_path)} | options,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
