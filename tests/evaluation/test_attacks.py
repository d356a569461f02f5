"""Tests attacks where the worst change is known, and on trained networks."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_one_line

from cifar_jax import (
    Config,
    Network,
    Split,
    Trained,
    UserError,
    load_trained,
    predict_logits,
    read_run,
)
from cifar_jax.data.views import VIEWS
from cifar_jax.evaluation.attacks import ATTACKS, FGSM, PGD, predict_attacked
from cifar_jax.registry import resolve


class Linear(Network):
    """A linear function of the pixels."""

    @nn.compact
    def __call__(self, images, train=False):
        head = nn.Dense(self.num_classes, name="head")
        return head(images.reshape(len(images), -1))


@pytest.fixture(scope="module")
def linear():
    """A linear network of two classes that sees pixels scaled to -1 to 1."""
    config = Config(image_size=8, normalization="tf", distortions="")
    model = Linear(num_classes=2)
    # Gradients of exactly zero have no sign.
    kernel = np.random.default_rng(0).normal(size=(192, 2)).astype(np.float32)
    variables = {"params": {"head": {"kernel": kernel, "bias": np.zeros(2, "f4")}}}
    return Trained(
        model, variables, config.preprocessing, None, 0, ("a", "b"), (8, 8, 3)
    )


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (7, 8, 8, 3), np.uint8)
    return Split(images, random.integers(0, 2, 7).astype(np.int32))


def worst_logits(network, split, eps):
    """Returns the logits of the worst images: every pixel against the true label."""
    kernel = network.variables["params"]["head"]["kernel"]
    against = (kernel[:, 1] - kernel[:, 0]).reshape(8, 8, 3)
    signs = np.where(split.labels == 0, 1, -1)[:, None, None, None]
    images = split.images + 255 * eps * signs * np.sign(against)
    inputs = np.clip(images, 0, 255) / 127.5 - 1
    return inputs.reshape(7, -1) @ kernel


@pytest.mark.parametrize("text", ["fgsm(eps=8/255)", "pgd(eps=8/255, steps=10)", "pgd"])
def test_an_attack_on_a_linear_network_finds_the_worst_images(linear, split, text):
    attack = resolve(text, ATTACKS, "attack")
    logits = predict_attacked(linear, split, attack, batch_size=3)
    expected = worst_logits(linear, split, 8 / 255)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_an_attack_of_size_zero_changes_nothing(linear, split):
    expected = predict_logits(linear, split.images)
    for attack in (FGSM(0), PGD(0)):
        logits = predict_attacked(linear, split, attack)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_pgd_starts_anywhere_steps_by_its_size_and_stays_within_eps():
    images = jnp.asarray([0.0, 100.0, 255.0]).reshape(3, 1, 1, 1)
    images = jnp.broadcast_to(images, (3, 8, 8, 3))
    numbers = jnp.arange(3)
    seen = []

    def gradient(x):
        seen.append(x)
        return jnp.ones_like(x)

    attack = PGD(eps=0.1, steps=3, step_size=0.02)
    end = attack(images, gradient, numbers)
    assert len(seen) == 3
    start, *_ = seen
    assert start.min() == 0
    assert start.max() == 255
    middle = (start[1] - 100) / 25.5
    assert -1 <= middle.min() < -0.9
    assert 0.9 < middle.max() <= 1
    np.testing.assert_allclose(
        seen[1], np.clip(start + 5.1, None, np.minimum(images + 25.5, 255)), rtol=1e-6
    )
    np.testing.assert_allclose(
        end, np.clip(start + 15.3, None, np.minimum(images + 25.5, 255)), rtol=1e-6
    )


def test_the_random_start_of_an_image_depends_on_seed_and_number_alone():
    images = jnp.full((2, 4, 4, 3), 100.0)

    def start(seed, numbers):
        attack = PGD(steps=1, seed=seed)
        return attack(images, jnp.zeros_like, jnp.asarray(numbers))

    both = start(0, [3, 4])
    np.testing.assert_array_equal(both, start(0, [4, 3])[::-1])
    assert not np.array_equal(both[0], both[1])
    assert not np.array_equal(both, start(1, [3, 4]))


def test_steps_reach_farther_than_one_in_a_network_that_is_not_linear(
    finished_run, dataset
):
    network = load_trained(read_run(finished_run))

    def loss(attack):
        logits = predict_attacked(network, dataset.test, attack)
        rows = jax.nn.log_softmax(logits)
        return -np.take_along_axis(rows, dataset.test.labels[:, None], 1).mean()

    clean, fast, far = (loss(a) for a in (FGSM(0), FGSM(0.1), PGD(0.1, steps=20)))
    assert clean < fast < far + 1e-3
    assert clean < loss(PGD(0.05)) < far


def test_all_views_are_attacked(linear, split):
    views = resolve("mirror", VIEWS, "views")
    preprocessing = dataclasses.replace(linear.preprocessing, views=views)
    both = dataclasses.replace(linear, preprocessing=preprocessing)
    truth = np.arange(7), split.labels
    before = jax.nn.log_softmax(predict_logits(both, split.images))[truth]
    after = jax.nn.log_softmax(predict_attacked(both, split, PGD()))[truth]
    assert (after < before).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cw", "cw is unknown; choose from fgsm, pgd"),
        ("pgd(eps=8)", "eps=8.0 must be at most 1"),
        ("pgd(steps=0)", "steps=0 must be at least 1"),
        ("pgd(step_size=0)", "step_size=0.0 must be above 0"),
        ("fgsm, pgd", "must be exactly one"),
    ],
)
def test_attacks_that_cannot_be_used_are_refused(call_command, digits_run, text, words):
    with pytest.raises(UserError, match=words):
        resolve(text, ATTACKS, "attack")
    flags = (f"--checkpoint_dir={digits_run / 'run'}", "--eval_dir=here")
    assert_one_line(call_command("eval", *flags, f"--attack={text}"), 2, words)


@pytest.mark.parametrize("other", ["--eval_data=cifar10-c", "--report=out"])
def test_other_evaluations_cannot_be_attacked(call_command, digits_run, other):
    flags = (f"--checkpoint_dir={digits_run / 'run'}", "--eval_dir=here")
    result = call_command("eval", *flags, "--attack=fgsm", other)
    assert_one_line(
        result, 2, f"--attack cannot be combined with {other.split('=o')[0]}"
    )


def test_eval_prints_and_records_the_precision_under_attack(
    call_command, digits_run, tmp_path
):
    flags = (f"--checkpoint_dir={digits_run / 'run'}", "--eval_dir=here")
    attack = "pgd(eps=8/255, steps=2)"
    result = call_command("eval", *flags, "--num_examples=30", f"--attack={attack}")
    assert result.returncode == 0, result.stderr
    path = tmp_path / "here" / "test_pgd_partial.jsonl"
    record = json.loads(path.read_text())
    network = load_trained(read_run(digits_run / "run"))
    assert record["attack"] == "pgd(eps=8 / 255, steps=2)"
    assert record["num_examples"] == 30
    assert record["step"] == network.step
    under, without = record["precision_at_1"], record["precision_at_1_without_attack"]
    assert under < without
    expected = f"precision @ 1 = {under:.3f} under {attack}, {without:.3f} without it\n"
    assert expected in result.stdout
