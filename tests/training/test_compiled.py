import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_equal_states, make_dataset, strategy

from cifar_jax import Batch, Config, Network, build_program, init_state, train_step
from cifar_jax.data.batches import BatchOrder
from cifar_jax.devices import compilation
from cifar_jax.training.compiled import CompiledSteps
from cifar_jax.training.train_state import streams

CONFIG = Config(batch_size=8, model="small")


@pytest.fixture(scope="module")
def program():
    return build_program(CONFIG, num_classes=3)


def fresh(program):
    images = make_dataset().train.images
    return init_state(program, jax.random.key(CONFIG.seed), images)


@pytest.fixture(scope="module")
def steps(program, dataset):
    return CompiledSteps(program, dataset.train, 8, fresh(program), 4, strategy())


def test_the_division_of_a_run_into_calls_changes_no_bit(program, steps):
    ends = []
    for cuts in ([0, 4, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 3, 4, 7, 8]):
        state, curve = fresh(program), {}
        for first, end in itertools.pairwise(cuts):
            state, metrics = steps.train_steps(state, first, end)
            curve[end] = float(metrics["total_loss"])
        ends.append((state, curve))
    for state, curve in ends[1:]:
        assert curve.items() & ends[1][1].items() == curve.items()
        assert_equal_states(state, ends[0][0])


def test_calls_take_the_steps_of_the_program(program, steps, dataset):
    take_step = jax.jit(functools.partial(train_step, program))
    expected = fresh(program)
    order_key = streams(expected.key).order
    order = BatchOrder(order_key, len(dataset.train), CONFIG.batch_size)
    for step in range(3):
        indices = order(step)["indices"]
        images, labels = dataset.train.images[indices], dataset.train.labels[indices]
        expected, _ = take_step(expected, Batch.from_arrays(images, labels))
    state, _ = steps.train_steps(fresh(program), 0, 3)
    # The programs are compiled separately, so the order of float32 sums may differ.
    found, expected = (dataclasses.replace(s, key=0) for s in (state, expected))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )


def test_streamed_images_change_no_bit(program, steps, dataset, monkeypatch):
    two_batches = 2 * 8 * dataset.train.images[0].nbytes
    monkeypatch.setattr("cifar_jax.training.feeds.BYTES_PER_CALL", two_batches)
    streamed = CompiledSteps(
        program, dataset.train, 8, fresh(program), 4, strategy(), stream=True
    )
    assert streamed.steps_per_call == 2
    ends = []
    for steps_ in (steps, streamed):
        state, curve = fresh(program), []
        inside = steps_.inspect(state, 0)
        for first, end in ((0, 1), (1, 5)):
            state, metrics = steps_.train_steps(state, first, end)
            curve.append(metrics["total_loss"])
        ends.append([state, *curve, inside.images])
    assert_equal_states(*ends)


@pytest.mark.slow
def test_a_call_may_reach_from_one_phase_into_the_next(dataset):
    groups = "group('head/kernel', until=0.3)"
    config = dataclasses.replace(CONFIG, max_steps=10, param_groups=groups)
    program = build_program(config, num_classes=3)
    state = fresh(program)
    steps = CompiledSteps(program, dataset.train, 8, state, 4, strategy())
    before_it, _ = steps.train_steps(state, 0, 2)
    at_it, _ = steps.train_steps(before_it, 2, 3)
    across_it, _ = steps.train_steps(before_it, 2, 6)
    for before, after, same in ((before_it, at_it, False), (at_it, across_it, True)):
        kernels = before.params["head"]["kernel"], after.params["head"]["kernel"]
        assert np.array_equal(*kernels) == same
        biases = before.params["head"]["bias"], after.params["head"]["bias"]
        assert not np.array_equal(*biases)
    resumed = CompiledSteps(program, dataset.train, 8, at_it, 4, strategy())
    after, _ = resumed.train_steps(at_it, 3, 6)
    assert_equal_states(after, across_it)


def test_steps_without_convolutions_are_one_loop_on_the_device(steps):
    assert steps.steps_per_call == 4


def test_inspect_shows_the_next_step(program, steps):
    state, _ = steps.train_steps(fresh(program), 0, 2)
    inside = steps.inspect(state, 2)
    kernel = np.asarray(state.params["head"]["kernel"])
    grad = np.asarray(inside.grads["head"]["kernel"])
    state, _ = steps.train_steps(state, 2, 3)
    np.testing.assert_array_equal(inside.params["head"]["kernel"], kernel)
    np.testing.assert_allclose(
        state.params["head"]["kernel"], kernel - 0.1 * grad, rtol=1e-4, atol=1e-6
    )


class PlainConvolution(Network):
    """A network that does not use the fast operations."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(4, (3, 3), name="conv")(images)
        return self.tap("conv", x).mean(axis=(1, 2))[:, :3]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the trap is the CPU's")
def test_lax_convolutions_are_never_in_a_loop_on_the_cpu(dataset, monkeypatch):
    monkeypatch.setattr(
        "cifar_jax.training.program.models.create", lambda *_, **__: PlainConvolution()
    )
    program = build_program(CONFIG, num_classes=3)
    state = fresh(program)
    steps = CompiledSteps(program, dataset.train, 8, state, 4, strategy())
    assert steps.steps_per_call == 1
    state, metrics = steps.train_steps(state, 0, 3)
    assert int(state.step) == 3
    assert np.isfinite(metrics["total_loss"])


def test_equal_programs_are_compiled_once(dataset, monkeypatch):
    lowered = []
    compile_ = compilation.compile_lowered
    monkeypatch.setattr(
        compilation, "compile_lowered", lambda x: lowered.append(x) or compile_(x)
    )
    ends = []
    for seed, rate in itertools.product((0, 1), (0.3, 0.4)):
        program = build_program(dataclasses.replace(CONFIG, learning_rate=rate), 3)
        state = init_state(program, jax.random.key(seed), dataset.train.images)
        steps = CompiledSteps(program, dataset.train, 8, state, 4, strategy())
        after, _ = steps.train_steps(state, 0, 2)
        ends.append(np.asarray(after.params["hidden"]["kernel"]).tobytes())
    assert len(lowered) == 2
    assert len(set(ends)) == 4


def test_programs_in_use_are_kept(monkeypatch):
    monkeypatch.setattr(compilation, "MOST_PROGRAMS", 2)
    compilation.forget()
    made = []
    for name in ("a", "b", "a", "c", "a", "b"):
        compilation.compile_once(name, (), lambda name=name: made.append(name) or name)
    assert made == ["a", "b", "c", "b"]
