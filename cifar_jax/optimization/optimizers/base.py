"""Base classes for optimizers and their wrappers."""

import abc
import dataclasses
import re

import optax
from jaxtyping import PyTree


class Optimizer(abc.ABC):
    """Turns gradients into updates; the fields of a subclass are its options.

    All lengths and step counts are in optimizer updates; there is one update every
    `every` steps of the run.

    Attributes:
        every: the number of steps per update.
    """

    every: int = 1

    @property
    @abc.abstractmethod
    def decay_in_loss(self) -> bool:
        """Whether weight decay is a penalty that is part of the loss.

        It is if the decay is added to the gradient, as in SGD. The other optimizers
        decay the weights themselves, after the gradient has been rescaled (Loshchilov
        and Hutter, Decoupled Weight Decay Regularization, 2019).
        """

    @property
    def open_ended(self) -> bool:
        """Whether steps are independent of the length of the run."""
        return True

    @property
    def has_momentum(self) -> bool:
        """Whether updates continue in the direction of earlier ones."""
        return False

    @property
    def has_weights(self) -> bool:
        """Whether it keeps its own weights alongside the params, such as slow ones."""
        return False

    @abc.abstractmethod
    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation from gradients to updates for a group of params.

        Its update may need extra arguments: `value` is the loss without the weight
        decay penalty.

        Args:
            schedule: the learning rate as a function of the step.
            decay: adds the weight decay, coefficient times weight, to the updates.
        """

    def wrap_all(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns the transformation of all groups together.

        Args:
            tx: applies `transform` to each group.
            schedule: the learning rate of the run.
            max_steps: the length of the run.
        """
        return tx

    def eval_params(self, opt_state: optax.OptState, params: PyTree) -> PyTree:
        """Returns the params to evaluate the network with.

        Args:
            opt_state: the state of the transformation from `wrap_all`, or of a larger
                one that contains it.
            params: the params being trained.
        """
        return params

    def gradient_point(self, params: PyTree, gradients: PyTree) -> PyTree | None:
        """Returns the params at which a step takes its gradients; None: where it is.

        The second gradients are those of the same distorted batch, and only the first
        ones change BatchNorm's running averages.

        Args:
            params: the params being trained.
            gradients: those of the loss at the params, and 0 for frozen ones.
        """
        return None

    def replace_innermost(self, optimizer: "Optimizer") -> "Optimizer":
        """Returns another optimizer in the wrappers of this one.

        Raises:
            ValueError: a wrapper does not fit around it.
        """
        return optimizer


@dataclasses.dataclass(frozen=True)
class Wrapper(Optimizer):
    """An optimizer that modifies another one, across all params together.

    Subclasses override `wrap`; everything else is delegated to the inner optimizer,
    which may itself be a wrapper.

    Attributes:
        optimizer: the inner optimizer.
    """

    optimizer: Optimizer

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise ValueError(
                f"optimizer={self.optimizer!r} must be an optimizer, such as sgd"
            )
        if self.optimizer.every > 1:
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
            raise ValueError(
                "accumulate goes around everything else: write "
                f"accumulate({name}(...), {self.optimizer.every})"
            )

    @abc.abstractmethod
    def wrap(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns tx, which transforms all params, with this wrapper around it.

        The result passes extra arguments of its update on to tx.

        Args:
            tx: the inner optimizer's transformation.
            schedule: the learning rate of the run.
            max_steps: the length of the run.
        """

    @property
    def decay_in_loss(self) -> bool:
        """The inner optimizer's value."""
        return self.optimizer.decay_in_loss

    @property
    def open_ended(self) -> bool:
        """The inner optimizer's value."""
        return self.optimizer.open_ended

    @property
    def has_momentum(self) -> bool:
        """The inner optimizer's value."""
        return self.optimizer.has_momentum

    @property
    def has_weights(self) -> bool:
        """The inner optimizer's value."""
        return self.optimizer.has_weights

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of the inner optimizer."""
        return self.optimizer.transform(schedule, decay)

    def wrap_all(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns tx with all wrappers around it, from the inside out."""
        inside = self.optimizer.wrap_all(tx, schedule, max_steps)
        return self.wrap(inside, schedule, max_steps)

    def eval_params(self, opt_state: optax.OptState, params: PyTree) -> PyTree:
        """Returns the evaluation params of the inner optimizer."""
        return self.optimizer.eval_params(opt_state, params)

    def gradient_point(self, params: PyTree, gradients: PyTree) -> PyTree | None:
        """Returns the inner optimizer's point."""
        return self.optimizer.gradient_point(params, gradients)

    def replace_innermost(self, optimizer: Optimizer) -> Optimizer:
        """Returns these wrappers around another optimizer."""
        return dataclasses.replace(
            self, optimizer=self.optimizer.replace_innermost(optimizer)
        )


def innermost(optimizer: Optimizer) -> Optimizer:
    """Returns the optimizer inside all wrappers."""
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.optimizer
    return optimizer
