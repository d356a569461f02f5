"""fit_many(): a training run for each of several seeds."""

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from cifar_jax import console
from cifar_jax.checks import check_integer, check_type
from cifar_jax.config.config import Config
from cifar_jax.data import Dataset
from cifar_jax.data.own_order import OrderFunction
from cifar_jax.devices import settings
from cifar_jax.errors import Stopped, UserError
from cifar_jax.models import Network
from cifar_jax.models.variables import Variables
from cifar_jax.runs import config_file
from cifar_jax.training import beginning
from cifar_jax.training.fit import FitResult, fit
from cifar_jax.training.interrupts import StopRequest
from cifar_jax.training.loop import Hook, Moment

# Makes the run of a config, with more hooks.
_Train = Callable[..., FitResult]


def no_hooks(seed: int) -> Sequence[Hook]:
    """Returns no hooks."""
    del seed
    return ()


def fit_many(
    config: Config,
    dataset: Dataset,
    seeds: Iterable[int],
    log: console.Log = console.log,
    hooks: Callable[[int], Sequence[Hook]] = no_hooks,
    model: Network | None = None,
    order: OrderFunction | None = None,
    initial: Variables | None = None,
) -> list[FitResult]:
    """Trains once with each seed; returns the results in the order of the seeds.

    Each result is the one of `fit` with that seed in place of config.seed, to the bit.
    If there is a config.train_dir, the run of seed 3 is in its subfolder `seed=3`, and
    a repeated call resumes what was interrupted and trains no finished run again.

    The runs are made one after another, with one compiled program. If
    config.num_devices is at most half of the devices, as many as there is room for are
    made side by side, and the program is compiled once for the devices of each.

    Args:
        config: what to train; its seed is not used.
        dataset: the data.
        seeds: the seeds, such as range(5).
        log: called with each log line, which begins with the seed.
        hooks: returns what else to do around the steps of a seed's run: new hooks for
            each, since they may keep what they have seen. Side by side, each run's
            hooks are called in a thread of its own.
        model: see `fit`.
        order: see `fit`; it is the same with all seeds.
        initial: see `fit`; the same with all seeds.

    Raises:
        UserError: seeds are not different integers, or see `fit`.
        RunError: see `fit`; the other runs that are in progress are saved and stopped,
            too.
        Stopped: see `fit`; it applies to all runs in progress.
    """
    check_type(config, "config", Config)
    beginning.check_calls([], log)
    if not callable(hooks):
        raise UserError(
            f"hooks={hooks!r} must be a function that returns the hooks of a seed, "
            "such as lambda seed: [MyHook()]"
        )
    configs = [_with_seed(config, seed) for seed in _check_seeds(seeds)]
    _check_train_dir(config.train_dir)
    logging = threading.Lock()

    def train(own: Config, *more: Hook) -> FitResult:
        def log_line(line: str) -> None:
            with logging:
                log(f"seed {own.seed}: {line}")

        given = hooks(own.seed)
        beginning.check_calls(given, log_line)
        every = [*given, *more]
        return fit(own, dataset, log_line, every, model, order, initial)

    groups = _groups(config)[: len(configs)]
    if len(groups) > 1:
        return _train_side_by_side(train, configs, groups)
    return [train(own) for own in configs]


def _check_seeds(seeds: Iterable[int]) -> list[int]:
    """Returns the seeds; raises UserError unless they are different integers."""
    try:
        found = [check_integer(seed, "seeds", at_least=0) for seed in seeds]
    except TypeError:
        raise UserError(f"seeds={seeds!r} must be a list, such as range(5)") from None
    if not found:
        raise UserError("seeds is empty; pass one or more, such as range(5)")
    if twice := sorted({seed for seed in found if found.count(seed) > 1}):
        raise UserError(f"seeds contains {twice[0]} more than once")
    return found


def _with_seed(config: Config, seed: int) -> Config:
    train_dir = config.train_dir
    if train_dir is not None:
        train_dir = str(pathlib.Path(train_dir) / f"seed={seed}")
    return dataclasses.replace(config, seed=seed, train_dir=train_dir)


def _check_train_dir(train_dir: str | None) -> None:
    """Raises UserError if the folder for the runs is itself a run."""
    if train_dir is not None and (pathlib.Path(train_dir) / config_file.NAME).exists():
        raise UserError(
            f"--train_dir={train_dir} holds a single run; choose another one, for a "
            "folder with the runs of all seeds"
        )


def _groups(config: Config) -> list[list[jax.Device]]:
    """Returns the devices of each run that can be made at the same time."""
    devices = settings.devices()
    size = config.num_devices or len(devices)
    # Other processes would have to start the same runs in the same order. JAX has one
    # profiler.
    if jax.process_count() > 1 or config.profile:
        return [devices]
    return [devices[i : i + size] for i in range(0, len(devices) - size + 1, size)]


class _Together(Hook):
    """Lets the next run start once this one has, and stops it when all should stop."""

    def __init__(self, started: Callable[[], None], why_stop: Callable[[], Any]):
        self._started = started
        self._why_stop = why_stop

    def __enter__(self) -> "_Together":
        self._started()
        return self

    def __call__(self, now: Moment) -> None:
        """Asks to stop, which saves the run, if there is a reason."""
        if (reason := self._why_stop()) is not None:
            now.stop(reason)


def _train_side_by_side(
    train: _Train, configs: Sequence[Config], groups: Sequence[list[jax.Device]]
) -> list[FitResult]:
    """Makes runs in threads, one on each group of devices at a time."""
    free: queue.SimpleQueue[list[jax.Device]] = queue.SimpleQueue()
    for group in groups:
        free.put(group)
    # Until its first step, a run changes settings of JAX and Python in all threads.
    starting, failed = threading.Lock(), threading.Event()

    def why_stop() -> Any:
        if request.signum is not None:
            return signal.Signals(request.signum)
        return "another run failed" if failed.is_set() else None

    def one(config: Config) -> FitResult:
        group = free.get()
        try:
            with settings.only(group), contextlib.ExitStack() as start:
                start.enter_context(starting)
                if why_stop() is not None:
                    raise concurrent.futures.CancelledError
                return train(config, _Together(start.close, why_stop))
        except BaseException:
            failed.set()
            raise
        finally:
            free.put(group)

    with (
        StopRequest() as request,
        concurrent.futures.ThreadPoolExecutor(len(groups)) as pool,
    ):
        runs = [pool.submit(one, config) for config in configs]
    for error in (run.exception() for run in runs):
        if not isinstance(error, concurrent.futures.CancelledError | None):
            raise error
    if request.signum is not None:
        raise Stopped(request.signum, "before all runs finished")
    return [run.result() for run in runs]
