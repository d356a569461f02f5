"""Tests the train step with BatchNorm; test_golden.py tests the tutorial's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import OnDisk, assert_equal_states, silent

from cifar_jax import (
    Batch,
    Config,
    Dataset,
    Split,
    UserError,
    build_program,
    eval_step,
    evaluate,
    fit,
    init_state,
    inspect,
    train_step,
)
from cifar_jax.optimization.weight_decay import WeightDecay
from cifar_jax.training.trained import from_state

MOMENTUM = 0.9  # SmallBatchNorm's weight of the old value.


CONFIG = Config(
    model="batch_norm",
    weight_decay=5e-4,
    optimizer="sgd(momentum=0.9)",
    train_dir=None,
)


@pytest.fixture(scope="module")
def program():
    return build_program(CONFIG, num_classes=3)


take_step = jax.jit(train_step, static_argnums=0)
look_inside = jax.jit(inspect, static_argnums=0)


@pytest.fixture(scope="module")
def state(program, dataset):
    return init_state(program, jax.random.key(0), dataset.train.images)


@pytest.fixture(scope="module")
def batch(dataset):
    return Batch.from_arrays(dataset.train.images[:16], dataset.train.labels[:16])


def convolved(program, state, inside):
    """Returns the inputs of BatchNorm in a step."""
    model = program.model
    _, kept = model.apply(
        state.variables,
        inside.images,
        capture_intermediates=lambda module, _: module.name == "conv",
        mutable=["intermediates"],
    )
    return np.asarray(kept["intermediates"]["conv"]["__call__"][0])


def test_running_statistics_follow_the_batch(program, state, batch):
    x = convolved(program, state, look_inside(program, state, batch))
    after, _ = take_step(program, state, batch)
    norm = after.batch_stats["norm"]
    expected = {
        "mean": (1 - MOMENTUM) * x.mean(axis=(0, 1, 2)),
        "var": MOMENTUM + (1 - MOMENTUM) * x.var(axis=(0, 1, 2)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(norm[name], values, rtol=1e-4, atol=1e-5)


def test_training_normalizes_by_the_batch_and_evaluation_does_not(
    program, state, batch
):
    inside = look_inside(program, state, batch)
    x = convolved(program, state, inside)
    standardized = (x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(
        inside.activations["conv"], np.maximum(standardized, 0), atol=1e-4
    )
    logits = program.model.apply(state.variables, inside.images)
    alone = program.model.apply(state.variables, inside.images[:1])
    np.testing.assert_allclose(logits[:1], alone, atol=1e-5)


def test_gradients_flow_through_the_batch_statistics(program, state, batch):
    inside = look_inside(program, state, batch)
    after, losses = take_step(program, state, batch)
    # The first step of SGD with momentum equals one without.
    jax.tree.map(
        lambda new, old, grad: np.testing.assert_allclose(
            new, old - 0.1 * grad, rtol=1e-4, atol=1e-6
        ),
        after.params,
        state.params,
        inside.grads,
    )
    assert set(losses) == {"cross_entropy", "weight_loss", "total_loss"}
    # Scaling the kernel before BatchNorm changes nothing, so the gradient is orthogonal
    # to the kernel except for the weight decay and epsilon.
    kernel, grad = state.params["conv"]["kernel"], inside.grads["conv"]["kernel"]
    decay = 5e-4 * jnp.vdot(kernel, kernel)
    assert float(jnp.vdot(kernel, grad) - decay) == pytest.approx(0, abs=1e-4)


def test_statistics_are_averaged_like_parameters(program, state, batch):
    after, _ = take_step(program, state, batch)
    averaged = after.averaged_variables
    # The first decay is 2/11.
    expected = jax.tree.map(
        lambda old, new: 2 / 11 * old + 9 / 11 * new, state.variables, after.variables
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        averaged,
        expected,
    )


def test_evaluation_uses_the_averaged_statistics(program, state, batch, dataset):
    after, _ = take_step(program, state, batch)
    images = dataset.test.images
    network = from_state(program, after, dataset)
    statistics = network.variables["batch_stats"]
    mixed = after.variables | {"batch_stats": statistics}
    whole, mixed = (
        eval_step(
            variables,
            images,
            None,
            model=program.model,
            preprocessing=program.preprocessing,
        )
        for variables in (network.variables, mixed)
    )
    assert not np.allclose(whole, mixed)
    assert_equal_states(network.variables, after.averaged_variables)


@pytest.mark.slow
def test_ten_views_are_averaged_as_probabilities(dataset):
    settings = dataclasses.replace(CONFIG, views="ten_crops")
    program = build_program(settings, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    images = jnp.asarray(dataset.test.images[:2])
    logits = eval_step(
        state.variables,
        images,
        None,
        model=program.model,
        preprocessing=program.preprocessing,
    )
    views = jnp.stack(
        [program.preprocessing.prepare_eval(image, None) for image in images]
    )
    each = jax.nn.softmax(
        jnp.stack([program.model.apply(state.variables, view) for view in views])
    )
    np.testing.assert_allclose(jnp.exp(logits), each.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(jnp.exp(logits).sum(axis=1), 1, rtol=1e-5)


WEIGHTS = np.random.RandomState(0).uniform(0, 2, 64).astype(np.float32)
WEIGHTED = dataclasses.replace(
    CONFIG, loss="weighted(cross_entropy)", weight_decay=0.0, max_steps=3, batch_size=16
)


@pytest.fixture(scope="module")
def weighted_data(dataset):
    train = dataclasses.replace(dataset.train, extra={"weight": WEIGHTS})
    return dataclasses.replace(dataset, train=train)


def test_a_step_minimizes_the_mean_of_the_weighted_losses(dataset):
    images, labels = dataset.train.images[:16], dataset.train.labels[:16]
    program = build_program(WEIGHTED, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    weights = np.array([3.0] * 4 + [0.0] * 12)
    batch = Batch.from_arrays(images, labels, {"weight": weights})
    _, losses = take_step(program, state, batch)
    inputs = look_inside(program, state, batch).images
    logits, _ = program.model.apply(
        state.variables, inputs, train=True, mutable=["batch_stats"]
    )
    log_p = jax.nn.log_softmax(logits)
    expected = np.mean(weights * -np.asarray(log_p)[np.arange(16), labels])
    assert float(losses["weighted_loss"]) == pytest.approx(float(expected), rel=1e-5)


class OfIndex:
    """A loss that is the number of the example in the training set."""

    name = "of_index"

    def __call__(self, logits, targets, extra):
        return extra["index"] + 0 * logits.sum(axis=-1)


class OfBatch(OfIndex):
    """A loss that returns one number for the whole batch."""

    def __call__(self, logits, targets, extra):
        return super().__call__(logits, targets, extra).mean()


class OfClasses(OfIndex):
    """A loss that returns too many numbers."""

    def __call__(self, logits, targets, extra):
        return logits


@pytest.mark.parametrize("loss", [OfIndex(), OfBatch()])
def test_a_loss_knows_which_images_it_is_of(program, state, batch, loss):
    indices = jnp.arange(16) * 3
    own = dataclasses.replace(program, loss=loss, weight_decay=WeightDecay(0, False))
    terms = {"of_index": jnp.float32(0), "total_loss": jnp.float32(0)}
    own_state = dataclasses.replace(state, loss_averages=terms)
    step = jax.jit(train_step, static_argnums=0)
    _, losses = step(own, own_state, batch._replace(indices=indices))
    assert float(losses["of_index"]) == indices.mean()


def test_a_loss_of_another_shape_is_refused(program, state, batch):
    own = dataclasses.replace(program, loss=OfClasses())
    with pytest.raises(UserError, match=r"of_index returned values of shape \[16, 3\]"):
        train_step(own, state, batch)


def test_what_the_loss_needs_and_the_data_lack_is_named(dataset):
    with pytest.raises(UserError, match=r"--loss=weighted needs an array 'weight'"):
        fit(WEIGHTED, dataset, silent)


def test_extra_arrays_and_mixtures_exclude_each_other(weighted_data):
    mixing = dataclasses.replace(WEIGHTED, distortions="crop, mixup")
    with pytest.raises(UserError, match=r"extra arrays \(weight\) cannot be mixed"):
        fit(mixing, weighted_data, silent)


def test_arrays_on_disk_train_the_same_network(weighted_data):
    train = weighted_data.train
    on_disk = Split(
        OnDisk(train.images), OnDisk(train.labels), {"weight": OnDisk(WEIGHTS)}
    )
    other = Dataset.create(
        weighted_data.name,
        on_disk,
        Split(OnDisk(weighted_data.test.images), OnDisk(weighted_data.test.labels)),
        class_names=weighted_data.class_names,
    )
    streaming = dataclasses.replace(WEIGHTED, stream=True)
    runs = [fit(WEIGHTED, weighted_data, silent), fit(streaming, other, silent)]
    assert_equal_states(*(run.state.params for run in runs))
    accuracies = [
        evaluate(run.trained, data.test)
        for run, data in zip(runs, (weighted_data, other), strict=True)
    ]
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize("label", [-2, 3])
def test_known_labels_that_are_no_classes_are_refused(program, state, batch, label):
    labels = batch.labels.at[5].set(label)
    for look in (train_step, inspect):
        with pytest.raises(UserError, match=f"labels contains {label}; with 3 classes"):
            look(program, state, batch._replace(labels=labels))


def test_a_batch_has_no_negative_labels_but_those_of_unlabeled_images(dataset):
    images = dataset.train.images[:2]
    assert Batch.from_arrays(images, np.array([0, -1])).labels.tolist() == [0, -1]
    with pytest.raises(UserError, match="contains -2; labels are at least 0, or -1"):
        Batch.from_arrays(images, np.array([0, -2]))


@pytest.mark.wrong_types
def test_a_batch_has_as_many_extras_as_images(dataset):
    images = dataset.train.images[:2]
    with pytest.raises(UserError, match="2 images but 3 rows of extra"):
        Batch.from_arrays(images, np.array([0, 1]), {"weight": np.ones(3)})


def test_labels_of_no_class_never_give_a_loss(dataset):
    program = build_program(Config(model="small"), num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    images = dataset.train.images[:8]

    @jax.jit
    def step(images, labels):
        return train_step(program, state, Batch.from_arrays(images, labels))[1]

    for label in (-2, 3, 10):
        labels = dataset.train.labels[:8].copy()
        labels[0] = label
        losses = step(images, labels)
        assert np.isnan(losses["cross_entropy"])
        assert np.isnan(losses["total_loss"])
        with pytest.raises(UserError, match=f"labels contains {label}"):
            train_step(program, state, Batch.from_arrays(images, labels))
