"""The data sets, by name."""

import dataclasses
import inspect
import os
from collections.abc import Callable
from typing import Any

from cifar_jax.checks import check_integer
from cifar_jax.data import digits, npz
from cifar_jax.data.cifar import cifar10, cifar100
from cifar_jax.data.dataset import Dataset, Split, hold_out_validation
from cifar_jax.data.folder import source as pictures
from cifar_jax.errors import UserError

__all__ = [
    "DATASETS",
    "OPTIONS",
    "RESERVED",
    "Dataset",
    "Split",
    "list_options",
    "load",
]

# Functions of the directory that is given with --data_dir, or None, and of their own
# options, which are keyword arguments with defaults and fields of Config.
DATASETS: dict[str, Callable[..., Dataset]] = {
    "auto": cifar10.load_or_digits,
    "cifar10": cifar10.load,
    "cifar100": cifar100.load,
    "digits": digits.load,
    "folder": pictures.load,
    "npz": npz.load,
}
# Arguments of theirs that are no options.
RESERVED = frozenset({"data_dir", "validation_size", "value_range"})


def load(
    name: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    validation_size: int = 0,
    value_range: tuple[float, float] | None = None,
    **options: Any,
) -> Dataset:
    """Returns a data set.

    Args:
        name: one of DATASETS: "cifar10", "cifar100", "folder" (your own pictures),
            "npz" (your own arrays), "digits" (the stand-in), or "auto": cifar10, and
            the stand-in only if cifar10 is neither on disk nor reachable.
        data_dir: directory of the data; None for the default of the data set.
        validation_size: number of training images to hold out: the last ones, unless
            the data set has a rule of its own.
        value_range: the values of pictures with more than 8 bits that become 0 and 255,
            if there are such pictures; None: those of the training pictures decide.
        options: those of the data set; labels="coarse" of cifar100, for example.

    Raises:
        UserError: an argument cannot be used, the data on disk are damaged, or there
            are none.
        RunError: a download or a preparation failed halfway.
    """
    if not isinstance(name, str) or name not in DATASETS:
        raise UserError(
            f"--dataset={name} is unknown; choose from {', '.join(DATASETS)}"
        )
    validation_size = check_integer(validation_size, "--validation_size", at_least=0)
    function = DATASETS[name]
    known = inspect.signature(function).parameters
    for option, value in options.items():
        if option not in known:
            raise UserError(
                f"--{option}={value} is not an option of --dataset={name}; leave it out"
            )
    given: dict[str, Any] = {**options}
    if value_range is not None and "value_range" in known:
        given["value_range"] = value_range
    if "validation_size" in known:
        dataset = function(data_dir, validation_size=validation_size, **given)
    else:
        dataset = hold_out_validation(function(data_dir, **given), validation_size)
    # An evaluation finds the data set of a run by the name that it was loaded by.
    name = dataset.name if name == "auto" else name
    return dataclasses.replace(dataset, name=name, options=options)


def list_options(name: str) -> frozenset[str]:
    """Returns the names of a data set's options; none if there is no such data set."""
    if name not in DATASETS:
        return frozenset()
    return frozenset(inspect.signature(DATASETS[name]).parameters) - RESERVED


# The options of all data sets.
OPTIONS = frozenset[str]().union(*map(list_options, DATASETS))
