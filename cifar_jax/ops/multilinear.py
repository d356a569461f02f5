"""Maps that are linear in every argument, with a fast map for each derivative.

The derivatives of a convolution are convolutions. More precisely, three maps belong
together: one from x and kernel to y, and the gradients, from kernel and y to x and from
x and y to kernel. Each is linear in both arguments, so its tangent is the sum of two
values of the same map, and its transpose with respect to one argument is the map that
returns this argument. This is all that JAX is told, so it computes derivatives of
every order and in every mode (forward, reverse and mixed) by the three maps.
(`jax.custom_vjp` excludes forward mode, and leaves the gradient of the gradient to
JAX.)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, ArrayLike

# For each variable, the function that computes it from all others, in order; None for a
# variable that nothing is differentiated with respect to, such as indices.
Maps = tuple[Callable[..., Array] | None, ...]


def apply(maps: Maps, *operands: ArrayLike) -> Array:
    """Computes the last variable from all others, and derivatives by the other maps.

    Args:
        maps: the gradients with respect to the operands, then the map itself. The
            gradient with respect to an operand takes the other operands and, last, the
            gradient of the result.
        operands: the map's arguments.
    """
    return _primitive.bind(*operands, maps=maps, result=len(operands))


_primitive = Primitive("multilinear")


def _value(*operands: ArrayLike, maps: Maps, result: int) -> Array:
    value = maps[result]
    assert value is not None
    return value(*map(jnp.asarray, operands))


def _type(*operands: Any, **params: Any) -> Any:
    return jax.make_jaxpr(functools.partial(_value, **params))(*operands).out_avals[0]


def _tangent(
    primals: Sequence[ArrayLike], tangents: Sequence[Any], **params: Any
) -> tuple[Array, Array]:
    bind = functools.partial(_primitive.bind, **params)
    terms = [
        bind(*primals[:i], tangent, *primals[i + 1 :])
        for i, tangent in enumerate(tangents)
        if not isinstance(tangent, ad.Zero)
    ]
    return bind(*primals), functools.reduce(jnp.add, terms)


def _transpose(
    gradient: Any, *operands: Any, maps: Maps, result: int
) -> list[Array | None]:
    if isinstance(gradient, ad.Zero):
        return [None] * len(operands)
    variables = [*operands[:result], gradient, *operands[result:]]
    (wanted,) = (i for i, v in enumerate(variables) if ad.is_undefined_primal(v))
    del variables[wanted]
    value = _primitive.bind(*variables, maps=maps, result=wanted)
    return [value if ad.is_undefined_primal(v) else None for v in operands]


def _batch(
    operands: Sequence[ArrayLike],
    dims: Sequence[int | None],
    *,
    maps: Maps,
    result: int,
) -> tuple[Array, int]:
    axes = [None if dim is None else 0 for dim in dims]
    axes.insert(result, 0)

    def over_batch(i: int, one: Callable[..., Array]) -> Callable[..., Array]:
        many = jax.vmap(one, (*axes[:i], *axes[i + 1 :]))
        # A variable that the whole batch shares receives the sum of its gradients.
        return many if axes[i] == 0 else lambda *others: many(*others).sum(axis=0)

    batch_first = [
        v if dim is None else jnp.moveaxis(v, dim, 0)
        for v, dim in zip(operands, dims, strict=True)
    ]
    batched = tuple(one and over_batch(i, one) for i, one in enumerate(maps))
    return _primitive.bind(*batch_first, maps=batched, result=result), 0


_primitive.def_impl(_value)
_primitive.def_abstract_eval(_type)
ad.primitive_jvps[_primitive] = _tangent
ad.primitive_transposes[_primitive] = _transpose
batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, mlir.lower_fun(_value, multiple_results=False))
