"""Which images are in the batch of each step: a function of (key, step) alone."""

import functools

import jax
import numpy as np
from jaxtyping import Array, Int32, Key


class BatchOrder:
    """The endless sequence of epochs, cut into batches.

    Each epoch visits every example exactly once, in an order drawn from
    `fold_in(key, epoch)`. A batch may span the end of one epoch and the start of
    the next, as in the tutorial's queue; no batch is dropped or shortened. With
    `drop_remainder`, the examples at the end of an epoch that do not fill a batch are
    left out of that epoch instead.
    """

    def __init__(
        self,
        key: Key[Array, ""],
        num_examples: int,
        batch_size: int,
        drop_remainder: bool = False,
    ):
        if not 0 < batch_size <= num_examples:
            raise ValueError(
                f"batch_size {batch_size} is not between 1 and the {num_examples} "
                "training examples"
            )
        self.num_examples = num_examples
        self.batch_size = batch_size
        remainder = num_examples % batch_size if drop_remainder else 0
        self._examples_per_epoch = num_examples - remainder

        # Two epochs are enough: a batch never reaches into a third.
        @functools.lru_cache(maxsize=2)
        def epoch_order(epoch: int) -> Int32[np.ndarray, " num_examples"]:
            order = jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)
            return np.asarray(order, np.int32)

        self._epoch_order = epoch_order

    def __call__(self, step: int) -> dict[str, Int32[np.ndarray, " batch_size"]]:
        """Returns the batch of a step (0, 1, ...).

        Returns:
            indices: the numbers of the examples.
            epochs: how many times each example was in a batch before.
        """
        # Python integers: step * batch_size may exceed 2^31.
        epoch, start = divmod(step * self.batch_size, self._examples_per_epoch)
        indices = self._epoch_order(epoch)[start : start + self.batch_size]
        epochs = np.full(self.batch_size, epoch, np.int32)
        if missing := self.batch_size - len(indices):
            indices = np.concatenate([indices, self._epoch_order(epoch + 1)[:missing]])
            epochs[-missing:] += 1
        return {"indices": indices, "epochs": epochs}
