"""Tests --order=hardest: only the images that a small network finds hardest.

The golden values come from golden/make_hardest.py.
"""

import dataclasses
import functools
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import airbench_inputs as inputs

from cifar_jax import (
    Batch,
    Config,
    Hook,
    RunError,
    UserError,
    fit,
    init_state,
    load_data,
    models,
    predict_logits,
    train_step,
)
from cifar_jax.config.orders import Hardest
from cifar_jax.models.airbench import Airbench
from cifar_jax.training import hardest
from cifar_jax.training.trained import from_state

KEPT, EVERY = inputs.KEPT, inputs.EVERY
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "hardest.npz")
SPEC = Hardest(keep=0.25, proxy="lenet", every=2)
SMALL = "hardest(keep=0.25, proxy='lenet', every=2)"


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def config(**settings) -> Config:
    given = {"model": "lenet", "image_size": 32, "batch_size": 8, "max_steps": 6}
    return Config(**{**given, "order": SMALL, "train_dir": None, **settings})


def choose(config: Config, dataset) -> list[dict[str, np.ndarray]]:
    """Returns the batches that are chosen."""
    order = hardest.choose(config, SPEC, dataset, helpers.silent)
    return [order(step) for step in range(config.max_steps)]


@pytest.mark.slow
def test_the_choice_and_the_updates_match_the_original(digits, monkeypatch):
    narrow = functools.partial(Airbench, widths=inputs.WIDTHS)
    monkeypatch.setitem(models.MODELS, "narrow", narrow)
    recipe = Config(recipe="airbench96")
    run = dataclasses.replace(
        recipe,
        max_steps=inputs.STEPS,
        batch_size=KEPT,
        distortions="",
        schedule="triangle(start=0.2, peak=0.2)",
        learning_rate=inputs.FACTOR * recipe.learning_rate,
    )
    program = hardest.proxy_program(run, Hardest(0.5, "narrow", EVERY), digits)
    images, labels = inputs.images(), inputs.labels()
    state = init_state(program, jax.random.key(0), images.reshape(-1, 32, 32, 3))
    params = jax.tree.map(jnp.asarray, inputs.params())
    state = dataclasses.replace(state, params=params, opt_state=program.tx.init(params))
    look = jax.jit(hardest.find_hardest, static_argnums=(0, 3))
    learn = jax.jit(functools.partial(train_step, program))
    for step in range(inputs.STEPS):
        batch = Batch.from_arrays(images[step], labels[step])
        chosen = look(program, state, batch, KEPT)
        np.testing.assert_array_equal(chosen, GOLDEN["chosen"][step])
        if step % EVERY == 0:
            state, _ = learn(state, batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        layer, kind = (key.key for key in path)
        before, expected = params[layer][kind], GOLDEN[f"{layer}/{kind}"]
        error = np.linalg.norm(leaf - expected)
        assert error <= 1e-4 * np.linalg.norm(expected - before), path


def test_batches_are_the_hardest_of_the_pools(digits):
    run = config(distortions="", normalization="channel")
    batches = choose(run, digits)
    program = hardest.proxy_program(run, SPEC, digits)
    seen = np.concatenate([batch["indices"] for batch in batches])
    assert seen.shape == (48,)
    assert len(np.unique(seen)) == 48  # all of the same epoch
    # Before the first update, they are those of the initial network.
    key = jax.random.fold_in(jax.random.key(run.seed), hardest.PROXY)
    state = init_state(program, key, digits.train.images)
    order = hardest.create_pools(run, SPEC, digits, key)
    pool = order(0)["indices"]
    assert pool.shape == (32,)
    trained = from_state(program, state, digits)
    logits = predict_logits(trained, digits.train.images[pool])
    losses = -jax.nn.log_softmax(logits)[np.arange(32), digits.train.labels[pool]]
    expected = pool[np.sort(np.argsort(losses)[-8:])]
    np.testing.assert_array_equal(batches[0]["indices"], expected)


def test_epochs_are_those_of_the_pools(digits):
    count = len(digits.train)
    batches = choose(config(max_steps=count // 32 + 2), digits)
    epochs = np.concatenate([batch["epochs"] for batch in batches])
    assert sorted(set(epochs)) == [0, 1]
    assert (np.diff(epochs) >= 0).all()


def test_a_run_is_reproducible_and_resumes_to_the_same_bits(digits, tmp_path):
    class Stop(Hook):
        every = 3

        def __call__(self, now):
            now.stop("enough")

    quiet = {"dataset": digits, "log": helpers.silent}
    whole = fit(config(), **quiet).state
    run = config(train_dir=str(tmp_path / "run"))
    assert fit(run, hooks=[Stop()], **quiet).steps == 3
    resumed = fit(run, **quiet)
    assert resumed.steps == 3
    helpers.assert_equal_states(resumed.state, whole)
    other = fit(config(order="shuffled"), **quiet).state
    assert not np.array_equal(
        jax.tree.leaves(whole.params)[0], jax.tree.leaves(other.params)[0]
    )
    with pytest.raises(UserError, match=r"order: hardest\(.* there, shuffled now"):
        fit(dataclasses.replace(run, order="shuffled"), **quiet)
    with pytest.raises(UserError, match="max_steps: 6 there, 7 now"):
        fit(dataclasses.replace(run, max_steps=7), **quiet)


def test_seeds_choose_differently_and_equal_ones_alike(digits):
    first, again, other = (
        [batch["indices"].tolist() for batch in choose(config(seed=seed), digits)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "loss", ["balanced(cross_entropy)", "label_noise(cross_entropy, 0.4)"]
)
def test_losses_that_need_counts_or_indices_choose(digits, loss):
    indices = [batch["indices"] for batch in choose(config(loss=loss), digits)]
    plain = [batch["indices"] for batch in choose(config(), digits)]
    assert not np.array_equal(indices, plain)


def test_images_without_labels_are_refused():
    unlabeled = load_data("digits", data_changes="hide_labels(5)")
    with pytest.raises(UserError, match="needs labels, but some training images have"):
        fit(config(), unlabeled, log=helpers.silent)


@pytest.mark.parametrize(
    ("settings", "order", "message"),
    [
        ({"batch_size": 512}, None, "chooses 512 of 2048 images, but there are 1"),
        ({"drop_remainder": True}, None, "has no use for --drop_remainder"),
        ({"optimizer": "accumulate(sgd, 2)"}, None, "that accumulates gradients"),
        ({}, lambda step: np.arange(8), "order= replaces --order=hardest"),
        (
            {"model": "tutorial", "param_groups": "group('local3/.*', frozen=True)"},
            None,
            "the proxy of --order=.*local3",
        ),
        ({"learning_rate": 1e35}, None, "the proxy of --order=.* diverged"),
    ],
)
def test_what_does_not_fit_is_refused(digits, settings, order, message):
    with pytest.raises((UserError, RunError), match=message):
        fit(config(**settings), digits, log=helpers.silent, order=order)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hardest(keep=0)", "keep=0"),
        ("hardest(keep=1.5)", "keep=1.5"),
        ("hardest(every=0)", "every=0"),
        ("hardest(proxy='nonet')", "proxy='nonet'"),
        ("easiest", "easiest"),
    ],
)
def test_unusable_orders_are_one_line(text, message):
    with pytest.raises(UserError) as error:
        Config(order=text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
