"""Tests that optimizers do not just run but learn the digits, far above chance."""

import pytest
from flax import linen as nn
from helpers import silent

from cifar_jax import Config, Network, evaluate, fit, load_data

# The learning rate and schedule of each.
CASES = {
    "sgd(momentum=0.9)": (0.05, "onecycle"),
    "sam(sgd(momentum=0.9))": (0.05, "cosine_restarts"),
    "sam(sgd(momentum=0.9), rho=0.02)": (0.05, "cosine"),
    "sam(adamw)": (0.005, "wsd"),
    "schedule_free(sgd)": (0.5, "constant"),
    "schedule_free(adamw(b1=0))": (0.01, "constant"),
    "schedule_free(sam(sgd))": (0.1, "constant"),
    "optax('prodigy')": (1.0, "cosine"),
    "optax('dog')": (1.0, "constant"),
    "optax('adabelief', b1=0.9)": (0.005, "polynomial"),
    "optax('lamb')": (0.02, "cosine"),
    "optax('adopt')": (0.005, "optax('cosine_onecycle_schedule')"),
    "optax('adafactor')": (0.02, "cosine"),
    "optax('sm3')": (0.1, "cosine"),
    "optax('momo')": (0.5, "constant"),
}


class Convolution(Network):
    """A convolution, BatchNorm and a head that sees where the features are."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(16, (5, 5), strides=4, use_bias=False, name="conv")(images)
        x = nn.relu(self.batch_norm("norm", train)(x))
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", CASES)
def test_the_digits_are_learned(optimizer):
    rate, schedule = CASES[optimizer]
    dataset = load_data("digits")
    config = Config(
        optimizer=optimizer,
        learning_rate=rate,
        schedule=schedule,
        weight_decay=1e-4,
        average="none",
        distortions="center_crop",
        image_size=32,
        max_steps=300,
        batch_size=64,
        log_frequency=100,
        train_dir=None,
    )
    result = fit(config, dataset, silent, model=Convolution())
    precision = evaluate(result.trained, dataset.test)
    print(f"{optimizer}: {precision}")
    assert precision > 0.9  # chance is 0.1
