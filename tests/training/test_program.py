import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_dataset

from cifar_jax import Batch, Config, build_program, init_state, train_step


def program_of(groups: str):
    config = Config(batch_size=8, model="small", max_steps=10, param_groups=groups)
    return build_program(config, num_classes=3)


def test_without_groups_that_end_a_program_never_ends():
    program = program_of("group('head/.*', frozen=True)")
    assert program.at(0) == (program, None)


def test_a_group_that_is_trained_to_the_last_step_changes_nothing():
    assert program_of("group('head/.*', until=0.99)").at(0)[1] is None


def test_programs_of_equal_settings_are_equal():
    groups = "group('head/.*', until=0.5, optimizer='adamw')"
    one, other = program_of(groups), program_of(groups)
    assert one == other
    assert hash(one) == hash(other)
    assert one != program_of("group('head/.*', until=0.6, optimizer='adamw')")


@pytest.mark.parametrize(("until", "end"), [(0.3, 3), (0.31, 4)])
def test_a_phase_ends_with_the_last_step_of_a_group(until, end):
    program = program_of(f"group('head/.*', until={until})")
    before, after = program.at(end - 1), program.at(end)
    assert (before[0].frozen, before[1]) == ((), end)
    assert (after[0].frozen, after[1]) == (("head/.*",), None)


@pytest.mark.slow
def test_a_step_of_a_later_phase_needs_fewer_gradients_for_the_same_params():
    program = program_of("group('hidden/.*', until=0.2), group('head/bias', until=.5)")
    images, labels = make_dataset().train.images[:8], make_dataset().train.labels[:8]
    batch = Batch.from_arrays(images, labels)
    state = init_state(program, jax.random.key(0), images)
    cost = {}
    for step in range(7):
        after = {}
        for name, own in {"whole": program, "phase": program.at(step)[0]}.items():
            compiled = jax.jit(train_step, static_argnums=0).lower(own, state, batch)
            cost[name] = compiled.cost_analysis()["flops"]
            after[name], _ = jax.jit(train_step, static_argnums=0)(own, state, batch)
        jax.tree.map(
            np.testing.assert_array_equal, after["phase"].params, after["whole"].params
        )
        hidden, before = after["phase"].params["hidden"], state.params["hidden"]
        assert jnp.array_equal(hidden["kernel"], before["kernel"]) == (step >= 2)
        assert (cost["phase"] < cost["whole"]) == (step >= 2)
        state = after["phase"]
