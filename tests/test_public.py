"""Every public function refuses what it cannot use on one line that names it."""

import jax
import numpy as np
import optax
import pytest

import cifar_jax
from cifar_jax import Config, Split, UserError, build_program, create_model

IMAGES = np.zeros((2, 32, 32, 3), np.uint8)
LABELS = np.zeros(2, np.int32)
PROGRAM = build_program(Config(model="vgg16", image_size=32), 3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: cifar_jax.fit("config", None), "config"),
        (lambda: cifar_jax.fit(Config(), "cifar10"), "dataset"),
        (lambda: cifar_jax.evaluate("network", Split(IMAGES, LABELS)), "network"),
        (lambda: cifar_jax.predict_logits(None, IMAGES), "network"),
        (lambda: cifar_jax.classify(None, IMAGES), "network"),
        (lambda: cifar_jax.load_trained("run"), "run"),
        (lambda: cifar_jax.read_run(3), "path"),
        (lambda: cifar_jax.read_picture(3), "file"),
        (lambda: cifar_jax.load_data(["cifar10"]), "cifar10"),
        (lambda: cifar_jax.load_data("digits", validation_size=1.5), "validation_size"),
        (lambda: build_program(None, 3), "config"),
        (lambda: build_program(Config(), 0), "num_classes"),
        (lambda: create_model(["tutorial"]), "model"),
        (lambda: create_model("tutorial", -1), "num_classes"),
        (lambda: create_model("tutorial", ops="quick"), "ops"),
        (lambda: cifar_jax.averaged_variables(optax.sgd(1.0).init({})), "opt_state"),
        (lambda: PROGRAM.create_state(0, IMAGES), "key"),
        (lambda: PROGRAM.create_state(jax.random.key(0), IMAGES[0]), "train_images"),
        (lambda: init_state(size=31), "size"),
        (lambda: init_state(model=create_model), "model"),
        (lambda: PROGRAM.train_step(None, IMAGES / 255, LABELS), "images"),
        (lambda: PROGRAM.train_step(None, IMAGES, LABELS[:1]), "labels"),
        (lambda: PROGRAM.inspect(None, IMAGES, LABELS / 2), "labels"),
        (lambda: PROGRAM.inspect(None, IMAGES, [0, 1]), "labels"),
        (
            lambda: cifar_jax.eval_step(
                None, IMAGES[0], None, model=PROGRAM.model, inputs=PROGRAM.inputs
            ),
            "images",
        ),
    ],
)
def test_what_cannot_be_used_is_named_on_one_line(call, name):
    with pytest.raises(UserError, match=rf"\b{name}\b") as caught:
        call()
    assert "\n" not in str(caught.value)


def init_state(**changes):
    arguments = {"model": PROGRAM.model, "tx": PROGRAM.tx, "size": 32}
    return cifar_jax.init_state(jax.random.key(0), None, **arguments | changes)
