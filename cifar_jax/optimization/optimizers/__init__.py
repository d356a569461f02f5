"""The optimizers, and the wrappers that can be around them, by name."""

from cifar_jax.errors import UserError
from cifar_jax.optimization.optimizers.adamw import AdamW
from cifar_jax.optimization.optimizers.base import Optimizer, Wrapper
from cifar_jax.optimization.optimizers.lion import Lion
from cifar_jax.optimization.optimizers.muon import Muon
from cifar_jax.optimization.optimizers.sgd import SGD
from cifar_jax.optimization.wrappers.accumulate import Accumulate
from cifar_jax.optimization.wrappers.clip import Clip
from cifar_jax.optimization.wrappers.lookahead import Lookahead
from cifar_jax.optimization.wrappers.schedule_free import ScheduleFree
from cifar_jax.registry import Registry, resolve

__all__ = ["OPTIMIZERS", "Optimizer", "Wrapper", "check"]

OPTIMIZERS: Registry[Optimizer] = Registry(
    Optimizer,
    {
        "sgd": SGD,
        "adamw": AdamW,
        "lion": Lion,
        "muon": Muon,
        "lookahead": Lookahead,
        "clip": Clip,
        "schedule_free": ScheduleFree,
        "accumulate": Accumulate,
    },
)


def check(text: str) -> None:
    """Raises UserError unless a text names an optimizer, and its wrappers fit."""
    optimizer = resolve(text, OPTIMIZERS, "optimizer")
    while isinstance(optimizer, Wrapper):
        # Here too, as a wrapper may have a __post_init__ of its own.
        try:
            Wrapper.__post_init__(optimizer)
        except ValueError as error:
            raise UserError(f"--optimizer={text}: {error}") from None
        optimizer = optimizer.optimizer
