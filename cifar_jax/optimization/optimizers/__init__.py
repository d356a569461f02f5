"""The optimizers, and the wrappers that can be around them, by name."""

from collections.abc import Callable

from cifar_jax.optimization.optimizers.adamw import AdamW
from cifar_jax.optimization.optimizers.base import Optimizer, Wrapper
from cifar_jax.optimization.optimizers.lion import Lion
from cifar_jax.optimization.optimizers.muon import Muon
from cifar_jax.optimization.optimizers.sgd import SGD
from cifar_jax.optimization.wrappers.accumulate import Accumulate
from cifar_jax.optimization.wrappers.clip import Clip
from cifar_jax.optimization.wrappers.lookahead import Lookahead
from cifar_jax.optimization.wrappers.schedule_free import ScheduleFree

__all__ = ["OPTIMIZERS", "Optimizer", "Wrapper"]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adamw": AdamW,
    "lion": Lion,
    "muon": Muon,
    "lookahead": Lookahead,
    "clip": Clip,
    "schedule_free": ScheduleFree,
    "accumulate": Accumulate,
}
