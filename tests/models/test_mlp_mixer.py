"""Tests MLP-Mixer; golden/networks/mlp_mixer.py computes its values."""

import jax
import jax.numpy as jnp
import pytest
from helpers import logged_losses, make_dataset

from cifar_jax import Config, UserError, models


def count(model: str, size: int = 32, num_classes: int = 10) -> int:
    network = models.create(model, num_classes)
    images = jnp.zeros((1, size, size, 3))
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_there_are_as_many_parameters_as_published():
    # mixer_s16_224 and mixer_b16_224 of timm 1.0.31; the paper has 18 and 59 million.
    assert count("mlp_mixer(patch=16)", 224, 1000) == 18_528_264
    large = "width=768, depth=12, token_hidden=384, channel_hidden=3072"
    assert count(f"mlp_mixer(patch=16, {large})", 224, 1000) == 59_880_472


def test_there_are_as_many_parameters_as_by_hand():
    tokens = 64 * 256 + 256 + 256 * 64 + 64
    channels = 512 * 2048 + 2048 + 2048 * 512 + 512
    block = tokens + channels + 2 * 1024
    assert count("mlp_mixer") == 48 * 512 + 512 + 8 * block + 1024 + 5_130


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("patch=0", "patch=0 must be at least 1"),
        ("depth=201", "depth=201 must be at most 200"),
        ("token_hidden=0", "token_hidden=0 must be at least 1"),
        ("channel_hidden=0", "channel_hidden=0 must be at least 1"),
        ("drop_path=1", "drop_path=1.0 must be below 1"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(UserError, match=message) as caught:
        models.create(f"mlp_mixer({options})")
    assert "\n" not in str(caught.value)


def test_patches_must_divide_the_images():
    with pytest.raises(UserError, match=r"patch=4 must divide .* the images, 30x30"):
        count("mlp_mixer", 30)


@pytest.mark.slow
def test_it_learns():
    config = Config(
        model="mlp_mixer(8, 32, 2, token_hidden=16, channel_hidden=64, drop_path=0.1)",
        image_size=32,
        distortions="",
        optimizer="adamw",
        learning_rate=0.003,
        max_steps=40,
        batch_size=16,
        average="none",
        log_frequency=1,
        train_dir=None,
    )
    losses = logged_losses(config, make_dataset())
    assert losses[-1] < 0.8 * losses[0]
