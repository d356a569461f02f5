"""Which images make up the batch of a step: a function of (key, step) alone."""

import functools

import jax
import numpy as np
from jaxtyping import Array, Int32, Key


class BatchOrder:
    """The endless sequence of epochs, cut into batches.

    Each epoch visits every example exactly once, in an order drawn from
    `fold_in(key, epoch)`. A batch may span the end of one epoch and the start of
    the next, as batches from the tutorial's queue do; none is dropped or short.
    """

    def __init__(self, key: Key[Array, ""], num_examples: int, batch_size: int):
        if not 0 < batch_size <= num_examples:
            raise ValueError(
                f"batch_size {batch_size} is not between 1 and the {num_examples} "
                "training examples"
            )
        self.num_examples = num_examples
        self.batch_size = batch_size

        # Two epochs are enough: a batch never reaches into a third.
        @functools.lru_cache(maxsize=2)
        def epoch_order(epoch: int) -> Int32[np.ndarray, " num_examples"]:
            order = jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)
            return np.asarray(order, np.int32)

        self._epoch_order = epoch_order

    def __call__(self, step: int) -> Int32[np.ndarray, " batch_size"]:
        """The indices of the examples in the batch of this step (0, 1, ...)."""
        # Python integers: step * batch_size may pass 2^31.
        epoch, start = divmod(step * self.batch_size, self.num_examples)
        head = self._epoch_order(epoch)[start : start + self.batch_size]
        missing = self.batch_size - len(head)
        if not missing:
            return head
        return np.concatenate([head, self._epoch_order(epoch + 1)[:missing]])
