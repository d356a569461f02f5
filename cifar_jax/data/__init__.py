"""The data sets, by name."""

import dataclasses
import inspect
import os
from collections.abc import Callable
from typing import Any

from cifar_jax.checks import check_integer
from cifar_jax.data import changes, digits, npz
from cifar_jax.data.cifar import cifar10, cifar100
from cifar_jax.data.dataset import Dataset, hold_out_validation
from cifar_jax.data.folder import source as pictures
from cifar_jax.data.split import Split
from cifar_jax.errors import UserError
from cifar_jax.registry import canonicalize

__all__ = [
    "DATASETS",
    "OPTIONS",
    "RESERVED",
    "Dataset",
    "Split",
    "list_options",
    "load",
]

# Each function takes the directory from --data_dir, or None, and its own options:
# keyword arguments with defaults that are also fields of Config.
DATASETS: dict[str, Callable[..., Dataset]] = {
    "auto": cifar10.load_or_digits,
    "cifar10": cifar10.load,
    "cifar100": cifar100.load,
    "digits": digits.load,
    "folder": pictures.load,
    "npz": npz.load,
}
# Arguments of these functions that are not options.
RESERVED = frozenset({"data_dir", "validation_size", "value_range"})
# Options of every data set.
CHOICES = frozenset({"data_changes", "train_size"})


def load(
    name: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    validation_size: int = 0,
    value_range: tuple[float, float] | None = None,
    *,
    data_changes: str = "",
    train_size: int | None = None,
    **options: Any,
) -> Dataset:
    """Loads a data set by name.

    Args:
        name: one of DATASETS: "cifar10", "cifar100", "folder" (your own pictures),
            "npz" (your own arrays), "digits" (the stand-in), or "auto", which is
            cifar10, or the stand-in if cifar10 is neither on disk nor reachable.
        data_dir: data directory; None for the data set's default.
        validation_size: number of training images to hold out: the last ones, unless
            the data set has its own rule.
        value_range: the values that become 0 and 255 in pictures with more than 8 bits,
            if there are any; None to take them from the training pictures.
        data_changes: changes after images have been held out, in this order, such as
            "long_tail(100), label_noise(0.4)"; see DATA_CHANGES.
        train_size: number of training images to choose at last, the same share of each
            class, as by `sample(N)`; None for all.
        options: options of the data set, such as labels="coarse" for cifar100.

    Raises:
        UserError: an argument is invalid, or the data on disk are damaged or missing.
        RunError: downloading or preparing the data failed midway.
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
    # Evaluation looks up a run's data set by the name that it was loaded under.
    name = dataset.name if name == "auto" else name
    if data_changes:
        dataset = changes.apply(dataset, data_changes)
        options["data_changes"] = canonicalize(data_changes, "data_changes")
    if train_size is not None:
        train_size = check_integer(train_size, "--train_size", at_least=1)
        dataset = changes.Sample(train_size)(dataset)
        options["train_size"] = train_size
    return dataclasses.replace(dataset, name=name, options=options)


def list_options(name: str) -> frozenset[str]:
    """Returns the names of a data set's options; none if the data set is unknown."""
    if name not in DATASETS:
        return frozenset()
    return frozenset(inspect.signature(DATASETS[name]).parameters) - RESERVED


# The options of all data sets.
OPTIONS = CHOICES.union(*map(list_options, DATASETS))
