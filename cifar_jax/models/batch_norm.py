"""How BatchNorm behaves in training, wherever it is in a network."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flax import linen as nn
from flax.linen.module import InterceptorContext


@contextlib.contextmanager
def in_training(frozen: Sequence[str], axis_name: str | None) -> Iterator[None]:
    """Makes every `flax.linen.BatchNorm` applied in this context train as it should.

    It uses the statistics of the whole batch, however many devices share the batch. If
    all its parameters are frozen, it normalizes by its running averages, which then
    stay as they are.

    Args:
        frozen: patterns for the full names of parameters that are not trained.
        axis_name: the mesh axis that shares the batch, under pmap.
    """

    def call(
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: InterceptorContext,
    ) -> Any:
        norm = context.module
        if isinstance(norm, nn.BatchNorm) and context.method_name == "__call__":
            # Modules are frozen, but a bound one is a copy for this call of `apply`.
            if axis_name is not None:
                object.__setattr__(norm, "axis_name", axis_name)
            if _is_frozen(norm, frozen):
                object.__setattr__(norm, "use_running_average", True)
                args, kwargs = args[:1], {**kwargs, "use_running_average": None}
        return function(*args, **kwargs)

    with nn.intercept_methods(call):
        yield


def _is_frozen(norm: nn.BatchNorm, patterns: Sequence[str]) -> bool:
    """Returns whether all parameters match, or all averages if it has no parameters."""
    uses = {"scale": norm.use_scale, "bias": norm.use_bias}
    names = [name for name, used in uses.items() if used] or ["mean", "var"]
    paths = ["/".join((*norm.path, name)) for name in names]
    return all(any(re.fullmatch(p, path) for p in patterns) for path in paths)
