"""Compares networks with the same ones in PyTorch, written for golden/networks."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from golden import network_inputs as inputs

from cifar_jax import models

FOLDER = Path(__file__).parents[1] / "golden" / "networks"
GOLDEN = {
    name.removesuffix(" logits"): path
    for path in sorted(FOLDER.glob("*.npz"))
    for name in np.load(path)
    if name.endswith(" logits")
}
SIZE = 32
# Of float32, relative to the largest logit, and for the norms of gradients, which
# BatchNorm by eight images makes sensitive, relative to each and to the largest.
# Measured for ResNet-18: 2e-6, 1e-3, and 9e-5.
LOGITS, NORMS, NORMS_OF_LARGEST = 2e-5, 5e-3, 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model", GOLDEN)
def test_logits_and_gradients_are_those_of_pytorch(model):
    with np.load(GOLDEN[model]) as file:
        evaluated, logits, norms = (
            file[f"{model} {name}"] for name in ("evaluated", "logits", "norms")
        )
    network = models.create(model, 10)
    images = jnp.asarray(inputs.images(SIZE), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    shapes.pop("intermediates", None)
    variables = unflatten_dict(
        {
            path: jnp.asarray(inputs.variable("/".join(path[1:]), leaf.shape), "f4")
            for path, leaf in flatten_dict(shapes).items()
        }
    )

    def loss(params):
        found, _ = network.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        labels = jnp.asarray(inputs.labels())
        losses = optax.softmax_cross_entropy_with_integer_labels(found, labels)
        return losses.mean(), found

    everything = jax.jit(
        lambda variables: (
            network.apply(variables, images),
            jax.value_and_grad(loss, has_aux=True)(variables["params"]),
        )
    )
    found_evaluated, ((_, found), gradients) = everything(variables)
    for one, wanted in ((found_evaluated, evaluated), (found, logits)):
        np.testing.assert_allclose(one, wanted, atol=LOGITS * np.abs(wanted).max())
    flat = {"/".join(path): g for path, g in flatten_dict(gradients).items()}
    np.testing.assert_allclose(
        [float(jnp.linalg.norm(flat[name])) for name in sorted(flat)],
        norms,
        rtol=NORMS,
        atol=NORMS_OF_LARGEST * norms.max(),
    )
