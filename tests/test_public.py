"""Tests that every public function names unusable arguments on one line."""

import jax
import numpy as np
import pytest

import cifar_jax
from cifar_jax import Batch, Config, Split, UserError, build_program, create_model

IMAGES = np.zeros((2, 32, 32, 3), np.uint8)
LABELS = np.zeros(2, np.int32)
KEY = jax.random.key(0)
PROGRAM = build_program(Config(model="vgg16", image_size=32), 3)
UNCUT = build_program(Config(image_size=32, distortions=""), 3)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: cifar_jax.fit("config", None), "config"),
        (lambda: cifar_jax.fit(Config(), "cifar10"), "dataset"),
        (lambda: cifar_jax.fit_many("config", None, [0]), "config"),
        (lambda: cifar_jax.fit_many(Config(train_dir=None), "cifar10", [0]), "dataset"),
        (lambda: cifar_jax.evaluate("network", Split(IMAGES, LABELS)), "network"),
        (lambda: cifar_jax.predict_logits(None, IMAGES), "network"),
        (lambda: cifar_jax.classify(None, IMAGES), "network"),
        (lambda: cifar_jax.features(None, IMAGES), "network"),
        (lambda: cifar_jax.load_trained("run"), "run"),
        (lambda: cifar_jax.read_run(3), "path"),
        (lambda: cifar_jax.read_picture(3, (32, 32, 3)), "file"),
        (lambda: cifar_jax.load_data(["cifar10"]), "cifar10"),
        (lambda: cifar_jax.load_data("digits", validation_size=1.5), "validation_size"),
        (lambda: build_program(None, 3), "config"),
        (lambda: build_program(Config(), 0), "num_classes"),
        (lambda: create_model(["tutorial"]), "model"),
        (lambda: create_model("tutorial", -1), "num_classes"),
        (lambda: create_model("tutorial", ops="quick"), "ops"),
        (lambda: cifar_jax.init_state(PROGRAM, 0, IMAGES), "key"),
        (lambda: cifar_jax.init_state(PROGRAM, KEY, IMAGES[0]), "train_images"),
        (lambda: cifar_jax.init_state(UNCUT, KEY, IMAGES[:, :31]), "image_size"),
        (lambda: cifar_jax.init_state(None, KEY, IMAGES), "program"),
        (lambda: Batch.from_arrays(IMAGES / 255, LABELS), "images"),
        (lambda: Batch.from_arrays(IMAGES, LABELS[:1]), "labels"),
        (lambda: Batch.from_arrays(IMAGES, LABELS / 2), "labels"),
        (lambda: Batch.from_arrays(IMAGES, [0, 1]), "labels"),
        (lambda: cifar_jax.train_step(PROGRAM, None, IMAGES), "batch"),
        (lambda: cifar_jax.inspect(PROGRAM, None, (IMAGES, LABELS)), "batch"),
        (
            lambda: cifar_jax.eval_step(
                None,
                IMAGES[0],
                None,
                model=PROGRAM.model,
                preprocessing=PROGRAM.preprocessing,
            ),
            "images",
        ),
    ],
)
def test_unusable_arguments_are_named_on_one_line(call, name):
    with pytest.raises(UserError, match=rf"\b{name}\b") as caught:
        call()
    assert "\n" not in str(caught.value)
