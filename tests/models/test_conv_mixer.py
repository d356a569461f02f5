"""Tests ConvMixer; golden/networks/conv_mixer.py computes its values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import logged_losses, make_dataset

from cifar_jax import Config, UserError, models


def count(model: str, size: int = 32, num_classes: int = 10) -> int:
    network = models.create(model, num_classes)
    images = jnp.zeros((1, size, size, 3))
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # By hand: patches, blocks, and head.
        ("conv_mixer", 3_840 + 8 * (7_168 + 66_304) + 2_570),
        # Trockman and Kolter, 2022: 96% with 0.7 million.
        ("conv_mixer(kernel=9, patch=1)", 706_570),
    ],
)
def test_the_number_of_parameters(model, expected):
    assert count(model) == expected


def test_there_are_as_many_parameters_as_in_timm():
    # convmixer_768_32 of timm 1.0.31; the paper has 21.1 million.
    assert (
        count("conv_mixer(768, depth=32, kernel=7, patch=7)", 224, 1000) == 21_110_248
    )


@pytest.mark.parametrize("option", ["width", "depth", "kernel", "patch"])
def test_options_that_cannot_be_used_are_refused(option):
    with pytest.raises(UserError, match=f"{option}=0 must be at least 1") as caught:
        models.create(f"conv_mixer({option}=0)")
    assert "\n" not in str(caught.value)


def test_patches_must_divide_the_images():
    with pytest.raises(UserError, match=r"patch=3 must divide .* the images, 32x32"):
        count("conv_mixer(patch=3)")


def test_initial_values_are_those_of_pytorch():
    network = models.create("conv_mixer(64, depth=1)", 10)
    images = jnp.zeros((1, 4, 4, 3))
    params = jax.jit(network.init)(jax.random.key(0), images)["params"]
    for layer, inputs in (
        ("patches_conv", 12),
        ("block1_places_conv", 25),
        ("block1_channels_conv", 64),
    ):
        for name in ("kernel", "bias"):
            values = np.array(params[layer][name]) * inputs**0.5
            # Of at least 64 uniform values, the largest is above 0.9 but for a chance
            # of 0.1%, which the seed avoids.
            assert 0.9 < np.abs(values).max() <= 1


@pytest.mark.slow
def test_it_learns():
    config = Config(
        model="conv_mixer(32, depth=2)",
        image_size=32,
        distortions="",
        optimizer="adamw",
        learning_rate=0.01,
        max_steps=20,
        batch_size=16,
        average="none",
        log_frequency=1,
        train_dir=None,
    )
    losses = logged_losses(config, make_dataset())
    assert losses[-1] < 0.5 * losses[0]
