import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_equal_states

from cifar_jax import (
    Config,
    Split,
    UserError,
    build_program,
    classify,
    create_model,
    eval_step,
    evaluate,
    fit,
    load_trained,
    models,
    predict_logits,
    read_run,
)
from cifar_jax.devices import compilation
from cifar_jax.evaluation import batching
from cifar_jax.runs import checkpoints as checkpoint_files


@pytest.fixture(scope="module")
def network(finished_run):
    return load_trained(read_run(finished_run))


def test_padding_changes_no_logits(network, dataset):
    images = dataset.test.images  # 20 of them
    whole = predict_logits(network, images, batch_size=20)
    assert whole.shape == (20, 3)
    for batch_size in (1, 7, 20, 64):
        logits = predict_logits(network, images, batch_size)
        np.testing.assert_allclose(logits, whole, atol=1e-5)


@pytest.mark.parametrize("bytes_per_call", [1, 3 * 7 * 32 * 32 * 3])
def test_a_set_that_is_sent_in_parts_has_the_same_logits(
    network, dataset, bytes_per_call, monkeypatch
):
    whole = predict_logits(network, dataset.test.images, batch_size=7)
    monkeypatch.setattr(batching, "BYTES_PER_CALL", bytes_per_call)
    parts = predict_logits(network, dataset.test.images, batch_size=7)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("batches", "batch_bytes", "per_call"), [(125, 1, 125), (11, 30, 4), (4, 500, 1)]
)
def test_calls_are_of_about_the_same_length(
    batches, batch_bytes, per_call, monkeypatch
):
    monkeypatch.setattr(batching, "BYTES_PER_CALL", 125)
    assert batching.batches_per_call(batches, batch_bytes) == per_call


def test_every_image_counts_exactly_once(network, dataset):
    logits = eval_step(
        network.variables,
        dataset.test.images,
        None,
        model=network.model,
        preprocessing=network.preprocessing,
    )
    guesses = np.argmax(logits, axis=-1)
    for wrong in (0, 1, 20):
        labels = np.array(guesses, np.int32)
        labels[:wrong] = (labels[:wrong] + 1) % 3
        split = Split(dataset.test.images, labels)
        for batch_size in (3, 20):
            precision = evaluate(network, split, batch_size)
            assert precision == (20 - wrong) / 20


def test_averaged_and_raw_parameters_are_those_of_the_state(
    finished_run, dataset, network
):
    run = read_run(finished_run)
    settings = Config(max_steps=12, batch_size=8, model="small", train_dir=None)
    state = fit(settings, dataset, lambda _: None).state
    raw = load_trained(run, raw_params=True)
    assert (network.step, raw.step) == (12, 12)
    for loaded, expected in [
        (network.variables, state.averaged_variables),
        (raw.variables, state.variables),
    ]:
        assert_equal_states(loaded, expected)
    kernels = [x.variables["params"]["hidden"]["kernel"] for x in (network, raw)]
    assert not np.array_equal(*kernels)


def test_no_checkpoint_yet(finished_run, tmp_path):
    (tmp_path / "config.json").write_text((finished_run / "config.json").read_text())
    with pytest.raises(UserError, match=r"no checkpoint in .* yet"):
        load_trained(read_run(tmp_path))


@pytest.mark.wrong_types
def test_a_step_can_be_chosen(dataset, tmp_path):
    settings = Config(
        max_steps=3,
        batch_size=8,
        model="small",
        log_frequency=1,
        save_interval_secs=0,
        train_dir=str(tmp_path),
    )
    fit(settings, dataset, lambda _: None)
    run = read_run(tmp_path)
    assert checkpoint_files.steps(run.checkpoints) == [1, 2, 3]
    assert [load_trained(run, step).step for step in (1, 2)] == [1, 2]
    with pytest.raises(UserError, match=r"no checkpoint of step 4 .* 1, 2, 3"):
        load_trained(run, 4)
    for step in ("2", 1.5):
        with pytest.raises(UserError, match=f"step={step!r} must be an integer"):
            load_trained(run, step)


def zeros(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            zeros(2, 24, 24, 3),
            r"images must be an array \[n, 32, 32, 3\], not of shape",
        ),
        (zeros(2, 32, 32, 3, dtype=float), "images must be bytes"),
        (np.full((2, 32, 32, 3), np.nan), "images must be bytes"),
        (zeros(0, 32, 32, 3), "images is empty"),
        (zeros(32, 32, 3), "images must be an array"),
        ("cat.png", "images must be an array"),
    ],
)
@pytest.mark.parametrize("function", [predict_logits, classify])
def test_images_that_cannot_be_used_are_refused(network, function, images, message):
    with pytest.raises(UserError, match=message):
        function(network, images)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (zeros(9), "there are 1 images but 9 split.labels"),
        (np.array([3]), "split.labels contains 3"),
        (np.array([0.5]), "split.labels must be an array of integers"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(network, labels, message):
    with pytest.raises(UserError, match=message):
        evaluate(network, Split(zeros(1, 32, 32, 3), labels))


@pytest.mark.wrong_types
def test_a_pair_is_not_a_split(network):
    with pytest.raises(UserError, match=r"split must be a cifar_jax\.Split"):
        evaluate(network, (zeros(1, 32, 32, 3), zeros(1)))


@pytest.mark.wrong_types
@pytest.mark.parametrize("batch_size", [0, 2.5, "8", True])
def test_batch_sizes_that_cannot_be_used_are_refused(network, dataset, batch_size):
    with pytest.raises(UserError, match=f"batch_size={batch_size!r}"):
        predict_logits(network, dataset.test.images, batch_size)


@pytest.mark.wrong_types
@pytest.mark.parametrize("num_classes", [0, 2.5, None, "ten"])
def test_numbers_of_classes_that_cannot_be_used_are_refused(num_classes):
    with pytest.raises(UserError, match=f"num_classes={num_classes!r}"):
        build_program(Config(), num_classes)


@pytest.mark.wrong_types
def test_a_module_that_is_not_a_network_is_refused(monkeypatch):
    for wrong, message in (
        (nn.Dense, "--model=wrong: Dense is not a cifar_jax.Network"),
        (
            lambda **_: "network",
            "--model=wrong: wrong returns an object of str, which must derive from "
            "cifar_jax.models.network.Network",
        ),
    ):
        monkeypatch.setitem(models.MODELS, "wrong", wrong)
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            Config(model="wrong")


def test_classify_gives_probabilities_independent_of_the_batch(network, dataset):
    probabilities = classify(network, dataset.test.images)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-6)
    alone = classify(network, dataset.test.images[3:4])
    np.testing.assert_array_equal(alone[0], probabilities[3])
    logits = predict_logits(network, dataset.test.images)
    np.testing.assert_allclose(
        probabilities, jax.nn.softmax(logits, axis=-1), atol=1e-6
    )


def test_unknown_models_are_refused():
    with pytest.raises(
        UserError, match="--model=resnet: resnet is unknown; choose from"
    ):
        create_model("resnet")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the trap is the CPU's")
@pytest.mark.slow
def test_lax_convolutions_are_stepped_from_the_host(network, dataset, monkeypatch):
    answers = []

    def asked(lowered, slow_in_loops=compilation.is_slow_in_loops):
        answers.append(slow_in_loops(lowered))
        return answers[-1]

    monkeypatch.setattr(compilation, "is_slow_in_loops", asked)
    images = jnp.zeros((1, 24, 24, 3))
    variables = create_model("tutorial", 3).init(jax.random.key(0), images)
    plain, expected = (
        predict_logits(
            dataclasses.replace(
                network,
                model=create_model("tutorial", num_classes=3, ops=ops),
                variables=variables,
            ),
            dataset.test.images,
            batch_size=8,
        )
        for ops in ("plain", "fast")
    )
    assert answers == [True, False]
    np.testing.assert_allclose(plain, expected, atol=1e-5)
