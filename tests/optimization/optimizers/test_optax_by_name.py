"""Tests optimizers of optax by name: every one that the installed optax has."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chains import ONES, PARAMS, ZEROS, create, descend, updates_of
from helpers import assert_equal_states
from optax import contrib

from cifar_jax import UserError
from cifar_jax.optimization import OPTIMIZERS
from cifar_jax.registry import resolve, signatures

# Everything that could be taken for an optimizer.
NAMES = sorted(
    name
    for name, function in {**vars(contrib), **vars(optax)}.items()
    if inspect.isfunction(function)
    and not name.startswith(("_", "scale_by_"))
    and "learning_rate" in str(inspect.signature(function))
)
# Its noise must be drawn from a key, and not hide the progress.
OPTIONS = {"noisy_sgd": "eta=0.0001, key=0"}
# Those whose learning rate is a factor of their own estimate.
FACTORS = ("adadelta", "dadapt_adamw", "dog", "dowg", "momo", "prodigy")
REFUSED = {
    *("cocob", "dpsgd", "lbfgs", "muon", "optimistic_adam", "polyak_sgd", "rprop"),
    *("schedule_free", "schedule_free_adamw", "schedule_free_sgd", "sophia"),
}
random = np.random.default_rng(0)
INPUTS = jnp.float32(random.standard_normal((64, 4)))
TARGETS = jnp.tanh(INPUTS @ jnp.float32(random.standard_normal((4, 2))))


def loss(params):
    hidden = jnp.tanh(INPUTS @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return jnp.mean((hidden @ params["head"]["kernel"] - TARGETS) ** 2)


def losses_of(optimizer, rate, steps=40, **options):
    """Returns the losses of a small network before each step."""
    random = np.random.default_rng(1)
    params = {
        "hidden": {
            "kernel": jnp.float32(random.standard_normal((4, 8)) / 2),
            "bias": jnp.zeros(8),
        },
        "head": {"kernel": jnp.float32(random.standard_normal((8, 2)) / 3)},
    }
    tx = create(optimizer, rate, **options)

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state, params, value=value)
        return optax.apply_updates(params, updates), state, value

    state, losses = tx.init(params), []
    for _ in range(steps):
        params, state, value = step(params, state)
        losses.append(float(value))
    return losses


def text(name):
    options = OPTIONS.get(name)
    return f"optax('{name}', {options})" if options else f"optax('{name}')"


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_trains_or_is_refused_in_one_line(name):
    if name in REFUSED:
        with pytest.raises(UserError, match=f"--optimizer=optax.*{name}") as caught:
            resolve(text(name), OPTIMIZERS, "optimizer")
        assert "\n" not in str(caught.value)
        return
    losses = losses_of(text(name), 1.0 if name in FACTORS else 0.01)
    assert np.isfinite(losses).all()
    # Estimates of the learning rate start low.
    assert losses[-1] < losses[0] * (1 - 1e-6)


@pytest.mark.parametrize("name", ["sm3", "adabelief", "lars", "madgrad", "adafactor"])
def test_nothing_moves_once_the_learning_rate_is_zero(name):
    tx = create(text(name), rate=lambda step: jnp.where(step < 2, 0.1, 0.0))
    first, second, third, fourth = (p for p, _ in descend(tx, [ONES] * 4))
    distance = optax.tree.norm(jax.tree.map(jnp.subtract, second, first))
    assert float(distance) > 1e-6
    assert_equal_states(third, second)
    assert_equal_states(fourth, second)


@pytest.mark.parametrize("name", ["sgd", "sm3", "adabelief", "rmsprop"])
def test_the_learning_rate_is_a_factor_that_follows_the_schedule(name):
    tx = create(text(name), rate=lambda step: 0.1 * (step + 1))
    usual = create(text(name), rate=lambda step: 0.1)
    state, usual_state = tx.init(PARAMS), usual.init(PARAMS)
    for step in range(3):
        updates, state = tx.update(ONES, state, PARAMS)
        expected, usual_state = usual.update(ONES, usual_state, PARAMS)
        jax.tree.map(
            lambda a, b, factor=step + 1: np.testing.assert_allclose(
                a, factor * b, rtol=1e-5
            ),
            updates,
            expected,
        )


@pytest.mark.parametrize(
    ("ours", "theirs", "weight_decay"),
    [
        ("sgd(momentum=0.9, nesterov=True)", "sgd', momentum=0.9, nesterov=True", 0.1),
        ("adamw(b1=0.8)", "adamw', b1=0.8", 0.1),
        ("adamw(b1=0.8)", "adam', b1=0.8", 0.1),
        ("lion(b2=0.98)", "lion', b2=0.98", 0.1),
    ],
)
@pytest.mark.parametrize("groups", ["", "group('.*/bias', weight_decay=2.0)"])
def test_the_decay_is_that_of_the_run(ours, theirs, weight_decay, groups):
    """It is neither added twice nor lost, and enters where it does in our own."""
    random = np.random.default_rng(0)
    gradients = [
        jax.tree.map(lambda p: jnp.float32(random.standard_normal(p.shape)), PARAMS)
        for _ in range(4)
    ]
    options = {"weight_decay": weight_decay, "groups": groups}
    expected = descend(create(ours, **options), gradients)
    found = descend(create(f"optax('{theirs})", **options), gradients)
    for (params, _), (others, _) in zip(found, expected, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, others
        )


@pytest.mark.parametrize(
    ("name", "in_loss"),
    [("adabelief", False), ("lars", True), ("prodigy", True), ("momo", False)],
)
def test_where_the_decay_is(name, in_loss):
    optimizer = resolve(f"optax('{name}')", OPTIMIZERS, "optimizer")
    assert optimizer.decay_in_loss == in_loss
    tx = create(optimizer, weight_decay=0.5)
    updates, _ = tx.update(ZEROS, tx.init(PARAMS), PARAMS, value=jnp.float32(1))
    if not in_loss:
        kernel = PARAMS["dense"]["kernel"]
        np.testing.assert_allclose(
            updates["dense"]["kernel"], -0.1 * 0.5 * kernel, rtol=1e-5
        )
    assert not np.asarray(updates["dense"]["bias"]).any()


def test_prodigy_is_that_of_optax():
    gradients = [jax.tree.map(lambda p, s=s: s * p, ONES) for s in (1.0, -0.5, 2.0)]
    found = descend(create("optax('prodigy', betas=(0.8, 0.99))", rate=1.0), gradients)
    expected = descend(contrib.prodigy(betas=(0.8, 0.99)), gradients)
    for (params, _), (others, _) in zip(found, expected, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, others
        )


@pytest.mark.parametrize("name", ["prodigy", "dog", "adafactor", "galore"])
def test_groups_can_hold_all_or_no_parameters(name):
    for groups in ("group('.*', learning_rate=0.5)", "group('head/.*', until=0.5)"):
        losses = losses_of(text(name), 0.05, groups=groups, max_steps=40)
        assert np.isfinite(losses).all()


def test_a_group_has_an_optimizer_of_optax():
    groups = """group('.*/bias', optimizer="optax('sign_sgd')")"""
    updates = updates_of(
        create("sgd", groups=groups), jax.tree.map(lambda x: 3 * x, ONES)
    )
    np.testing.assert_allclose(updates["conv"]["bias"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.3, rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "fits"),
    [
        ("optax('rmsprop')", True),
        ("optax('adam', b1=0)", True),
        ("optax('adam')", False),
        ("optax('prodigy')", False),
        ("optax('lars')", False),
        ("optax('galore')", False),
    ],
)
def test_schedule_free_takes_only_those_without_momentum(optimizer, fits):
    around = f"schedule_free({optimizer})"
    if fits:
        losses = losses_of(around, 0.02)
        assert losses[-1] < 0.9 * losses[0]
    else:
        with pytest.raises(UserError, match="takes the place of momentum"):
            resolve(around, OPTIMIZERS, "optimizer")


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("optax", "missing a required argument: 'name'"),
        ("optax('adabeleif')", r"has no optimizer adabeleif \(did you mean adabelief"),
        ("optax('xyz')", "has no optimizer xyz; choose from acprop, adabelief, "),
        ("optax('cosine_decay_schedule')", "has no optimizer cosine_decay_schedule"),
        ("optax('chain')", "has no optimizer chain"),
        ("optax('l2_loss')", "has no optimizer l2_loss"),
        ("optax('scale_by_adam')", "has no optimizer scale_by_adam"),
        ("optax(3)", "name=3 must be text"),
        ("optax('adam', c1=0.9)", "adam has no option c1; its options: b1, b2, eps"),
        ("optax('adam', 0.9)", "too many positional arguments"),
        ("optax('adam', b1='x')", "b1='x' must be a number"),
        ("optax('adam', b1=1.5)", "b1=1.5 must be below 1"),
        ("optax('adam', eps=-1)", "eps=-1.0 must be at least 0"),
        ("optax('sgd', momentum='x')", "momentum='x' must be a number or"),
        ("optax('prodigy', betas=(0.9, 1.5))", "betas=.* must be below 1"),
        ("optax('prodigy', betas=0.9)", "betas=0.9 must be a list of 2 numbers"),
        ("optax('adam', b1=1e999)", "b1=inf is not a finite number"),
        ("optax('adam', nesterov=1)", "nesterov=1 must be True or False"),
        ("optax('sgd', nesterov=True)", "nesterov needs momentum"),
        ("optax('adam', learning_rate=1)", "it is set by --learning_rate and --sch"),
        ("optax('adamw', weight_decay=0.1)", "it is set by --weight_decay, and"),
        ("optax('adamw', mask=None)", "it is set by --weight_decay, and"),
        ("optax('adafactor', weight_decay_rate=1)", "it is set by --weight_decay"),
        ("optax('adopt', clip_value_fn=1)", "clip_value_fn is a function"),
        ("optax('galore', rank=2.5)", "rank=2.5 must be an integer"),
        ("optax('galore', base_optimizer='sgd')", "optax refuses this: "),
        ("optax('galore', base_optimizer=sgd)", "galore"),
        ("optax('adam', mu_dtype='float99')", "optax refuses this: "),
        ("optax('noisy_sgd')", "optax refuses this: Specifying a key"),
        ("optax('noisy_sgd', key=[1, {}])", "cannot be used"),
        ("optax('ademamix', mu_dtype='bfloat16')", "changes the types of its state"),
        ("optax('schedule_free_sgd')", r"write schedule_free\(sgd\)"),
        ("optax('sam')", r"write sam\(sgd\)"),
        ("optax('lbfgs')", "line search"),
        ("optax('optimistic_adam')", "optimistic_adam_v2 can"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(optimizer, message):
    with pytest.raises(UserError, match=message) as caught:
        resolve(optimizer, OPTIMIZERS, "optimizer")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--optimizer={optimizer}")


def test_the_help_shows_that_it_has_options():
    assert "optax(name, **options)" in signatures(OPTIMIZERS)
