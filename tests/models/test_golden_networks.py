"""Compares networks with the same ones in PyTorch, written for golden/networks.

The run ends with a table of the networks and of the largest differences.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from golden import network_inputs as inputs
from jax import lax

from cifar_jax import models
from cifar_jax.models import block
from experiments.harness import flops

FOLDER = Path(__file__).parents[1] / "golden" / "networks"
GOLDEN = {
    name.removesuffix(" logits"): path
    for path in sorted(FOLDER.glob("*.npz"))
    for name in np.load(path)
    if name.endswith(" logits")
}
SIZE = 32
# One of each kind, to which float32 with the default operations is close. The deepest
# amplify its rounding errors: cifar_resnet101's logits differ by 1e-4 of the largest.
# PNASNet takes minutes to compile.
IN_FLOAT32 = (
    "conv_mixer",
    "densenet",
    "dla",
    "dpn26",
    "efficientnet_b0(dropout=0, drop_connect=0)",
    "googlenet",
    "lenet",
    "mlp_mixer",
    "mobilenet_v2",
    "wrn",
    "preact_resnet18",
    "senet18",
    "regnet_x_200mf",
    "resnet18",
    "resnet20",
    "resnext29",
    "shufflenet",
    "shufflenet_v2",
    "vgg16_bn",
    "vit_ti",
)


def compare(model, dtype, ops):
    """Returns what we compute and what PyTorch computed.

    These are pairs of the logits in evaluation, the logits in training, and the norms
    of the gradients.
    """
    with np.load(GOLDEN[model]) as file:
        evaluated, logits, norms = (
            file[f"{model} {name}"] for name in ("evaluated", "logits", "norms")
        )
    network = models.create(model, 10, dtype, ops)
    images = jnp.asarray(inputs.images(SIZE), dtype)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    shapes.pop("intermediates", None)
    variables = unflatten_dict(
        {
            path: jnp.asarray(inputs.variable("/".join(path[1:]), leaf.shape), dtype)
            for path, leaf in flatten_dict(shapes).items()
        }
    )

    def logits_of(variables, train):
        _, changed = network.apply(
            variables, images, train, mutable=["batch_stats", "intermediates"]
        )
        # The network rounds the logits that it returns to float32.
        return models.collect_taps(changed["intermediates"])[-1]["predictions"]

    def loss(params):
        found = logits_of(variables | {"params": params}, train=True)
        labels = jnp.asarray(inputs.labels())
        losses = optax.softmax_cross_entropy_with_integer_labels(found, labels)
        return losses.mean(), found

    @jax.jit
    def everything(variables):
        gradient = jax.grad(loss, has_aux=True)
        return logits_of(variables, train=False), gradient(variables["params"])

    # As NumPy's arrays, which stay float64 where JAX has no such type.
    found_evaluated, (gradients, found) = jax.device_get(everything(variables))
    flat = {"/".join(path): g for path, g in flatten_dict(gradients).items()}
    found_norms = np.array([np.linalg.norm(flat[name]) for name in sorted(flat)])
    return (found_evaluated, evaluated), (found, logits), (found_norms, norms)


def convolve(
    x, kernel, strides, padding, *, feature_group_count=1, implementation, **others
):
    """Convolves by one matrix product: XLA's gradients take minutes in float64."""
    assert {others["lhs_dilation"], others["rhs_dilation"]} == {(1, 1)}
    h, w, c, features = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], (h, w), strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    bottom, right = x.shape[1] - h + 1, x.shape[2] - w + 1
    taps = [
        x[:, i : i + bottom : strides[0], j : j + right : strides[1]]
        for i, j in np.ndindex(h, w)
    ]
    groups = feature_group_count
    patches = jnp.stack([tap.reshape(*tap.shape[:3], groups, c) for tap in taps])
    kernel = kernel.reshape(h * w, c, groups, features // groups)
    y = jnp.einsum("tnhwgc,tcgk->nhwgk", patches, kernel)
    return y.reshape(*y.shape[:3], features)


@pytest.mark.slow
@pytest.mark.parametrize("model", GOLDEN)
def test_logits_and_gradients_are_those_of_pytorch(model, monkeypatch, record_property):
    parameters, operations = flops.forward(models.create(model, 10), SIZE)
    monkeypatch.setattr(block, "conv_general_dilated", convolve)
    with jax.enable_x64(True):
        pairs = compare(model, jnp.float64, "plain")
    *of_logits, of_norms = (
        np.abs(found - wanted).max() / np.abs(wanted).max() for found, wanted in pairs
    )
    record_property(
        "row",
        f"{parameters:>10,} parameters {operations / 1e9:>8.3g} GFLOP, differences: "
        f"logits {max(of_logits):.0e}, norms of gradients {of_norms:.0e}  {model}",
    )
    # JAX's attention has its softmax in float32, whatever the type of its inputs.
    bound = 1e-6 if model.startswith("vit") else 1e-11
    assert max(of_logits) < bound
    assert of_norms < bound


@pytest.mark.slow
@pytest.mark.parametrize("model", IN_FLOAT32)
def test_float32_by_the_default_operations_is_close(model):
    *logits, (found_norms, norms) = compare(model, jnp.float32, "auto")
    for found, wanted in logits:
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
    # BatchNorm by eight images makes the gradients sensitive.
    np.testing.assert_allclose(found_norms, norms, rtol=5e-3, atol=1e-4 * norms.max())
