"""The base classes of optimizers, and of wrappers around them."""

import abc
import dataclasses
import re

import optax
from jaxtyping import PyTree


class Optimizer(abc.ABC):
    """What turns gradients into updates; the fields of a subclass are its options.

    Wherever a length or a number of steps is meant, it is in updates of the optimizer,
    of which there is one in `every` steps of the run.

    Attributes:
        every: the number of the run's steps for one update.
    """

    every: int = 1

    @property
    @abc.abstractmethod
    def decay_in_loss(self) -> bool:
        """Whether weight decay is a penalty, so that the loss contains it.

        It is if the decay is added to the gradient, as SGD does; the others decay the
        weights themselves, after the gradient was rescaled (Loshchilov and Hutter,
        Decoupled Weight Decay Regularization, 2019).
        """

    @property
    def open_ended(self) -> bool:
        """Whether what a step does is independent of the length of the run."""
        return True

    @property
    def has_momentum(self) -> bool:
        """Whether updates go on in the direction of earlier ones."""
        return False

    @property
    def has_weights(self) -> bool:
        """Whether it keeps weights of its own beside the params, such as slow ones."""
        return False

    @abc.abstractmethod
    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates, for a group of params.

        It may need extra arguments in its update: `value` is the loss without the
        penalty of weight decay.

        Args:
            schedule: the learning rate of a step.
            decay: adds the weight decay, coefficient times weight, to what passes
                through it.
        """

    def wrap_all(
        self,
        tx: optax.GradientTransformation,
        schedule: optax.Schedule,
        max_steps: int,
    ) -> optax.GradientTransformation:
        """Returns the transformation of all groups together.

        Args:
            tx: transforms each group by `transform`.
            schedule: the learning rate of the run.
            max_steps: the length of the run.
        """
        return tx

    def eval_params(self, opt_state: optax.OptState, params: PyTree) -> PyTree:
        """Returns the params at which the network is to be evaluated.

        Args:
            opt_state: of what `wrap_all` returns, or of a larger transformation.
            params: as they are trained.
        """
        return params

    def replace_innermost(self, optimizer: "Optimizer") -> "Optimizer":
        """Returns an optimizer with the wrappers of this one around another one.

        Raises:
            ValueError: a wrapper cannot be around it.
        """
        return optimizer


@dataclasses.dataclass(frozen=True)
class Wrapper(Optimizer):
    """An optimizer that changes what another one does with all params together.

    A subclass overrides `wrap`; everything else is as for the optimizer inside, which
    may be a wrapper as well.

    Attributes:
        optimizer: the optimizer inside.
    """

    optimizer: Optimizer

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise ValueError(f"optimizer={self.optimizer!r} must be one, such as sgd")
        if self.optimizer.every > 1:
            name = re.sub(r"\B(?=[A-Z])", "_", type(self).__name__).lower()
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

        It passes the extra arguments of its update on to tx.

        Args:
            tx: the optimizer inside.
            schedule: the learning rate of the run.
            max_steps: the length of the run.
        """

    @property
    def decay_in_loss(self) -> bool:
        """As for the optimizer inside."""
        return self.optimizer.decay_in_loss

    @property
    def open_ended(self) -> bool:
        """As for the optimizer inside."""
        return self.optimizer.open_ended

    @property
    def has_momentum(self) -> bool:
        """As for the optimizer inside."""
        return self.optimizer.has_momentum

    @property
    def has_weights(self) -> bool:
        """As for the optimizer inside."""
        return self.optimizer.has_weights

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns the transformation of the optimizer inside."""
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
        """Returns the params of the optimizer inside."""
        return self.optimizer.eval_params(opt_state, params)

    def replace_innermost(self, optimizer: Optimizer) -> Optimizer:
        """Returns these wrappers around another optimizer."""
        return dataclasses.replace(
            self, optimizer=self.optimizer.replace_innermost(optimizer)
        )
