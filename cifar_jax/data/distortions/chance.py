"""The option that every distortion and every mixture has: its probability."""

import dataclasses
import inspect
import typing
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from cifar_jax.checks import check_range
from cifar_jax.data import augment
from cifar_jax.data.distortions.base import Distortion, Example, Mixture
from cifar_jax.data.distortions.picking import pick

# The coin is drawn from the key itself, everything else from a key made with this.
_REST = zlib.crc32(b"rest")


@dataclasses.dataclass(frozen=True)
class Sometimes:
    """A distortion of some images; the others are left alone.

    Where the distortion changes the size of the image, what is left alone is cropped to
    the center.

    Attributes:
        step: the distortion.
        prob: the probability that an image is distorted.
    """

    step: Distortion
    prob: float

    def __post_init__(self) -> None:
        check_range("prob", self.prob, at_least=0, at_most=1)

    def __call__(
        self, key: Key[Array, ""], image: Num[Array, "h w c"], example: Example
    ) -> Num[Array, "h2 w2 c"]:
        distorted = self.step(jax.random.fold_in(key, _REST), image, example)
        if distorted.shape != image.shape:
            image = augment.central_crop(image, example.size)
        chosen = jax.random.bernoulli(key, self.prob).astype(jnp.int32)
        return pick((image, distorted), chosen)


@dataclasses.dataclass(frozen=True)
class SometimesMixed:
    """A mixture of some batches; the others are left alone.

    Attributes:
        step: the mixture.
        prob: the probability that a batch is mixed.
    """

    step: Mixture
    prob: float

    def __post_init__(self) -> None:
        check_range("prob", self.prob, at_least=0, at_most=1)

    def __call__(
        self,
        key: Key[Array, ""],
        images: Float[Array, "n h w c"],
        targets: Float[Array, "n classes"],
    ) -> tuple[Float[Array, "n h w c"], Float[Array, "n classes"]]:
        mixed = self.step(jax.random.fold_in(key, _REST), images, targets)
        chosen = jax.random.bernoulli(key, self.prob)
        return jnp.where(chosen, mixed[0], images), jnp.where(chosen, mixed[1], targets)


class WithProb(Mapping[str, Callable[..., Any]]):
    """The choices of registries, each with the additional option `prob`.

    Its default is the attribute `prob` of the class, or else 1. A choice with an option
    `prob` of its own is left as it is.
    """

    def __init__(
        self, *wrappers: tuple[Mapping[str, Callable[..., Any]], Callable[..., Any]]
    ):
        """Takes registries, each with a class to wrap what it makes with `prob`."""
        self._wrappers = wrappers

    def __iter__(self) -> Iterator[str]:
        for registry, _ in self._wrappers:
            yield from registry

    def __len__(self) -> int:
        return sum(len(registry) for registry, _ in self._wrappers)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        for registry, wrapper in self._wrappers:
            if name in registry:
                return _with_prob(registry[name], wrapper)
        raise KeyError(name)


def _with_prob(
    choice: Callable[..., Any], wrapper: Callable[..., Any]
) -> Callable[..., Any]:
    """Returns a choice with the option `prob`, which `inspect` and `typing` see too."""
    options = inspect.signature(choice).parameters
    if "prob" in options:
        return choice
    default = getattr(choice, "prob", 1.0)

    def make(*values: Any, prob: float = default, **named: Any) -> Any:
        step = choice(*values, **named)
        return step if prob == 1 else wrapper(step, prob)

    extra = inspect.Parameter("prob", inspect.Parameter.KEYWORD_ONLY, default=default)
    ordered = sorted([*options.values(), extra], key=lambda option: option.kind)
    vars(make)["__signature__"] = inspect.Signature(ordered)
    hints = typing.get_type_hints(getattr(choice, "func", choice))
    make.__annotations__ = hints | {"prob": float}
    return make
