"""Optimizers and their wrappers, by name."""

from cifar_jax.errors import UserError
from cifar_jax.optimization.optimizers.adamw import AdamW
from cifar_jax.optimization.optimizers.base import Optimizer, Wrapper, innermost
from cifar_jax.optimization.optimizers.lion import Lion
from cifar_jax.optimization.optimizers.muon import Muon
from cifar_jax.optimization.optimizers.optax_by_name import from_optax
from cifar_jax.optimization.optimizers.sgd import SGD
from cifar_jax.optimization.wrappers.accumulate import Accumulate
from cifar_jax.optimization.wrappers.clip import Clip
from cifar_jax.optimization.wrappers.lookahead import Lookahead
from cifar_jax.optimization.wrappers.sam import SAM
from cifar_jax.optimization.wrappers.schedule_free import ScheduleFree
from cifar_jax.registry import Registry, resolve

__all__ = ["OPTIMIZERS", "Optimizer", "Wrapper", "check", "innermost"]

OPTIMIZERS: Registry[Optimizer] = Registry(
    Optimizer,
    {
        "sgd": SGD,
        "adamw": AdamW,
        "lion": Lion,
        "muon": Muon,
        "optax": from_optax,
        "lookahead": Lookahead,
        "clip": Clip,
        "sam": SAM,
        "schedule_free": ScheduleFree,
        "accumulate": Accumulate,
    },
)


def check(text: str) -> None:
    """Raises UserError unless a text names an optimizer whose wrappers fit."""
    optimizer = resolve(text, OPTIMIZERS, "optimizer")
    while isinstance(optimizer, Wrapper):
        # Checked here too, since a wrapper may override __post_init__.
        try:
            Wrapper.__post_init__(optimizer)
        except ValueError as error:
            raise UserError(f"--optimizer={text}: {error}") from None
        optimizer = optimizer.optimizer
