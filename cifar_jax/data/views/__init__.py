"""Views, by name: the crops of an image that evaluation averages over."""

from collections.abc import Callable

from cifar_jax.data.views.base import Views
from cifar_jax.data.views.crops import Center, Mirror, ShiftedMirrors, TenCrops

VIEWS: dict[str, Callable[..., Views]] = {
    "center": Center,
    "mirror": Mirror,
    "ten_crops": TenCrops,
    "shifted_mirrors": ShiftedMirrors,
}
