"""The images of a step."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Integer, PyTree, Shaped, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.dataset import (
    check_extra,
    check_images,
    check_label_range,
    check_labels,
)
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.errors import UserError


class Batch(NamedTuple):
    """The images of a step, or one device's share of them.

    Attributes:
        images: bytes.
        labels: of the images.
        indices: of the images in the training set, for distortions that need them.
        epochs: how many times each image was seen before, likewise.
        extra: what else the loss is to know about each image.
    """

    images: UInt8[Array, "n h w c"]
    labels: Integer[Array, " n"]
    indices: Int32[Array, " n"]
    epochs: Int32[Array, " n"]
    extra: dict[str, Shaped[Array, "n ..."]] = {}  # noqa: RUF012

    @classmethod
    def from_arrays(
        cls,
        images: UInt8[Array | np.ndarray, "n h w c"],
        labels: Integer[Array | np.ndarray, " n"],
        extra: Mapping[str, Shaped[Array | np.ndarray, "n ..."]] | None = None,
    ) -> "Batch":
        """Returns a batch of images that are not part of a training set.

        Args:
            images: bytes.
            labels: of the images.
            extra: what else the loss is to know about each image.

        Raises:
            UserError: an argument cannot be used.
        """
        check_images(images, "images")
        check_labels(labels, "labels", len(images))
        check_extra(extra or {}, "extra", len(images))
        if _is_known(labels) and (lowest := np.min(labels)) < 0:
            raise UserError(f"labels contains {lowest}; labels are at least 0")
        count = len(images)
        return cls(
            jnp.asarray(images),
            jnp.asarray(labels, jnp.int32),
            jnp.arange(count),
            jnp.zeros(count, jnp.int32),
            jax.tree.map(jnp.asarray, dict(extra or {})),
        )

    @classmethod
    def from_batches(
        cls, data: PyTree, batches: PyTree, number: int | Array
    ) -> "Batch":
        """Returns one of the batches of a call of the devices.

        Args:
            data: the whole training set, or None if each batch brings its own images.
            batches: what `Feed.batch` returns, of each step.
            number: of the step in the call.
        """
        batch = jax.tree.map(lambda values: values[number], batches)
        if data is not None:
            own = jax.tree.map(lambda values: values[batch["indices"]], data)
            batch |= dict(zip(("images", "labels", "extra"), own, strict=True))
        return cls(**batch)


def check_batch(batch: Batch, num_classes: int, preprocessing: Preprocessing) -> None:
    """Raises UserError unless a batch can be used.

    Args:
        batch: of images.
        num_classes: labels are from 0 to one less, where their values are known.
        preprocessing: may mix images, but not the extra arrays.
    """
    check_type(batch, "batch", Batch)
    check_images(batch.images, "images")
    check_labels(batch.labels, "labels", len(batch.images))
    check_extra(batch.extra, "extra", len(batch.images))
    if _is_known(batch.labels):
        check_label_range(batch.labels, "labels", num_classes)
    if batch.extra and preprocessing.mixtures:
        raise UserError(
            f"images with extra arrays ({', '.join(batch.extra)}) cannot be mixed, as "
            "nothing is known of the mixture; leave out mixup and cutmix, or the arrays"
        )


def _is_known(array: Array | np.ndarray) -> bool:
    """Whether an array has values now, and not only when a program is run."""
    return not isinstance(array, jax.core.Tracer)
