"""JAX's persistent compilation cache: the second start compiles nothing."""

import hashlib
import os
import pathlib
import platform

import jax

from cifar_jax import console
from cifar_jax.errors import UserError


def enable(directory: str | None) -> None:
    """Keeps compiled programs in a folder that only this user can write to.

    Args:
        directory: None for a folder in the user's cache, without which a start goes
            on, only slower; an empty string for no cache at all. What the variable
            JAX_COMPILATION_CACHE_DIR says is left to JAX if directory is None.

    Raises:
        UserError: the directory that was named cannot be used.
    """
    if directory == "":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    # Everything: a start runs many small programs, and they add up.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        if directory is not None:
            _use(pathlib.Path(directory).expanduser())
        elif not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            _use(_default())
    # RuntimeError: there is no home folder for a ~.
    except (OSError, RuntimeError, ValueError) as error:
        name = directory or getattr(error, "filename", None) or "in the home folder"
        problem = f"the compilation cache {name} cannot be used: "
        problem += getattr(error, "strerror", None) or str(error)
        if directory is not None:
            raise UserError(f"{problem}; give another --compilation_cache") from None
        console.warn(f"{problem}; every start will compile anew")


def _use(path: pathlib.Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    # On Windows a folder in the user's profile is the user's alone.
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not is_own or (os.name == "posix" and status.st_mode & 0o022):
        # What lies there is run as code.
        raise PermissionError(0, "other users can write to it", str(path))
    jax.config.update("jax_compilation_cache_dir", str(path))


def _default() -> pathlib.Path:
    """A folder for each kind of processor: homes are shared, machine code is not."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next(
            line for line in lines if line.startswith(("flags", "Features"))
        )
    except (OSError, StopIteration):
        features = platform.processor()
    kind = hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()
    return cache / "cifar_jax" / "compiled" / kind[:12]
