"""Tests derivatives in every mode: of the fast operations against their plain twins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cifar_jax import Network
from cifar_jax.ops import (
    conv,
    conv_general_dilated,
    depthwise,
    direct,
    local_response_norm,
    max_pool,
    multilinear,
    winograd,
)

SAME = ((1, 1), (1, 1))
# Relative to the norm: some rounding errors of 2^-24 = 6e-8 (measured: 1.2e-6).
TOLERANCE = 3e-6


def lax_conv(x, kernel, strides=(1, 1), groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        SAME,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def both(operation, **options):
    return [
        functools.partial(operation, implementation=name, **options)
        for name in ("fast", "plain")
    ]


# The fast operation, its plain twin, and the shapes of their arguments.
OPERATIONS = {
    "fourier": (*both(conv), (6, 5, 40, 2), (3, 2, 40, 3)),
    "im2col": (*both(conv), (6, 5, 2, 2), (3, 2, 2, 3)),
    "direct": (
        functools.partial(direct.conv, (2, 2), SAME),
        functools.partial(lax_conv, strides=(2, 2)),
        *((2, 6, 5, 3), (3, 3, 3, 2)),
    ),
    "winograd": (winograd.conv, lax_conv, (2, 4, 8, 3), (3, 3, 3, 2)),
    "depthwise": (
        functools.partial(depthwise.conv, (2, 1), SAME),
        functools.partial(lax_conv, strides=(2, 1), groups=3),
        *((2, 6, 5, 3), (3, 3, 1, 3)),
    ),
    "grouped": (
        *both(
            conv_general_dilated,
            strides=(2, 1),
            padding=SAME,
            feature_group_count=2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        *((2, 6, 5, 4), (3, 3, 2, 6)),
    ),
    "max_pool": (*both(max_pool, window=(3, 3), strides=(2, 2)), (6, 5, 2, 2)),
    "local_response_norm": (
        *both(local_response_norm, depth_radius=2, alpha=0.3, axis=2),
        (3, 2, 7, 2),
    ),
    "local_response_norm_of_square": (
        *both(local_response_norm, depth_radius=1, alpha=0.3, beta=0.6, axis=(0, 1)),
        (4, 5, 2, 2),
    ),
}
every_operation = pytest.mark.parametrize("name", OPERATIONS)
# Of two arguments, of one, and with indices that nothing is differentiated by.
one_of_each_kind = pytest.mark.parametrize(
    "name", ["im2col", "local_response_norm", "max_pool"]
)


def arguments(name, seed=0):
    """Draws arguments of an operation from -1 to 1, as far apart as can be."""
    random = np.random.RandomState(seed)
    return tuple(
        random.permutation(
            np.linspace(-1, 1, np.prod(shape), dtype=np.float32)
        ).reshape(shape)
        for shape in OPERATIONS[name][2:]
    )


def assert_close(results, expected, tolerance=TOLERANCE):
    for result, wanted in zip(
        jax.tree.leaves(results), jax.tree.leaves(expected), strict=True
    ):
        assert result.shape == wanted.shape
        error = np.linalg.norm(np.asarray(result) - wanted)
        assert error <= tolerance * np.linalg.norm(wanted)


def hessian_products(loss, point, direction):
    """Returns the same thing twice: forward over reverse, and reverse over reverse."""
    gradient = jax.grad(loss)

    def projection(point):
        terms = jax.tree.map(jnp.vdot, gradient(point), direction)
        return jax.tree.reduce(jnp.add, terms)

    return jax.jvp(gradient, (point,), (direction,))[1], jax.grad(projection)(point)


@every_operation
def test_every_mode_agrees_with_plain(name):
    def derivatives(operation, args, tangents):
        def loss(args):
            return jnp.sum(jnp.sin(operation(*args)))

        def slope(args):
            return jax.jvp(loss, (args,), (tangents,))[1]

        y, linear = jax.linearize(operation, *args)
        first = y, linear(*tangents), jax.jvp(operation, args, tangents)
        return first, jax.grad(slope)(args), hessian_products(loss, args, tangents)

    @jax.jit
    def results(args, tangents):
        return [
            derivatives(operation, args, tangents) for operation in OPERATIONS[name][:2]
        ]

    assert_close(*results(arguments(name), arguments(name, seed=1)))


@every_operation
def test_tangents_equal_finite_differences(name):
    # At most half of the distance between values, of which pooling takes maxima.
    step = 2.0**-9

    @jax.jit
    def results(args, tangents):
        fast = OPERATIONS[name][0]
        ahead, behind = (
            fast(*(v + s * t for v, t in zip(args, tangents, strict=True)))
            for s in (step, -step)
        )
        return jax.jvp(fast, args, tangents)[1], (ahead - behind) / (2 * step)

    # Rounding by 2^-24 / step = 3e-5 and more (measured: 1.1e-4).
    assert_close(*results(arguments(name), arguments(name, seed=1)), tolerance=4e-4)


@one_of_each_kind
def test_the_jacobian_in_forward_mode_is_that_in_reverse_mode(name):
    fast, _, *shapes = OPERATIONS[name]
    last = len(shapes) - 1  # the kernel if there is one

    @jax.jit
    def jacobians(*args):
        def few(*args):
            return fast(*args).ravel()[::3]

        return jax.jacfwd(few, last)(*args), jax.jacrev(few, last)(*args)

    assert_close(*jacobians(*arguments(name)))


@one_of_each_kind
def test_vmap_of_gradients_and_gradients_of_vmap(name):
    fast, plain, *shapes = OPERATIONS[name]
    draws = [arguments(name, seed) for seed in range(3)]
    stacked = tuple(np.stack(values, axis=1) for values in zip(*draws, strict=True))
    shared = arguments(name, seed=3)

    def gradients(operation, axes, *args):
        """Returns them by each of the batch, and by what all of them share."""
        argnums = tuple(range(len(args)))

        def loss(*args):
            return jnp.sum(jnp.sin(operation(*args)))

        def total(*args):
            return jax.vmap(loss, axes)(*args).sum()

        of_each = jax.vmap(jax.grad(loss, argnums), axes)
        return of_each(*args), jax.grad(total, argnums)(*args)

    @jax.jit
    def results(operation_args):
        return [
            [gradients(operation, axes, *args) for axes, args in cases(*operation_args)]
            for operation in (fast, plain)
        ]

    def cases(stacked, shared):
        yield (1,) * len(stacked), stacked
        if len(shapes) > 1:
            yield (1, None), (stacked[0], shared[1])
            yield (None, 1), (shared[0], stacked[1])

    assert_close(*results((stacked, shared)))


def test_transposes_are_exactly_the_given_maps():
    def of_a(b, y):
        return 2 * b + 100 * y

    def of_b(a, y):
        return 3 * a + 1000 * y

    def of_y(a, b):
        return 5 * a + 10000 * b

    def operation(a, b):
        return multilinear.apply((of_a, of_b, of_y), a, b)

    y, pullback = jax.vjp(operation, 1.0, 10.0)
    assert y == of_y(1, 10)
    assert pullback(7.0) == (of_a(10, 7), of_b(1, 7))


def test_a_result_whose_gradient_is_dropped_adds_nothing():
    @jax.custom_vjp
    def first_of(a, b):
        return a

    first_of.defvjp(lambda a, b: (a, ()), lambda _, gradient: (gradient, None))

    def double(a):
        return first_of(a, multilinear.apply((jnp.negative, jnp.negative), a)) * 2

    assert jax.grad(double)(3.0) == 2


class Layers(Network):
    """Every kind of layer once: a direct and a Winograd convolution, and pooling."""

    @nn.compact
    def __call__(self, images, train=False):
        x = self.convolution(64, (3, 3), "direct", strides=2)(images)
        x = self.convolution(64, (3, 3), "winograd", use_bias=False)(x)
        x = self.max_pool(self.batch_norm("norm", train)(x), (2, 2), (2, 2))
        return self.predictions(nn.gelu(x).mean((1, 2)), nn.initializers.normal(0.1))


@pytest.mark.slow
def test_products_with_the_hessian_of_a_network():
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 16))
    labels = jnp.array([0, 3, 9, 9])
    variables = jax.jit(Layers().init)(jax.random.key(1), images)
    params = variables["params"]
    direction = jax.tree.map(
        lambda v: 0.01 * jnp.cos(jnp.arange(v.size)).reshape(v.shape), params
    )

    @jax.jit
    def derivatives(params):
        def loss(ops, params):
            logits, _ = Layers(ops=ops).apply(
                variables | {"params": params}, images, True, mutable=["batch_stats"]
            )
            log_p = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()

        losses = [functools.partial(loss, ops) for ops in ("fast", "plain")]
        return [
            (
                jax.jvp(loss, (params,), (direction,)),
                hessian_products(loss, params, direction),
            )
            for loss in losses
        ]

    # Rounding in every layer (measured: 9e-7).
    assert_close(*derivatives(params), tolerance=1e-5)
