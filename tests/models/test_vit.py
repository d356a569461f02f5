"""Tests the Vision Transformers; golden/networks/vit.py computes their values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import logged_losses

from cifar_jax import Config, UserError, load_data, models
from cifar_jax.models.vit import skip_at_random


def count(model: str, size: int = 32, num_classes: int = 10) -> int:
    network = models.create(model, num_classes)
    images = jnp.zeros((1, size, size, 3))
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def block(width: int) -> int:
    """Returns the number of parameters in a block, by hand."""
    attention = 4 * (width * width + width)
    mlp = width * 4 * width + 4 * width + 4 * width * width + width
    return attention + mlp + 2 * 2 * width


def test_there_are_as_many_parameters_as_published():
    # vit_b_16 of torchvision 0.28, vit_tiny_patch16_224 and vit_small_patch16_224 of
    # timm 1.0.31, for 1,000 classes.
    assert count("vit_ti(patch=16)", 224, 1000) == 5_717_416
    assert count("vit_s(patch=16)", 224, 1000) == 22_050_664
    assert count("vit_b(patch=16)", 224, 1000) == 86_567_656


@pytest.mark.parametrize(("model", "width"), [("vit_ti", 192), ("vit_s", 384)])
def test_there_are_as_many_parameters_as_by_hand(model, width):
    patches, head = 4 * 4 * 3 * width + width, 10 * width + 10
    positions, norm = 65 * width, 2 * width
    whole = patches + width + positions + 12 * block(width) + norm + head
    assert count(model) == whole
    without_positions = f"{model}(pool='mean', positions='sincos')"
    assert count(without_positions) == whole - width - positions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("patch=0", "patch=0 must be at least 1"),
        ("heads=5", "heads=5 must divide width=192"),
        (
            "width=9, positions='sincos'",
            "width=9 must be a multiple of 4 for positions",
        ),
        ("depth=0", "depth=0 must be at least 1"),
        ("dropout=1", "dropout=1.0 must be below 1"),
        ("drop_path=-0.1", "drop_path=-0.1 must be at least 0"),
        ("pool='max'", "pool='max' must be one of token, mean"),
        ("positions='none'", "positions='none' must be one of learned, sincos"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(UserError, match=message) as caught:
        models.create(f"vit_ti({options})")
    assert "\n" not in str(caught.value)


SMALL = "vit_ti(patch={}, width=24, depth=2, heads=2, drop_path=0.5)"


def test_patches_must_divide_the_images():
    with pytest.raises(UserError, match=r"patch=5 must divide .* the images, 32x32"):
        count(SMALL.format(5))
    assert count(SMALL.format(8), 40) - count(SMALL.format(8), 32) == (25 - 16) * 24


def test_a_skipped_image_is_made_up_for_by_the_others():
    class Skipping(models.Network):
        @nn.compact
        def __call__(self, images, train=False):
            return skip_at_random(images, 0.25, train)

    x = jnp.ones((4000, 3, 2))
    rngs = {"dropout": jax.random.key(0)}
    found = np.array(Skipping().apply({}, x, train=True, rngs=rngs))
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1], x.shape))
    np.testing.assert_allclose(np.unique(found), [0, 4 / 3], rtol=1e-6)
    # Five standard deviations of the mean of as many draws.
    assert abs(found[:, 0, 0].mean() - 1) < 5 * (1 / 3 / 4000) ** 0.5
    np.testing.assert_array_equal(Skipping().apply({}, x), x)


@pytest.mark.slow
def test_only_later_blocks_are_skipped():
    network = models.create(SMALL.format(8).replace("0.5", "0.999"), 3)
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = jax.jit(network.init)(jax.random.key(1), images)

    def taps(train):
        rngs = {"dropout": jax.random.key(2)}
        _, sown = network.apply(
            {"params": variables["params"]},
            images,
            train=train,
            rngs=rngs,
            mutable=["intermediates"],
        )
        _, first, second, _ = models.collect_taps(sown["intermediates"])
        return first["block1"], second["block2"]

    for (first, second), same in ((taps(True), True), (taps(False), False)):
        assert np.array_equal(first, second) == same
    np.testing.assert_array_equal(taps(True)[0], taps(False)[0])


@pytest.mark.slow
def test_it_learns_digits_in_bfloat16():
    config = Config(
        model="vit_ti(patch=8, width=32, depth=2, heads=2, dropout=0.1, drop_path=0.1)",
        image_size=32,
        distortions="",
        normalization="channel",
        optimizer="adamw",
        learning_rate=3e-3,
        schedule="cosine",
        warmup=0.1,
        weight_decay=0.05,
        max_steps=80,
        batch_size=32,
        log_frequency=1,
        average="none",
        train_dir=None,
        use_fp16=True,
    )
    losses = logged_losses(config, load_data("digits"))
    assert len(losses) == 80
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:10])
