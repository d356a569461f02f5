"""The samplers and pruners of Optuna, by name and with their options."""

import importlib.util
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning

from cifar_jax.errors import UserError
from cifar_jax.registry import Registry, names, resolve

Kind = TypeVar("Kind")

SAMPLERS: dict[str, Callable[..., samplers.BaseSampler]] = {
    "random": samplers.RandomSampler,
    "tpe": samplers.TPESampler,
    "gp": samplers.GPSampler,
}
PRUNERS: dict[str, Callable[..., pruners.BasePruner]] = {
    "none": pruners.NopPruner,
    "median": pruners.MedianPruner,
    "percentile": pruners.PercentilePruner,
    "hyperband": pruners.HyperbandPruner,
    "successive_halving": pruners.SuccessiveHalvingPruner,
}
# What samplers need that Optuna does not depend on.
_NEEDS = {"gp": "torch"}


def _without_hints(made: Callable[..., Kind]) -> Callable[..., Kind]:
    """Returns a class as a function whose options are checked by the class alone."""

    def make(*args: Any, **options: Any) -> Kind:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return made(*args, **options)

    signature = inspect.signature(made)
    make.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            p.replace(annotation=p.empty) for p in signature.parameters.values()
        ],
        return_annotation=signature.empty,
    )
    return make


_SAMPLERS: Registry[samplers.BaseSampler] = Registry(
    samplers.BaseSampler, {k: _without_hints(v) for k, v in SAMPLERS.items()}
)
_PRUNERS: Registry[pruners.BasePruner] = Registry(
    pruners.BasePruner, {k: _without_hints(v) for k, v in PRUNERS.items()}
)


def sampler(text: str, seed: int) -> samplers.BaseSampler:
    """Returns the sampler that a text names, such as `tpe(n_startup_trials=5)`.

    Raises:
        UserError: there is no such sampler, an option cannot be used, or a package that
            the sampler needs is not installed.
    """
    found = resolve(text, _SAMPLERS, "sampler", ("seed",), {"seed": seed})
    [name] = names(text, "sampler")
    if (needed := _NEEDS.get(name)) and importlib.util.find_spec(needed) is None:
        raise UserError(f"--sampler={text} needs {needed}: pip install {needed}")
    return found


def pruner(text: str) -> pruners.BasePruner:
    """Returns the pruner that a text names, such as `median(n_warmup_steps=500)`.

    Raises:
        UserError: there is no such pruner, or an option cannot be used.
    """
    return resolve(text, _PRUNERS, "pruner")
