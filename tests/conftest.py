import gc
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Callable

import filelock
import helpers
import hypothesis
import jax
import jaxtyping
import pytest
from helpers import (
    DIGITS,
    FORMER_EMITTERS,
    SmallBatchNorm,
    SmallNetwork,
    call_in_process,
    command,
    environment,
    make_dataset,
)

from cifar_jax import Config, Dataset, fit, models
from cifar_jax.devices import compilation

_CACHE = "JAX_COMPILATION_CACHE_DIR"
# How long an example takes says nothing on a machine that does other work, too.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
_OPTIMIZED = ("test_golden.py", "test_airbench.py", "test_real_data.py")


def pytest_configure(config: pytest.Config) -> None:
    """Shares compiled programs among all workers and subprocesses of a test run."""
    models.MODELS |= {"small": SmallNetwork, "batch_norm": SmallBatchNorm}
    # Most tests spend longer compiling than running, so XLA may skip optimizations.
    jax.config.update("jax_disable_most_optimizations", True)
    _compile_by_former_emitters()
    # Traces are many small objects, and frequent garbage collection takes a tenth.
    gc.set_threshold(200_000, 50, 50)
    if _CACHE not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="cifar_jax_tests_")
        config.add_cleanup(cache.cleanup)
        os.environ[_CACHE] = cache.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def _compile_by_former_emitters() -> None:
    """Sets FORMER_EMITTERS for unoptimized compilations.

    XLA_FLAGS would also affect the tests that compile the way users do.
    """
    if not FORMER_EMITTERS:
        return
    # A private module, which later versions of JAX may not have.
    from jax._src import compiler

    options_of = compiler.get_compile_options

    def faster(*arguments, env_options_overrides=None, **others):
        if jax.config.values["jax_disable_most_optimizations"]:
            env_options_overrides = FORMER_EMITTERS | (env_options_overrides or {})
        return options_of(
            *arguments, env_options_overrides=env_options_overrides, **others
        )

    compiler.get_compile_options = faster


def pytest_terminal_summary(terminalreporter):
    """Prints the rows that tests have recorded, by any worker, as one table."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
    ]
    rows = [text for r in reports for name, text in r.user_properties if name == "row"]
    if rows:
        terminalreporter.section("networks")
        for row in rows:
            terminalreporter.line(row)


@pytest.fixture(scope="module", autouse=True)
def compile_as_for_users(request):
    """Optimizes as for users if other programs' results matter or data is large."""
    if request.path.name in _OPTIMIZED:
        compilation.forget()
        jax.config.update("jax_disable_most_optimizations", False)
        yield
        compilation.forget()
        jax.config.update("jax_disable_most_optimizations", True)
    else:
        yield


@pytest.fixture(autouse=True)
def optimize_slow_commands(request, monkeypatch):
    """Compiles commands as for users in slow tests, whose commands run for longer.

    Runs that are compared with `digits_run` must be compiled as it was.
    """
    slow = any(map(request.node.get_closest_marker, ("slow", "real_data")))
    optimize = slow and "digits_run" not in request.fixturenames
    monkeypatch.setattr(helpers, "commands_optimize", optimize)


@pytest.fixture(autouse=True)
def pass_wrong_types(request):
    """Disables type checks for tests with the marker `wrong_types`."""
    unchecked = request.node.get_closest_marker("wrong_types") is not None
    jaxtyping.config.update("jaxtyping_disable", unchecked)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture(scope="session")
def make_once(tmp_path_factory):
    """Returns make_once(name, function), which fills a folder once for all workers."""

    def make(name: str, function: Callable[[pathlib.Path], object]) -> pathlib.Path:
        root = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            root = root.parent
        folder = root / name
        with filelock.FileLock(root / f"{name}.lock"):
            if not (done := root / f"{name}.done").exists():
                folder.mkdir()
                function(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def finished_run(dataset, make_once) -> pathlib.Path:
    """Returns the folder of a 12-step run, for tests that only read it."""

    def make(folder: pathlib.Path) -> None:
        config = Config(
            max_steps=12, batch_size=8, model="small", train_dir=str(folder / "run")
        )
        fit(config, dataset, log=lambda line: None)

    return make_once("finished", make) / "run"


@pytest.fixture(scope="session")
def digits_run(make_once) -> pathlib.Path:
    """Returns a folder with log.txt and a 20-step run of the train command in `run`."""

    def make(folder: pathlib.Path) -> None:
        log = subprocess.run(
            command("train", *DIGITS, "--max_steps=20"),
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        (folder / "log.txt").write_text(log.stdout)

    return make_once("digits", make)


@pytest.fixture
def run_command(tmp_path):
    """Runs a command to completion as a process, in an empty folder."""

    def run(name: str, *arguments: object, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(name, *arguments),
            **{"cwd": tmp_path, "env": environment(tmp_path)} | options,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def call_command(tmp_path):
    """Runs a command to completion in this process.

    It is called like `run_command` and returns the same, but saves the seconds that it
    takes to start a new process.
    """

    def call(name: str, *arguments: object, cwd=tmp_path):
        return call_in_process(name, *arguments, cwd=cwd)

    return call


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Returns Keras on JAX; skips the test if it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        # Keras writes its settings there.
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield pytest.importorskip("keras")
