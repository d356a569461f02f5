"""Pure functions from images to a network's logits and to the outputs of its layers."""

import collections
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Num, PyTree, UInt8

from cifar_jax import models
from cifar_jax.data.normalization import Statistics
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.data.split import check_images
from cifar_jax.models import Network

INPUT, PENULTIMATE = "input", "penultimate"


def eval_step(
    variables: PyTree,
    images: UInt8[Array | np.ndarray, "n h w c"],
    statistics: Statistics | None,
    *,
    model: Network,
    preprocessing: Preprocessing,
) -> Float[Array, "n classes"]:
    """Returns the logits of images of bytes; see `logits`.

    Raises:
        UserError: the images cannot be used.
    """
    check_images(images, "images")
    return logits(
        variables, images, statistics, model=model, preprocessing=preprocessing
    )


def logits(
    variables: PyTree,
    images: Num[Array | np.ndarray, "n h w c"],
    statistics: Statistics | None,
    *,
    model: Network,
    preprocessing: Preprocessing,
) -> Float[Array, "n classes"]:
    """Returns the logits of images with values from 0 to 255.

    If there are several views of an image, `Views.combine` combines their logits.
    """
    evaluation = jax.vmap(preprocessing.prepare_eval, (0, None))
    views = evaluation(jnp.asarray(images), statistics)
    found = model.apply(variables, views.reshape(-1, *views.shape[2:]))
    assert isinstance(found, Array)  # not a tuple: no collection is mutable
    num_views = views.shape[1]
    if num_views == 1:
        return found
    return preprocessing.views.combine(found.reshape(*views.shape[:2], -1))


def layers(
    variables: PyTree,
    images: Num[Array | np.ndarray, "n h w c"],
    statistics: Statistics | None,
    *,
    model: Network,
    preprocessing: Preprocessing,
) -> collections.OrderedDict[str, Float[Array, "n ..."]]:
    """Returns the input, the tapped layers in order, and what the last layer gets.

    The latter, `penultimate`, is what goes into the last of `Network.classifier`, as
    one row per image. It is missing if the network has no layer of that name. If there
    are several views of an image, only the first, central one is used.
    """
    evaluation = jax.vmap(preprocessing.prepare_eval, (0, None))
    inputs = evaluation(jnp.asarray(images), statistics)[:, 0]
    last: dict[str, Array] = {}

    def keep_inputs_of_last(
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if context.module.path == model.classifier[-1:]:
            last[PENULTIMATE] = arguments[0].reshape(len(inputs), -1)
        return call(*arguments, **options)

    with nn.intercept_methods(keep_inputs_of_last):
        _, sown = model.apply(variables, inputs, mutable=["intermediates"])
    # Unlike those of a dict, its items stay in order when JAX transforms the function.
    found = collections.OrderedDict({INPUT: inputs})
    # A network need not tap any layer.
    for layer in models.collect_taps(sown.get("intermediates", {})):
        found.update(layer)
    found.update(last)
    return found
