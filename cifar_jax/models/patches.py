"""The patches of images, with which several networks begin."""

from flax.linen.initializers import lecun_normal
from jaxtyping import Array, Float

from cifar_jax.errors import UserError
from cifar_jax.models.network import Network


def patches(
    network: Network, images: Float[Array, "n h w c"], size: int, width: int
) -> Float[Array, "n rows columns {width}"]:
    """Returns a linear function of each patch, by a convolution named patches.

    Args:
        network: the network that calls this.
        images: images.
        size: height and width of a patch.
        width: outputs for each patch.

    Raises:
        UserError: the images cannot be divided into such patches.
    """
    check_patches(images, size)
    convolution = network.convolution(
        width,
        (size, size),
        "patches",
        strides=(size, size),
        padding="VALID",
        kernel_init=lecun_normal(),
    )
    return convolution(images)


def check_patches(images: Float[Array, "n h w c"], size: int) -> None:
    """Raises UserError if images cannot be divided into patches of a size."""
    height, width = images.shape[1:3]
    if height % size or width % size:
        raise UserError(
            f"patch={size} must divide the height and width of the images, "
            f"{height}x{width}"
        )
