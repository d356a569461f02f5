"""Which of two ways to compute an operation is used."""

from collections.abc import Callable
from typing import Any, Literal

from jax import lax
from jaxtyping import Array

# "plain" is XLA's own operation; "fast" the same values by a road on which XLA's
# CPU code is quick; "auto" the fast one on CPUs and the plain one elsewhere.
Implementation = Literal["auto", "fast", "plain"]


def run(
    implementation: Implementation,
    fast: Callable[..., Array],
    plain: Callable[..., Array],
    *operands: Any,
) -> Array:
    """Applies the one chosen; "auto" decides when the program is lowered."""
    if implementation == "auto":
        return lax.platform_dependent(*operands, cpu=fast, default=plain)
    return {"fast": fast, "plain": plain}[implementation](*operands)
