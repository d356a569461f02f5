"""Tests that clipping is by the norm of all gradients together."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chains import create, descend, updates_of
from helpers import assert_equal_states

PARAMS = {
    layer: {"kernel": jnp.full((3, 2), 5.0), "bias": jnp.full(2, 7.0)}
    for layer in ("conv", "dense", "head")
}
GRADIENTS = jax.tree.map(
    lambda p: jnp.arange(p.size, dtype=jnp.float32).reshape(p.shape) + 1, PARAMS
)
NORM = float(optax.tree.norm(GRADIENTS))

# With the rest, one, two and five groups.
GROUPS = {
    1: "",
    2: "group('.*/bias', weight_decay=0)",
    5: ", ".join(
        f"group('{pattern}', weight_decay=0)"
        for pattern in ("conv/kernel", "conv/bias", "dense/.*", "head/kernel")
    ),
}


@pytest.mark.parametrize("number", GROUPS)
@pytest.mark.parametrize("limit", [0.5, 2 * NORM])
def test_the_norm_of_all_updates_is_limited(number, limit):
    tx = create(f"clip(sgd, {limit})", rate=1.0, groups=GROUPS[number])
    updates = updates_of(tx, GRADIENTS, PARAMS)
    assert float(optax.tree.norm(updates)) == pytest.approx(min(limit, NORM))
    scale = min(limit / NORM, 1)
    jax.tree.map(
        lambda u, g: np.testing.assert_allclose(u, -scale * g, rtol=1e-5),
        updates,
        GRADIENTS,
    )


def test_frozen_params_are_not_counted():
    tx = create("clip(sgd)", rate=1.0, groups="group('head/.*', frozen=True)")
    updates = updates_of(tx, GRADIENTS, PARAMS)
    assert float(optax.tree.norm(updates)) == pytest.approx(1.0)


def test_params_are_counted_as_long_as_they_are_trained():
    tx = create("clip(sgd)", rate=1.0, groups="group('head/.*', until=0.02)")
    norms, before = [], PARAMS
    for params, _ in descend(tx, [GRADIENTS] * 4, PARAMS):
        moved = jax.tree.map(jnp.subtract, params, before)
        norms.append([float(optax.tree.norm(moved[layer])) for layer in PARAMS])
        before = params
    np.testing.assert_allclose(np.linalg.norm(norms, axis=1), 1.0, rtol=1e-5)
    assert [head > 0 for *_, head in norms] == [True, True, False, False]


def test_the_decay_of_weights_is_not_clipped():
    tx = create("clip(sgd)", rate=1.0, weight_decay=0.5)
    updates = updates_of(tx, jax.tree.map(jnp.zeros_like, PARAMS), PARAMS)
    np.testing.assert_allclose(updates["conv"]["kernel"], -2.5)


def test_wrappers_are_nested_from_the_inside_out():
    # Lookahead moves the params back, which is not clipped, whatever is outside.
    options = {"rate": 1.0, "groups": GROUPS[5]}
    results = []
    for optimizer in ("clip(lookahead(sgd, 2, 0.5))", "lookahead(clip(sgd), 2, 0.5)"):
        tx = create(optimizer, **options)
        *_, (params, _) = descend(tx, [GRADIENTS] * 4, PARAMS)
        results.append(params)
    assert_equal_states(*results)
    moved = jax.tree.map(jnp.subtract, results[0], PARAMS)
    assert float(optax.tree.norm(moved)) == pytest.approx(0.5 * 2 * 2, rel=1e-5)
