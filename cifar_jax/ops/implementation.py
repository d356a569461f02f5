"""Choice between two implementations of an operation."""

from collections.abc import Callable
from typing import Any, Literal

from jax import lax
from jaxtyping import Array

# Height and width, or before and after along an axis.
Pair = tuple[int, int]

# "plain" is XLA's own operation; "fast" computes the same values in a way that is
# fast in XLA's CPU code; "auto" is "fast" on CPUs and whatever is fastest elsewhere.
Implementation = Literal["auto", "fast", "plain"]


def run(
    implementation: Implementation,
    fast: Callable[..., Array],
    plain: Callable[..., Array],
    *operands: Any,
    cuda: Callable[..., Array] | None = None,
) -> Array:
    """Applies the chosen implementation; "auto" is resolved at lowering.

    Args:
        implementation: the choice.
        fast: the implementation for CPUs.
        plain: XLA's own operation.
        operands: the operation's arguments.
        cuda: the implementation for NVIDIA GPUs; None for plain, as on other devices.
    """
    if implementation == "auto":
        return lax.platform_dependent(
            *operands, cpu=fast, cuda=cuda or plain, default=plain
        )
    return {"fast": fast, "plain": plain}[implementation](*operands)
