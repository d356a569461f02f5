"""An order of the training images that the user gives, as a function of the step."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from cifar_jax.errors import UserError

# The batches that tell orders of the same name apart.
_FIRST = 8


# Returns the indices of a step's images, integers [batch_size].
OrderFunction = Callable[[int], Any]


class OwnOrder:
    """Batches of the images that a function of the step returns.

    Like a `BatchOrder`, but images may be left out or repeated at will. The epoch of a
    batch is the number of times that all images could have been seen before: step *
    batch_size // num_examples.
    """

    def __init__(self, function: OrderFunction, num_examples: int, batch_size: int):
        """Tries the first batches.

        Args:
            function: returns the indices of a step's images. It is called for steps in
                any order, by several threads.
            num_examples: number of training images.
            batch_size: number of images in each batch.

        Raises:
            UserError: it is not such a function.
        """
        if not callable(function):
            raise UserError(f"order={function!r} must be a function of the step")
        self.num_examples = num_examples
        self.batch_size = batch_size
        self._function = function
        first = [self(step)["indices"] for step in range(_FIRST)]
        if not np.array_equal(first[0], self(0)["indices"]):
            raise UserError(
                "order(0) does not always return the same indices; make them depend on "
                "the step alone, as in np.random.default_rng((seed, step))"
            )
        digest = hashlib.sha256(np.stack(first).astype("<i4").tobytes())
        self.description = f"{_name(function)}, SHA-256 {digest.hexdigest()[:16]}"

    def __call__(self, step: int) -> dict[str, Int32[np.ndarray, " batch_size"]]:
        """Returns the batch of a step; see `BatchOrder`.

        Raises:
            UserError: the function returned anything else than indices of images.
        """
        result = self._function(step)
        try:
            indices = np.asarray(result)
        except ValueError:  # rows of different lengths
            indices = np.asarray(None)
        if indices.shape != (self.batch_size,) or indices.dtype.kind not in "iu":
            raise UserError(
                f"order({step}) must be integers [{self.batch_size}], one for each "
                f"image of the batch, not {indices.dtype} {list(indices.shape)}"
            )
        for index in (indices.min(), indices.max()):
            if not 0 <= index < self.num_examples:
                raise UserError(
                    f"order({step}) contains {index}, but there are "
                    f"{self.num_examples} training images, from 0 to "
                    f"{self.num_examples - 1}"
                )
        epoch = step * self.batch_size // self.num_examples
        epochs = np.full(self.batch_size, epoch, np.int32)
        return {"indices": indices.astype(np.int32), "epochs": epochs}


@runtime_checkable
class Order(Protocol):
    """The batch of each step, such as a `BatchOrder`.

    Attributes:
        batch_size: the number of images in each batch.
    """

    batch_size: int

    def __call__(self, step: int) -> dict[str, Int32[np.ndarray, " batch_size"]]:
        """Returns the indices of the images, and how often they were seen before."""
        ...


def _name(function: Any) -> str:
    """Returns the name of a function, or of the class of another callable."""
    if isinstance(function, functools.partial):
        return _name(function.func)
    return str(getattr(function, "__qualname__", type(function).__qualname__))
