"""What networks, data sets, losses and distortions other than the tutorial's need."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import make_dataset

from cifar_jax import (
    Batch,
    Config,
    Dataset,
    Network,
    Split,
    UserError,
    build_program,
    evaluate,
    fit,
    init_state,
    inspect,
    load_trained,
    models,
    predict_logits,
    read_run,
    train_step,
)
from cifar_jax.writers import jsonl as summaries

take_step = jax.jit(train_step, static_argnums=0)
look_inside = jax.jit(inspect, static_argnums=0)


class Silent(Network):
    """Records no layer."""

    @nn.compact
    def __call__(self, images, train=False):
        x = images[:, ::4, ::4].reshape(len(images), -1)
        return nn.Dense(self.num_classes, name="head")(x)


class Dropping(Network):
    """Drops half of its inputs in training."""

    @nn.compact
    def __call__(self, images, train=False):
        x = images[:, ::4, ::4].reshape(len(images), -1)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return self.record("head", nn.Dense(self.num_classes, name="head")(x))


class Centered(Network):
    """Starts with a bias that takes the mean of the first outputs away."""

    images_for_init = 40

    @nn.compact
    def __call__(self, images, train=False):
        x = images[:, ::4, ::4].reshape(len(images), -1)
        return nn.Dense(self.num_classes, name="head")(x)

    def init_from_data(self, variables, images):
        bias = -self.apply(variables, images).mean(axis=0)
        head = variables["params"]["head"] | {"bias": bias}
        return {"params": {"head": head}}


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    own = {"silent": Silent, "dropping": Dropping, "centered": Centered}
    for name, network in own.items():
        monkeypatch.setitem(models.MODELS, name, network)


def config(model, **changes):
    values = {"max_steps": 6, "batch_size": 8, "log_frequency": 2, "train_dir": None}
    return Config(model=model, **values | changes)


def silent(line: str) -> None:
    """Discards a log line."""


def assert_same_state(a, b):
    for x, y in zip(
        jax.tree.leaves(dataclasses.replace(a, key=0)),
        jax.tree.leaves(dataclasses.replace(b, key=0)),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_a_network_that_records_nothing_trains_and_is_summarized(dataset, tmp_path):
    settings = config("silent", train_dir=str(tmp_path), summary_frequency=3)
    result = fit(settings, dataset, silent)
    (first, *_) = summaries.read_training(tmp_path / "train.jsonl")
    assert set(first["histograms"]) == {
        *("head/kernel", "head/bias"),
        *("head/kernel/gradients", "head/bias/gradients"),
    }
    assert 0 <= evaluate(load_trained(read_run(tmp_path)), dataset.test) <= 1
    assert int(result.state.step) == 6


@pytest.mark.slow
def test_dropout_is_a_function_of_seed_and_step(dataset, tmp_path):
    whole = fit(config("dropping"), dataset, silent)
    for steps in (3, 6):
        resumed = fit(
            config("dropping", max_steps=steps, train_dir=str(tmp_path)),
            dataset,
            silent,
        )
    assert_same_state(resumed.state, whole.state)
    other = fit(config("dropping", seed=1), dataset, silent)
    assert not np.array_equal(
        other.state.params["head"]["kernel"], whole.state.params["head"]["kernel"]
    )


@pytest.mark.slow
def test_inspect_sees_the_dropout_of_the_step(dataset):
    program = build_program(config("dropping", weight_decay=0.0), 3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.of(dataset.train.images[:8], dataset.train.labels[:8])
    inside = look_inside(program, state, batch)
    after, _ = take_step(program, state, batch)
    kernel, grad = state.params["head"]["kernel"], inside.grads["head"]["kernel"]
    np.testing.assert_allclose(
        after.params["head"]["kernel"], kernel - 0.1 * grad, rtol=1e-4, atol=1e-6
    )
    again, _ = take_step(program, after, batch)
    second = look_inside(program, after, batch).grads["head"]["kernel"]
    # What is dropped has no gradient, and that is something else in the next step.
    dropped, then = np.asarray(grad == 0), np.asarray(second == 0)
    assert 0.0 < np.mean(dropped == then) < 1.0
    assert int(again.step) == 2


def test_a_network_can_start_from_the_data(dataset):
    program = build_program(config("centered"), 3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    images = jnp.asarray(dataset.train.images[:40])
    inputs = jax.vmap(program.preprocessing.evaluation, (0, None))(images, None)[:, 0]
    logits = program.model.apply(state.variables, inputs)
    np.testing.assert_allclose(logits.mean(axis=0), 0, atol=1e-4)
    assert np.abs(np.asarray(state.params["head"]["bias"])).max() > 1e-3
    averaged = state.averaged_variables["params"]["head"]["bias"]
    np.testing.assert_array_equal(averaged, state.params["head"]["bias"])


def stripes(count, seed, size=64):
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=count).astype(np.int32)
    images = random.integers(0, 60, (count, size, size, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:: int(label) + 2] += 150
    return Split(images, labels)


@pytest.mark.slow
def test_other_sizes_and_classes_train_evaluate_and_are_loaded_again(tmp_path):
    names = ("close", "wide", "wider")
    own = Dataset.create("own", stripes(48, 0), stripes(20, 1), class_names=names)
    settings = config(
        "small", image_size=56, normalization="channel", train_dir=str(tmp_path)
    )
    trained = fit(settings, own, silent).trained
    run = read_run(tmp_path)
    assert (run.config.dataset, run.class_names) == ("own", names)
    assert run.image_shape == (64, 64, 3)
    loaded = load_trained(run)
    assert loaded.statistics.mean.shape == (64, 64, 3)
    expected = predict_logits(trained, own.test.images)
    assert expected.shape == (20, 3)
    np.testing.assert_array_equal(predict_logits(loaded, own.test.images), expected)
    with pytest.raises(UserError, match=r"must be an array \[n, 64, 64, 3\]"):
        evaluate(loaded, make_dataset().test)


@pytest.mark.parametrize(
    "distortions",
    ["crop, flip", pytest.param("crop, mixup(1)", marks=pytest.mark.slow)],
)
def test_images_smaller_than_the_inputs_are_enlarged(tmp_path, distortions):
    own = Dataset.create(
        "own", stripes(16, 0, 20), stripes(8, 1, 20), class_names=("a", "b", "c")
    )
    settings = config("small", distortions=distortions, train_dir=str(tmp_path))
    trained = fit(settings, own, silent).trained
    expected = predict_logits(trained, own.test.images)
    loaded = load_trained(read_run(tmp_path))
    np.testing.assert_array_equal(predict_logits(loaded, own.test.images), expected)


@pytest.mark.parametrize(
    "changes",
    [
        *(
            pytest.param(changes, marks=pytest.mark.slow)
            for changes in (
                {"loss": "squared_error", "learning_rate": 0.01},
                {"distortions": "crop, alternating_flip, mixup(1)"},
                {"loss": "cross_entropy(label_smoothing=0.1)"},
                {"distortions": "translate(2), cutout(5), cutmix"},
                {"optimizer": "lookahead(adamw, period=2)", "learning_rate": 0.01},
            )
        ),
        {"param_groups": "group('hidden/.*', frozen=True)", "schedule": "linear"},
    ],
)
def test_a_resumed_run_ends_in_the_same_bits(dataset, tmp_path, changes):
    settings = config("small", **changes)
    whole = fit(settings, dataset, silent)
    if settings.schedule == "staircase":
        for steps in (3, 6):
            part = dataclasses.replace(
                settings, max_steps=steps, train_dir=str(tmp_path)
            )
            resumed = fit(part, dataset, silent)
        assert_same_state(resumed.state, whole.state)
    program = build_program(settings, 3)
    start = init_state(program, jax.random.key(0), dataset.train.images)
    kernels = [state.params["hidden"]["kernel"] for state in (start, whole.state)]
    assert np.array_equal(*kernels) == ("param_groups" in changes)


@pytest.mark.slow
def test_the_loss_has_its_own_name(dataset, tmp_path):
    settings = config(
        "small", loss="squared_error", optimizer="adamw", train_dir=str(tmp_path)
    )
    fit(settings, dataset, silent)
    (first,) = summaries.read_training(tmp_path / "train.jsonl")
    assert first["squared_error_raw"] == first["total_loss_raw"]
    # Decoupled weight decay is no part of the loss.
    assert "weight_loss_raw" not in first


def test_a_run_of_an_earlier_version_is_refused_on_one_line(finished_run, tmp_path):
    saved = json.loads((finished_run / "config.json").read_text())
    del saved["format"], saved["sha256"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match="another version of cifar_jax wrote it") as e:
        read_run(tmp_path)
    assert "\n" not in str(e.value)
