"""Adversarial attacks, by name: images that are changed so that a network errs.

An attack changes each pixel value by at most `eps`, a fraction of the range from 0 to
255, so as to raise the cross-entropy of the true label. It differentiates through all
of the preprocessing and all views of an image, so it knows what evaluation computes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Integer, PyTree

from cifar_jax.checks import check_integer, check_range, check_type
from cifar_jax.data.split import Split, check_split
from cifar_jax.devices import compilation, memory, sharding
from cifar_jax.evaluation import forward
from cifar_jax.evaluation.batching import BATCH_SIZE
from cifar_jax.evaluation.inference import Trained
from cifar_jax.registry import Registry

_LARGEST_PIXEL = 255
Images = Float[Array, "n h w c"]


@runtime_checkable
class Attack(Protocol):
    """What a class in ATTACKS provides; its dataclass fields are its options."""

    def __call__(
        self,
        images: Images,
        gradient: Callable[[Images], Images],
        numbers: Integer[Array, " n"],
    ) -> Images:
        """Returns changed images, with values from 0 to 255.

        Args:
            images: pixels from 0 to 255.
            gradient: returns the gradients of the images' losses, each with respect to
                its own pixels.
            numbers: the images' positions in the evaluated split, for random draws.
        """
        ...


@dataclasses.dataclass(frozen=True)
class FGSM(Attack):
    """The fast gradient sign method (Goodfellow et al., 2015, arXiv:1412.6572)."""

    eps: float = 8 / 255

    def __post_init__(self) -> None:
        check_range("eps", self.eps, at_least=0, at_most=1)

    def __call__(
        self,
        images: Images,
        gradient: Callable[[Images], Images],
        numbers: Integer[Array, " n"],
    ) -> Images:
        """Takes one step of size eps."""
        step = _LARGEST_PIXEL * self.eps * jnp.sign(gradient(images))
        return jnp.clip(images + step, 0, _LARGEST_PIXEL)


@dataclasses.dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent (Madry et al., 2018, arXiv:1706.06083).

    Attributes:
        eps: the largest change, where 1 is the range of pixel values.
        steps: the number of steps, from a random start within eps.
        step_size: None for 2.5 * eps / steps, which section 5 uses: enough to reach any
            change from any start.
        seed: of the random start.
    """

    eps: float = 8 / 255
    steps: int = 10
    step_size: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("eps", self.eps, at_least=0, at_most=1)
        check_range("steps", self.steps, at_least=1, at_most=10_000)
        if self.step_size is not None:
            check_range("step_size", self.step_size, above=0, at_most=1)
        check_range("seed", self.seed, at_least=0)

    def __call__(
        self,
        images: Images,
        gradient: Callable[[Images], Images],
        numbers: Integer[Array, " n"],
    ) -> Images:
        """Takes steps along the sign of the gradient, each projected to the changes."""
        eps = _LARGEST_PIXEL * self.eps
        fraction = 2.5 * self.eps / self.steps
        if self.step_size is not None:
            fraction = self.step_size
        size = _LARGEST_PIXEL * fraction
        low = jnp.maximum(images - eps, 0)
        high = jnp.minimum(images + eps, _LARGEST_PIXEL)
        key = jax.random.key(self.seed)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        draws = jax.vmap(lambda own: jax.random.uniform(own, images.shape[1:]))(keys)
        changed = jnp.clip(images + eps * (2 * draws - 1), low, high)
        # Not a loop on the device, which would be slow on CPUs (issue 12868 of JAX).
        for _ in range(self.steps):
            changed = jnp.clip(changed + size * jnp.sign(gradient(changed)), low, high)
        return changed


ATTACKS: Registry[Attack] = Registry(Attack, {"fgsm": FGSM, "pgd": PGD})


def predict_attacked(
    network: Trained, split: Split, attack: Attack, batch_size: int = BATCH_SIZE
) -> Float[np.ndarray, "n classes"]:
    """Returns the logits of each image after an attack on it.

    Progress is shown on a terminal.

    Args:
        network: a trained network.
        split: the images and their labels.
        attack: what changes them.
        batch_size: images per batch; rounded up to a multiple of the devices.

    Raises:
        UserError: an argument cannot be used.
        RunError: there is not enough memory.
    """
    # Imported here because only slow evaluations show their progress.
    from tqdm import tqdm

    check_type(network, "network", Trained)
    check_split(split, "split", len(network.class_names), network.image_shape)
    batch_size = check_integer(batch_size, "batch_size", at_least=1)
    batch_size = min(batch_size, max(len(split), BATCH_SIZE))
    mesh = sharding.create_mesh()
    compilation.enable()
    batch_size += -batch_size % mesh.size
    weights = sharding.replicate(mesh, (network.variables, network.statistics))
    shared = NamedSharding(mesh, PartitionSpec(sharding.AXIS))
    logits: list[Float[np.ndarray, "n classes"]] = []
    # disable=None disables it unless standard error is a terminal.
    with (
        tqdm(total=len(split), unit=" images", disable=None) as progress,
        memory.shortage_as_run_error(
            f"gradients of {batch_size} images", "lower --batch_size"
        ),
    ):
        gradient, predict = _compile(network, mesh, weights, batch_size)
        for start in range(0, len(split), batch_size):
            part = split.part(start, start + batch_size)
            images, labels, numbers = (
                sharding.place(_pad(array, batch_size), shared)
                for array in (
                    np.asarray(part.images[:], np.float32),
                    np.asarray(part.labels[:], np.int32),
                    np.arange(start, start + len(part), dtype=np.int32),
                )
            )
            changed = attack(
                images, functools.partial(gradient, weights, labels), numbers
            )
            logits.append(np.asarray(predict(weights, changed))[: len(part)])
            progress.update(len(part))
    return np.concatenate(logits)


def _pad(array: np.ndarray, count: int) -> np.ndarray:
    missing = count - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))


def _compile(
    network: Trained, mesh: Mesh, weights: PyTree, batch_size: int
) -> tuple[jax.stages.Compiled, jax.stages.Compiled]:
    """Returns functions of a batch: the gradients of its losses, and its logits."""
    model, preprocessing = network.model, network.preprocessing
    shared = NamedSharding(mesh, PartitionSpec(sharding.AXIS))
    shape = (batch_size, *network.image_shape)
    images = jax.ShapeDtypeStruct(shape, np.float32, sharding=shared)
    labels = jax.ShapeDtypeStruct((batch_size,), np.int32, sharding=shared)

    def predict(weights: PyTree, images: Images) -> Float[Array, "n classes"]:
        variables, statistics = weights
        return forward.logits(
            variables, images, statistics, model=model, preprocessing=preprocessing
        )

    def loss(
        images: Images, weights: PyTree, labels: Integer[Array, " n"]
    ) -> Float[Array, ""]:
        logits = predict(weights, images)
        # The gradient of a sum is that of each image's own loss.
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

    def gradient(weights: PyTree, labels: Array, images: Images) -> Images:
        return jax.grad(loss)(images, weights, labels)

    def compiled() -> tuple[jax.stages.Compiled, jax.stages.Compiled]:
        whole = NamedSharding(mesh, PartitionSpec())
        return (
            compilation.compile_lowered(
                jax.jit(gradient, out_shardings=shared).lower(weights, labels, images)
            ),
            compilation.compile_lowered(
                jax.jit(predict, out_shardings=whole).lower(weights, images)
            ),
        )

    key = (Attack, mesh, shape, model, preprocessing)
    return compilation.compile_once(key, weights, compiled)
