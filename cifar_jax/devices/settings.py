"""JAX settings that this package depends on."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import jax

from cifar_jax.errors import UserError

# The values with which it works and gives the promised results.
_WORKING: dict[str, tuple[object, ...]] = {
    "jax_enable_x64": (False,),
    "jax_disable_jit": (False,),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    # With other random numbers, a resumed run would become a different one.
    "jax_default_prng_impl": ("threefry2x32",),
    "jax_threefry_partitionable": (True,),
    "jax_transfer_guard": ("allow", "log", None),
    "jax_transfer_guard_host_to_device": ("allow", "log", None),
    "jax_transfer_guard_device_to_host": ("allow", "log", None),
    "jax_transfer_guard_device_to_device": ("allow", "log", None),
}
# The devices that this thread may use; None: all.
_OWN: contextvars.ContextVar[Sequence[jax.Device] | None] = contextvars.ContextVar(
    "own devices", default=None
)


def check() -> None:
    """Raises UserError if JAX has settings that do not work with this package."""
    for name, working in _WORKING.items():
        value = jax.config.values[name]
        if value not in working:
            raise UserError(
                f"{name.upper()}={value} (an environment variable, or jax.config) does "
                f"not work with cifar_jax, which needs {working[0]}; unset it"
            )


def devices() -> list[jax.Device]:
    """Returns all devices of all processes, or in a context of `only`, those.

    Raises:
        UserError: JAX cannot use the requested devices, or see `check`.
    """
    check()
    if (own := _OWN.get()) is not None:
        return list(own)
    try:
        return jax.devices()
    # AssertionError: JAX_PLATFORMS=cuda without a GPU.
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.values["jax_platforms"]
        reason = " ".join(str(error).split())[:300] or "there is none"
        raise UserError(
            f"JAX cannot use the devices of JAX_PLATFORMS={asked or ''}: {reason}; "
            "unset the variable, or set it to cpu"
        ) from None


@contextlib.contextmanager
def only(own: Sequence[jax.Device]) -> Iterator[None]:
    """Makes this thread see only these devices, as if there were no others."""
    before = _OWN.set(own)
    try:
        yield
    finally:
        _OWN.reset(before)
