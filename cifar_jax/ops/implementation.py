"""Choice between two implementations of an operation."""

from collections.abc import Callable
from typing import Any, Literal

from jax import lax
from jaxtyping import Array

# Height and width, or before and after along an axis.
Pair = tuple[int, int]

# "plain" is XLA's own operation; "fast" computes the same values in a way that is
# fast in XLA's CPU code; "auto" means "fast" on CPUs and "plain" elsewhere.
Implementation = Literal["auto", "fast", "plain"]


def run(
    implementation: Implementation,
    fast: Callable[..., Array],
    plain: Callable[..., Array],
    *operands: Any,
) -> Array:
    """Applies the chosen implementation; "auto" is resolved at lowering."""
    if implementation == "auto":
        return lax.platform_dependent(*operands, cpu=fast, default=plain)
    return {"fast": fast, "plain": plain}[implementation](*operands)
