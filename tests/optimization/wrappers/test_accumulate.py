"""Tests that steps with small batches are one with a large batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chains import create
from helpers import assert_equal_states

from cifar_jax import (
    Batch,
    Config,
    UserError,
    build_program,
    init_state,
    train_step,
)
from cifar_jax.optimization.averages import averaged_params
from cifar_jax.optimization.optimizers import OPTIMIZERS, Wrapper

SIZES = {"first": (8, 16), "second": (16, 16), "third": (16, 3)}
UPDATES, EVERY, BATCH = 6, 4, 128


def init():
    random = np.random.default_rng(0)
    return {
        layer: {
            "kernel": jnp.float32(random.standard_normal(shape) / shape[0] ** 0.5),
            "bias": jnp.zeros(shape[1]),
        }
        for layer, shape in SIZES.items()
    }


def loss(params, inputs, labels):
    for layer in ("first", "second"):
        inputs = jnp.tanh(inputs @ params[layer]["kernel"] + params[layer]["bias"])
    logits = inputs @ params["third"]["kernel"] + params["third"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


random = np.random.default_rng(1)
DATA = (
    jnp.float32(random.standard_normal((UPDATES, BATCH, 8))),
    jnp.asarray(random.integers(3, size=(UPDATES, BATCH))),
)


def steps(tx, data):
    """Yields params and state before the first step and after each."""

    @jax.jit
    def step(params, state, *batch):
        value, gradients = jax.value_and_grad(loss)(params, *batch)
        updates, state = tx.update(gradients, state, params, value=value)
        return optax.apply_updates(params, updates), state

    params = init()
    state = tx.init(params)
    yield params, state
    for batch in zip(*data, strict=True):
        params, state = step(params, state, *batch)
        yield params, state


@pytest.mark.parametrize(
    ("optimizer", "average"),
    [
        ("clip(lookahead(sgd(momentum=0.9), period=2), 0.5)", "ema(0.9, ramp=True)"),
        ("lookahead(adamw(eps=0.1), 2, 0.5, cubic=True)", "swa(0.5)"),
        ("schedule_free(sgd)", "ema(0.9)"),
    ],
)
def test_small_batches_are_one_large_batch(optimizer, average):
    options = {
        "rate": optax.cosine_decay_schedule(0.3, UPDATES),
        "groups": "group('first/.*', until=0.5, learning_rate=2), "
        "group('second/bias', weight_decay=3), group('third/bias', frozen=True)",
        "average": average,
        "weight_decay": 0.1,
        "max_steps": UPDATES,
    }
    large = list(steps(create(optimizer, **options), DATA))
    parts = [array.reshape(UPDATES * EVERY, -1, *array.shape[2:]) for array in DATA]
    small = list(steps(create(f"accumulate({optimizer}, {EVERY})", **options), parts))
    assert len(small) == UPDATES * EVERY + 1
    for number, (params, state) in enumerate(small):
        update, rest = divmod(number, EVERY)
        expected_params, expected_state = large[update]
        # Params, counts, momenta, slow weights and averages, all that there is.
        jax.tree.map(assert_close, params, expected_params)
        jax.tree.map(assert_close, state.inner_opt_state, expected_state)
        jax.tree.map(
            assert_close, averaged_params(state), averaged_params(expected_state)
        )
        assert (int(state.gradient_step), int(state.mini_step)) == (update, rest)
        if rest:
            assert_equal_states(params, small[number - 1][0])
    assert not np.allclose(small[-1][0]["third"]["kernel"], init()["third"]["kernel"])


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-6)


SETTINGS = {"batch_size": 8, "learning_rate": 0.01, "average": "ema(0.5)"}


def test_statistics_of_batch_norm_are_averaged_with_the_params(dataset):
    optimizer = "accumulate(sgd, 2)"
    config = Config(model="batch_norm", optimizer=optimizer, max_steps=6, **SETTINGS)
    program = build_program(config, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    take_step = jax.jit(train_step, static_argnums=0)
    expected = np.zeros(8)
    for step in range(6):
        part = slice(8 * step, 8 * step + 8)
        batch = Batch.from_arrays(
            dataset.train.images[part], dataset.train.labels[part]
        )
        state, _ = take_step(program, state, batch)
        mean = np.asarray(state.batch_stats["norm"]["mean"])
        if step % 2:
            expected = 0.5 * expected + 0.5 * mean
        averaged = state.averaged_batch_stats["norm"]["mean"]
        np.testing.assert_allclose(averaged, expected, rtol=1e-5, atol=1e-7)
    assert np.abs(expected).max() > 0.01


def test_everything_counts_updates():
    plain, accumulating = (
        build_program(
            Config(
                model="small",
                optimizer=optimizer,
                max_steps=max_steps,
                batch_size=batch_size,
                schedule="linear",
                warmup=0.5,
                param_groups="group('head/.*', until=0.25)",
            ),
            num_classes=3,
        )
        for optimizer, max_steps, batch_size in (
            ("sgd", 10, 32),
            ("accumulate(sgd, 4)", 40, 8),
        )
    )
    for step in range(40):
        expected = plain.learning_rate(step // 4)
        assert accumulating.learning_rate(step) == expected
    assert plain.at(0)[1] == 3
    assert accumulating.at(0)[1] == 12
    configs = (
        Config(batch_size=32),
        Config(batch_size=8, optimizer="accumulate(sgd, 4)"),
    )
    assert configs[0].decay_steps == configs[1].decay_steps


def test_a_run_is_of_whole_updates():
    message = "--max_steps=10 must be a multiple of 4, the number of steps per update"
    with pytest.raises(UserError, match=message):
        Config(optimizer="accumulate(sgd, 4)", max_steps=10)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("clip(accumulate(sgd, 4))", r"write accumulate\(clip\(...\), 4\)"),
        (
            "clip(schedule_free(accumulate(sgd, 2)))",
            r"write accumulate\(schedule_free\(...\), 2\)",
        ),
        ("accumulate(sgd, 1)", "every=1 must be at least 2"),
        ("accumulate(sgd)", "missing a required argument: 'every'"),
        ("accumulate(4, sgd)", "every=SGD"),
        pytest.param(
            "accumulate(3, 4)",
            "optimizer=3 must be an optimizer, such as sgd",
            marks=pytest.mark.wrong_types,
        ),
    ],
)
def test_accumulate_goes_around_an_optimizer(optimizer, message):
    with pytest.raises(UserError, match=message):
        Config(optimizer=optimizer)


def test_a_wrapper_with_checks_of_its_own_is_checked_too(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Careless(Wrapper):
        def __post_init__(self):
            pass

        def wrap(self, tx, schedule, max_steps):
            return tx

    monkeypatch.setitem(OPTIMIZERS, "careless", Careless)
    with pytest.raises(UserError, match="accumulate goes around everything else"):
        Config(optimizer="careless(accumulate(sgd, 2))", max_steps=10)
    monkeypatch.setitem(OPTIMIZERS, "other", lambda: None)
    with pytest.raises(UserError, match="NoneType, which must derive from"):
        Config(optimizer="other")
