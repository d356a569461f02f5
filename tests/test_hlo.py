"""Tests what operations of compiled programs cost, on programs with known costs."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from experiments.harness.hlo import Program

X = jnp.ones((4, 8, 8, 5))


def compiled(function, *arguments) -> Program:
    # Without YNNPACK, which has fusions of its own.
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    lowered = jax.jit(function).lower(*arguments)
    return Program(lowered.compile(options).as_text())


def costs(program: Program, part: str) -> list[tuple[int, int]]:
    """Returns FLOP and bytes of each operation that belongs to a part."""
    return [
        (program.flops(name), program.bytes(name))
        for name, operation in program.operations.items()
        if operation.kind in ("fusion", "dot", "convolution")
        and program.part(name) == part
    ]


@pytest.mark.parametrize(
    ("terms", "part"),
    [(36, "products with at most 36 terms"), (37, "other products")],
)
def test_products(terms, part):
    a, b = jnp.ones((50, terms)), jnp.ones((terms, 40))
    program = compiled(jnp.matmul, a, b)
    size = 4 * (50 * terms + terms * 40 + 50 * 40)
    assert costs(program, part) == [(2 * 50 * 40 * terms, size)]


def test_convolutions():
    def conv(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    kernel = jnp.ones((3, 3, 5, 7))
    [(flops, size)] = costs(compiled(conv, X, kernel), "convolutions by XLA")
    assert flops == 2 * (4 * 8 * 8 * 7) * 9 * 5
    assert size == 4 * (X.size + kernel.size + 4 * 8 * 8 * 7)


def test_elementwise_operations_sums_and_copies():
    arithmetic = compiled(lambda x: jnp.exp(x) * x + 1, X)
    assert costs(arithmetic, "other arithmetic") == [(0, 2 * X.nbytes)]
    sums = compiled(lambda x: (x * x).sum((0, 1, 2)), X)
    assert costs(sums, "sums and means") == [(0, X.nbytes + 4 * 5)]
    copied = compiled(lambda x: x.transpose(3, 1, 2, 0), X)
    assert costs(copied, "copies and constants") == [(0, 2 * X.nbytes)]


def test_of_a_cut_operand_only_as_much_as_the_output_counts():
    program = compiled(lambda x, i: jnp.exp(lax.dynamic_index_in_dim(x, i)), X, 2)
    [(_, size)] = costs(program, "other arithmetic")
    assert size == 2 * X.nbytes // 4 + 4
