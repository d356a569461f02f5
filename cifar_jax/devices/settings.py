"""Settings of JAX itself that this package cannot do without."""

import jax

from cifar_jax.errors import UserError

# The values with which it works, and gives the results that it promises.
_WORKING: dict[str, tuple[object, ...]] = {
    "jax_enable_x64": (False,),
    "jax_disable_jit": (False,),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    # Other random numbers would resume a run as another one.
    "jax_default_prng_impl": ("threefry2x32",),
    "jax_threefry_partitionable": (True,),
    "jax_transfer_guard": ("allow", "log", None),
    "jax_transfer_guard_host_to_device": ("allow", "log", None),
    "jax_transfer_guard_device_to_host": ("allow", "log", None),
    "jax_transfer_guard_device_to_device": ("allow", "log", None),
}


def check() -> None:
    """Raises UserError if JAX has settings with which this package does not work."""
    for name, working in _WORKING.items():
        value = jax.config.values[name]
        if value not in working:
            raise UserError(
                f"{name.upper()}={value} (an environment variable, or jax.config) does "
                f"not go with cifar_jax, which needs {working[0]}; leave it out"
            )


def devices() -> list[jax.Device]:
    """Returns all devices of all processes.

    Raises:
        UserError: JAX cannot use those that it is asked for, or see `check`.
    """
    check()
    try:
        return jax.devices()
    # AssertionError: of JAX_PLATFORMS=cuda without a GPU.
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.values["jax_platforms"]
        reason = " ".join(str(error).split())[:300] or "there is none"
        raise UserError(
            f"JAX cannot use the devices of JAX_PLATFORMS={asked or ''}: {reason}; "
            "leave the variable out, or set it to cpu"
        ) from None
