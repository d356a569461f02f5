"""Views, by name: the crops of an image that evaluation averages over."""

from cifar_jax.data.views.base import Views
from cifar_jax.data.views.crops import Center, Mirror, ShiftedMirrors, TenCrops
from cifar_jax.registry import Registry

VIEWS: Registry[Views] = Registry(
    Views,
    {
        "center": Center,
        "mirror": Mirror,
        "ten_crops": TenCrops,
        "shifted_mirrors": ShiftedMirrors,
    },
)
