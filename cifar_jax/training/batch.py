"""The batch of a step."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Integer, PyTree, Shaped, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.data.split import (
    check_extra,
    check_images,
    check_label_range,
    check_labels,
)
from cifar_jax.errors import UserError


class Batch(NamedTuple):
    """The batch of a step, or one device's share of it.

    Attributes:
        images: bytes.
        labels: the label of each image; -1 for none.
        indices: positions of the images in the training set, for distortions that need
            them.
        epochs: how many times each image has been seen before, for the same purpose.
        extra: extra arrays for the loss, with a row for each image.
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
            labels: the label of each image; -1 for none.
            extra: extra arrays for the loss, with a row for each image.

        Raises:
            UserError: an argument cannot be used.
        """
        check_images(images, "images")
        check_labels(labels, "labels", len(images))
        check_extra(extra or {}, "extra", len(images))
        if _is_known(labels) and (lowest := np.min(labels)) < -1:
            raise UserError(
                f"labels contains {lowest}; labels are at least 0, or -1 for none"
            )
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
        """Returns one of the batches of a device call.

        Args:
            data: the whole training set, or None if the batches contain their images.
            batches: the results of `Feed.batch`, stacked over steps.
            number: the index of the step within the call.
        """
        batch = jax.tree.map(lambda values: values[number], batches)
        if data is not None:
            own = jax.tree.map(lambda values: values[batch["indices"]], data)
            batch |= dict(zip(("images", "labels", "extra"), own, strict=True))
        return cls(**batch)


def check_batch(batch: Batch, num_classes: int, preprocessing: Preprocessing) -> None:
    """Raises UserError unless a batch can be used.

    Args:
        batch: the batch.
        num_classes: labels must be below it, which is checked if their values are
            known.
        preprocessing: may mix images, but not if there are extra arrays.
    """
    check_type(batch, "batch", Batch)
    check_images(batch.images, "images")
    check_labels(batch.labels, "labels", len(batch.images))
    check_extra(batch.extra, "extra", len(batch.images))
    if _is_known(batch.labels):
        check_label_range(batch.labels, "labels", num_classes, may_lack=True)
    if batch.extra and preprocessing.mixtures:
        raise UserError(
            f"images with extra arrays ({', '.join(batch.extra)}) cannot be mixed, as "
            "the arrays do not apply to mixtures; leave out mixup and cutmix, or the "
            "arrays"
        )


def _is_known(array: Array | np.ndarray) -> bool:
    """Returns whether an array has values now, rather than being traced."""
    return not isinstance(array, jax.core.Tracer)
