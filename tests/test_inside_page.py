"""Tests that the snippets of docs/inside.md run, and compute what they say."""

import contextlib
import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import SmallBatchNorm

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "inside.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_linear_cka_is_one_for_rotated_and_scaled_layers_alone():
    names = {"np": np}
    (block,) = (block for block in BLOCKS if "def cka" in block)
    exec(block.split("other = ")[0], names)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 50, 8))
    rotation, _ = np.linalg.qr(random.normal(size=(8, 8)))
    assert names["cka"](x, 3 * x @ rotation + 1) == pytest.approx(1)
    # The definition, by the features' covariances.
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross, *own = (np.sum((a.T @ b) ** 2) for a, b in [(x, y), (x, x), (y, y)])
    expected = cross / np.sqrt(np.prod(own))
    assert names["cka"](x, y) == pytest.approx(expected)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Runs the page; returns its variables."""
    names: dict = {"__name__": "page"}
    with contextlib.chdir(tmp_path_factory.mktemp("page")):
        for block in BLOCKS:
            exec(block, names)
    return names


@pytest.mark.slow
def test_the_page_runs_and_its_numbers_are_right(page):
    network, dataset = page["network"], page["dataset"]
    images, labels = page["images"], page["labels"]
    votes = np.einsum("nk,nkc->nc", page["votes"], page["classes"]).argmax(axis=1)
    assert np.mean(votes == dataset.test.labels) > 0.85
    read = page["saved_network"].logits(images)
    np.testing.assert_allclose(page["found"], read, rtol=1e-3, atol=1e-3)
    clean = np.mean(network.logits(images).argmax(axis=-1) == labels)
    fast, far = (page[attack](images, labels, eps=16) for attack in ("fgsm", "pgd"))
    for changed in (fast, far):
        assert np.abs(changed - images).max() <= 16 + 1e-4
        assert np.mean(network.logits(changed).argmax(axis=-1) == labels) < clean
    # Gradients of single examples have the gradient of the batch as their mean.
    gradients = jax.vmap(
        lambda x, y: jax.grad(page["loss"])(page["params"], x[None], y[None])
    )(images[:8], labels[:8])
    norms = jax.vmap(optax.tree.norm)(gradients)
    np.testing.assert_allclose(page["norms"][:8], norms, rtol=1e-3, atol=1e-4)
    first_kernels = [one.variables["params"]["fc1"]["kernel"] for one in page["tuned"]]
    mean = np.mean(first_kernels, axis=0)
    np.testing.assert_allclose(
        page["soup"]["params"]["fc1"]["kernel"], mean, rtol=1e-5, atol=1e-6
    )
    for name in ("first", "second"):
        for noise, kernel in zip(
            *map(jax.tree.leaves, (page[name], page["params"])), strict=True
        ):
            flat = [x.reshape(-1, x.shape[-1]) for x in (noise, kernel)]
            sizes = [np.linalg.norm(x, axis=0) for x in flat]
            if kernel.ndim > 1:
                np.testing.assert_allclose(*sizes, rtol=1e-4)
            else:
                assert not noise.any()
    here = page["loss"](page["params"], images, labels)
    assert page["landscape"][2, 2] == pytest.approx(float(here), rel=1e-3)
    assert page["landscape"].max() > here
    best = page["nll"](np.log(page["temperature"]))
    assert all(best <= page["nll"](x) + 1e-6 for x in np.linspace(-3, 3, 50))


@pytest.mark.slow
def test_the_hessians_product_is_the_change_of_the_gradient(page):
    params, vector = page["params"], page["vector"]
    vector = optax.tree.scale(1 / optax.tree.norm(vector), vector)
    images, labels = page["images"], page["labels"]

    def gradient(step):
        moved = optax.tree.add_scale(params, step, vector)
        return jax.grad(page["loss"])(moved, images, labels)

    change = optax.tree.sub(gradient(1e-4), gradient(-1e-4))
    found = optax.tree.vdot(vector, change) / 2e-4
    product = optax.tree.vdot(vector, page["hessian_product"](vector))
    assert float(product) == pytest.approx(float(found), rel=0.05)
    assert product == pytest.approx(float(page["sharpness"]), rel=0.2)


@pytest.mark.slow
def test_grad_cam_before_a_mean_weights_maps_by_the_last_kernel(page):
    network = page["network"]
    model = SmallBatchNorm(num_classes=10)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    small = dataclasses.replace(network, model=model, variables=variables)
    image = page["images"][0]
    maps = small.layers(image[None])["conv"][0]
    kernel = variables["params"]["head"]["kernel"][:, 3]
    expected = jax.nn.relu(maps @ kernel) / maps[..., 0].size
    expected = jax.image.resize(expected, (32, 32), "linear")
    found = {**page, "network": small}
    (block,) = (block for block in BLOCKS if "def grad_cam" in block)
    exec(block.split("cam = grad_cam")[0], found)
    cam = found["grad_cam"](image, 3, "conv")
    np.testing.assert_allclose(cam, expected, rtol=1e-4, atol=1e-6)
