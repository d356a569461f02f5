"""What networks, data sets, losses and distortions other than the tutorial's need."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import Dropping, make_dataset, silent

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
    forward,
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
def test_inspect_sees_the_dropout_of_the_step(dataset):
    program = build_program(config("dropping", weight_decay=0.0), 3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:8], dataset.train.labels[:8])
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
    inputs = jax.vmap(program.preprocessing.prepare_eval, (0, None))(images, None)[:, 0]
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


class Sowing(Network):
    """Adds a loss of its own, draws from a stream of its own, in a nested module."""

    @nn.compact
    def __call__(self, images, train=False):
        x = images[:, ::4, ::4].reshape(len(images), -1)
        if train:
            x = x + 0.1 * jax.random.normal(self.make_rng("noise"), x.shape)
        x = Penalized(name="inner")(x)
        return nn.Dense(self.num_classes, name="head")(x)


class Penalized(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="dense")(x)
        self.sow("losses", "activity", 0.01 * (x**2).mean())
        self.sow("losses", "activity", 0.02 * (x**2).mean())
        return x


def test_losses_that_a_network_sows_are_added_and_its_streams_are_drawn(dataset):
    program = build_program(config("silent", weight_decay=0.0), 3, Sowing())
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:8], dataset.train.labels[:8])
    after, metrics = take_step(program, state, batch)
    assert set(metrics) == {"cross_entropy", "inner/activity", "total_loss"}
    terms = metrics["cross_entropy"] + metrics["inner/activity"]
    np.testing.assert_allclose(metrics["total_loss"], terms, rtol=1e-6)
    assert metrics["inner/activity"] > 0

    def loss(params):
        return forward(program, params, state, batch)[0]

    grads = jax.jit(jax.grad(loss))(state.params)
    stepped = (
        state.params["inner"]["dense"]["kernel"]
        - 0.1 * (grads["inner"]["dense"]["kernel"])
    )
    np.testing.assert_allclose(
        after.params["inner"]["dense"]["kernel"], stepped, rtol=1e-4, atol=1e-6
    )
    # The noise is a function of the step.
    _, again = take_step(program, state, batch)
    _, later = take_step(
        program, dataclasses.replace(state, step=state.step + 1), batch
    )
    assert again["cross_entropy"] == metrics["cross_entropy"] != later["cross_entropy"]


def test_a_network_with_other_variables_is_refused(dataset):
    class Counting(Network):
        @nn.compact
        def __call__(self, images, train=False):
            self.variable("counts", "calls", jnp.zeros, ())
            x = images[:, ::4, ::4].reshape(len(images), -1)
            return nn.Dense(self.num_classes, name="head")(x)

    program = build_program(config("silent"), 3, Counting())
    with pytest.raises(UserError, match=r"counts.*batch_stats"):
        init_state(program, jax.random.key(0), dataset.train.images)


@pytest.mark.wrong_types
def test_fit_takes_a_network_that_has_no_name(dataset, tmp_path):
    settings = config("small", train_dir=str(tmp_path))
    given = Dropping(num_classes=7)
    lines = []
    result = fit(settings, dataset, lines.append, model=given)
    assert any("network Dropping with 327 parameters" in line for line in lines)
    run = read_run(tmp_path)
    with pytest.raises(
        UserError, match=r"is .*Dropping\(.*, not that of --model; pass"
    ):
        load_trained(run)
    with pytest.raises(UserError, match=r"not .*Silent"):
        load_trained(run, model=Silent())
    loaded = load_trained(run, model=Dropping())
    np.testing.assert_array_equal(
        predict_logits(loaded, dataset.test.images),
        predict_logits(result.trained, dataset.test.images),
    )
    longer = dataclasses.replace(settings, max_steps=8)
    with pytest.raises(UserError, match=r"holds another run .network: .*Dropping"):
        fit(longer, dataset, silent)
    assert fit(longer, dataset, silent, model=given).steps == 2
    with pytest.raises(UserError, match=r"model must be a cifar_jax\.Network"):
        fit(longer, dataset, silent, model=nn.Dense(3))


def test_any_schedule_is_summarized(dataset, tmp_path):
    settings = config("small", schedule="triangle(end=0.1)", train_dir=str(tmp_path))
    fit(settings, dataset, silent)
    (first,) = summaries.read_training(tmp_path / "train.jsonl")
    assert 0 <= first["learning_rate"] <= settings.learning_rate
