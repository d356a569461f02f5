"""Helpers that run experiments in this process or as commands."""

import contextlib
import io
import pathlib
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from unittest import mock

from absl import app, flags
from helpers import environment

ROOT = pathlib.Path(__file__).parents[1]


def quoted(name: str) -> pathlib.Path:
    """Returns the path of the results with this name that the docs quote."""
    (path,) = (ROOT / "experiments").glob(f"*/results/{name}.json")
    return path


def call(run: Callable[[], object], *arguments: object) -> str:
    """Calls a function that ends in `common.run` with flags; returns its output."""
    before = set(flags.FLAGS)
    out = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["experiment", *map(str, arguments)]),
        # absl's own `run` would change logging for all later tests.
        mock.patch.object(
            app, "run", lambda main, flags_parser: main(flags_parser(sys.argv))
        ),
        contextlib.redirect_stdout(out),
    ):
        try:
            run()
        finally:
            for flag in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()
    return out.getvalue()


def call_experiment(name: str, *arguments: object) -> str:
    """Runs an experiment to completion in this process; returns its output."""
    with warnings.catch_warnings():
        # It may already have been imported as a module; here, it is the main module.
        warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)
        return call(
            lambda: runpy.run_module(
                f"experiments.{name}", run_name="__main__", alter_sys=True
            ),
            *arguments,
        )


def run_experiment(name: str, *arguments: object, tmp_path: pathlib.Path) -> str:
    """Runs an experiment to completion as a command; returns its output."""
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
        cwd=ROOT,
        env=environment(tmp_path) | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
