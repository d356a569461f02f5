"""Tests Muon by its formula, and which parameters it takes as which matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import create, descend, updates_of
from flax import linen as nn
from helpers import assert_equal_states
from optax import contrib


@pytest.mark.parametrize("shape", [(12, 6), (6, 12), (3, 3, 8, 16)])
def test_muon_orthogonalizes_kernels_as_matrices(shape):
    kernel = jax.random.normal(jax.random.key(0), shape)
    params = {"layer": {"kernel": kernel, "bias": jnp.ones(shape[-1])}}
    gradients = jax.tree.map(lambda x: x + 1, params)
    updates = updates_of(create("muon(steps=10)", rate=1.0), gradients, params)
    matrix = np.asarray(updates["layer"]["kernel"]).reshape(-1, shape[-1])
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    # Newton-Schulz iterations with Jordan's coefficients end near 1.
    scale = max(1, matrix.shape[1] / matrix.shape[0]) ** 0.5
    assert 0.6 < singular_values.min() / scale < singular_values.max() / scale < 1.3
    # Adam's first update is the sign of the gradient.
    np.testing.assert_allclose(updates["layer"]["bias"], -1, rtol=1e-4)


def test_muon_matches_its_published_update():
    # Jordan's airbench94_muon.py, in float64: the momentum, then three iterations.
    random = np.random.RandomState(0)
    gradients = random.standard_normal((3, 3, 3, 5, 4))
    kernel, momentum = random.standard_normal((3, 3, 5, 4)), 0.0
    tx = create("muon(beta=0.6, steps=3, keep_norm=True)")
    params = {"layer": {"kernel": jnp.asarray(kernel, jnp.float32)}}
    grads = [{"layer": {"kernel": jnp.float32(gradient)}} for gradient in gradients]
    steps = descend(tx, grads, params)
    for gradient, (after, _) in zip(gradients, steps, strict=True):
        momentum = 0.6 * momentum + gradient
        # By outputs, as in PyTorch.
        matrix = (gradient + 0.6 * momentum).reshape(-1, 4).T
        matrix /= np.linalg.norm(matrix) + 1e-7
        for _ in range(3):
            square = matrix @ matrix.T
            factor = -4.7750 * square + 2.0315 * square @ square
            matrix = 3.4445 * matrix + factor @ matrix
        kernel *= 4**0.5 / np.linalg.norm(kernel)
        kernel -= 0.1 * matrix.T.reshape(kernel.shape)
        np.testing.assert_allclose(after["layer"]["kernel"], kernel, atol=2e-6)


class Attention(nn.Module):
    """Attention with 2 heads of 16 over 48 features, a class token and positions."""

    use_bias: bool

    @nn.compact
    def __call__(self, x):
        normal = nn.initializers.normal()
        token = self.param("token", normal, (1, 1, 48))
        positions = self.param("positions", normal, (1, 6, 48))
        x = jnp.concatenate([x, jnp.tile(token, (len(x), 1, 1))], axis=1) + positions
        x = nn.Conv(48, (3,), use_bias=self.use_bias, name="conv")(x)
        return nn.MultiHeadDotProductAttention(
            2, qkv_features=32, use_bias=self.use_bias, name="attention"
        )(x)


def shapes_of(network):
    inputs = jnp.zeros((1, 5, 48))
    return jax.eval_shape(network.init, jax.random.key(0), inputs)["params"]


def random_like(tree, seed):
    leaves, structure = jax.tree.flatten(tree)
    random = np.random.default_rng(seed)
    return jax.tree.unflatten(
        structure, [jnp.float32(random.standard_normal(leaf.shape)) for leaf in leaves]
    )


# Of all heads together.
MATRICES = {
    "attention": {
        "query": {"kernel": (48, 32)},
        "key": {"kernel": (48, 32)},
        "value": {"kernel": (48, 32)},
        "out": {"kernel": (32, 48)},
    },
    "conv": {"kernel": (144, 48)},
}


@pytest.mark.parametrize(("use_bias", "keep_norm"), [(True, False), (False, True)])
def test_attention_is_matrices_of_all_heads(use_bias, keep_norm, monkeypatch):
    shapes = []
    scale_by_muon = contrib.scale_by_muon

    def recorded(weight_dimension_numbers, **options):
        def record(params):
            numbers = weight_dimension_numbers(params)
            jax.tree.map(
                lambda param, own: shapes.append(
                    tuple(np.prod([param.shape[i] for i in axes]) for axes in own)
                ),
                params,
                numbers,
            )
            return numbers

        return scale_by_muon(weight_dimension_numbers=record, **options)

    network = Attention(use_bias)
    params = random_like(shapes_of(network), 0)
    gradients = random_like(params, 1)
    optimizer = f"muon(keep_norm={keep_norm})"
    with monkeypatch.context() as patch:
        patch.setattr(contrib, "scale_by_muon", recorded)
        updates = updates_of(create(optimizer), gradients, params)
    expected = [(144, 48), (32, 48), *[(48, 32)] * 3]
    assert sorted(shapes) == sorted(expected)

    # The same as of the matrices that are made by hand.
    def by_hand(tree):
        return jax.tree.map(
            lambda shape, leaf: leaf.reshape(shape),
            MATRICES,
            {
                "attention": {
                    name: {"kernel": tree["attention"][name]["kernel"]}
                    for name in MATRICES["attention"]
                },
                "conv": {"kernel": tree["conv"]["kernel"]},
            },
            is_leaf=lambda shape: isinstance(shape, tuple),
        )

    matrices = updates_of(create(optimizer), by_hand(gradients), by_hand(params))
    jax.tree.map(
        lambda matrix, update: np.testing.assert_allclose(matrix, update, atol=1e-6),
        matrices,
        by_hand(updates),
    )
    # Adam's first update is the sign of the gradient.
    others = [(updates[name], gradients[name]) for name in ("token", "positions")]
    if use_bias:
        for name in MATRICES["attention"]:
            layers = (updates["attention"][name], gradients["attention"][name])
            others.append(tuple(layer["bias"] for layer in layers))
    for update, gradient in others:
        np.testing.assert_allclose(update, -0.1 * np.sign(gradient), rtol=1e-3)


def test_a_hidden_bias_leaves_the_name_of_a_layer():
    network = Attention(use_bias=True)
    params = random_like(shapes_of(network), 0)
    gradients = random_like(params, 1)
    groups = "group('.*/kernel', weight_decay=0)"
    together = updates_of(create("muon"), gradients, params)
    apart = updates_of(create("muon", groups=groups), gradients, params)
    assert_equal_states(together, apart)
