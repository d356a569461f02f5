"""How programs are compiled: JAX's persistent cache, and a pitfall on CPUs."""

import contextlib
import errno
import hashlib
import math
import os
import pathlib
import platform
import re
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import jax
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import PyTree

from cifar_jax import console
from cifar_jax.caches import user_cache
from cifar_jax.devices import cpu
from cifar_jax.errors import UserError

# JAX's default for the shortest compilation that it caches.
_USUAL_SECS = 1.0
_ONEDNN_PRODUCT = "__onednn$matmul"
_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# JAX's warning about an entry that cannot be used.
_DAMAGE = re.compile(
    "Error (reading|writing) persistent compilation cache entry for '.*?': (?:error: )?"
    "(.*)",
    re.DOTALL,
)
_NO_HANDLE = f"[Errno {errno.EMFILE}]"
_CHANGING, _KEEPING = threading.Lock(), threading.Lock()
# Programs that this process used recently; the least recent is dropped first.
_MADE: dict[Hashable, Any] = {}
MOST_PROGRAMS = 16  # for each device, since each may have its own

Value = TypeVar("Value")


def enable(directory: str | None = None) -> None:
    """Keeps compiled programs in a directory that only this user can write to.

    Args:
        directory: the directory. None keeps an earlier choice (by an earlier call,
            JAX_COMPILATION_CACHE_DIR or jax.config), or else uses a directory in the
            user's cache, or no cache if that cannot be used. An empty string disables
            the cache.

    Raises:
        UserError: the given directory cannot be used.
    """
    known = jax.config.values
    if directory == "":
        jax.config.update("jax_enable_compilation_cache", False)
    if directory == "" or not known["jax_enable_compilation_cache"]:
        return
    # Cache everything: startup compiles many small programs, which add up.
    if known["jax_persistent_cache_min_compile_time_secs"] == _USUAL_SECS:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if directory is None and (os.environ.get(_VARIABLE) or _find_configured()):
        return
    try:
        if directory is not None:
            _use(pathlib.Path(directory).expanduser())
        else:
            _use(_find_default())
    # RuntimeError: there is no home directory for a ~.
    except (OSError, RuntimeError, ValueError) as error:
        name = directory or getattr(error, "filename", None) or "in the home directory"
        problem = f"the compilation cache {name} cannot be used: "
        problem += getattr(error, "strerror", None) or str(error)
        if directory is not None:
            raise UserError(
                f"{problem}; pass a different --compilation_cache"
            ) from None
        jax.config.update("jax_enable_compilation_cache", False)
        console.warn(f"{problem}; every start will recompile everything")


def warn_once() -> None:
    """Turns JAX's warnings about a damaged cache, one per program, into one line.

    Prints nothing if the cache is fine: if this process has run out of file handles
    (whatever else needs one reports that), and if an entry cannot be read while
    programs are being added, as JAX also reads entries that are half written.
    """
    others, said = warnings.showwarning, False

    def show(message: Warning | str, *arguments: Any, **options: Any) -> None:
        nonlocal said
        if (found := _DAMAGE.match(str(message))) is None:
            others(message, *arguments, **options)
            return
        reading = found[1] == "reading"
        harmless = _NO_HANDLE in found[2] or (reading and _is_being_filled())
        if not said and not harmless:
            said = True
            console.warn(
                f"the compilation cache {_find_configured()} cannot be "
                f"{'read' if reading else 'written'} ({found[2]}); "
                "delete it, or every start will recompile programs"
            )

    warnings.showwarning = show


def _find_configured() -> str | None:
    """Returns the directory in JAX's own setting, or None."""
    return jax.config.values["jax_compilation_cache_dir"]


def _is_being_filled() -> bool:
    """Returns whether a program was added to the cache within the last minute."""
    try:
        entries = pathlib.Path(_find_configured() or "").glob("*-cache")
        newest = max((entry.stat().st_mtime for entry in entries), default=0.0)
    except OSError:
        return False
    return time.time() - newest < 60


def _use(path: pathlib.Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    # On Windows, only the user can write to the user's profile.
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not is_own or (os.name == "posix" and status.st_mode & 0o022):
        # The files in it are executed as code.
        raise PermissionError(0, "other users can write to it", str(path))
    jax.config.update("jax_compilation_cache_dir", str(path))
    # If something was already compiled, JAX has settled on no cache.
    compilation_cache.reset_cache()


def _find_default() -> pathlib.Path:
    """Returns a directory for this type of processor: machines may share a home."""
    kind = hashlib.sha256(f"{platform.machine()} {cpu.features()}".encode()).hexdigest()
    return user_cache() / "compiled" / kind[:12]


def compile_once(what: Hashable, arguments: PyTree, make: Callable[[], Value]) -> Value:
    """Returns the result of an equal earlier call in this process, or calls `make`.

    Args:
        what: what is computed: functions and their static arguments.
        arguments: the arguments; only their structure, shapes and shardings matter.
        make: compiles the program.
    """
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple(
        (leaf.shape, leaf.dtype, getattr(leaf, "sharding", None)) for leaf in leaves
    )
    key = (what, structure, shapes)
    made = _MADE.get(key)
    made = make() if made is None else made
    with _KEEPING:
        _MADE.pop(key, None)
        _MADE[key] = made  # Last, as the most recently used.
        if len(_MADE) > MOST_PROGRAMS * jax.local_device_count():
            _MADE.pop(next(iter(_MADE)))
    return made


def forget() -> None:
    """Makes `compile_once` forget everything, for when JAX's settings have changed."""
    _MADE.clear()


def compile_lowered(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles a program with this package's options.

    Convolutions in bfloat16 are left to oneDNN on CPUs where that is faster.
    """
    options = cpu.compiler_options()
    if cpu.has_onednn() and _suits_onednn(lowered.as_text()):
        with _uncached():
            compiled = lowered.compile(options | {cpu.ONEDNN: True})
        # XLA may read oneDNN's matrix products before they are complete.
        if _ONEDNN_PRODUCT not in (compiled.as_text() or _ONEDNN_PRODUCT):
            return compiled
    return lowered.compile(options)


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Keeps programs out of the persistent cache: XLA cannot save calls of oneDNN."""
    name = "jax_persistent_cache_min_compile_time_secs"
    with _CHANGING:  # Several threads may compile.
        usual = jax.config.values[name]
        jax.config.update(name, math.inf)
        try:
            yield
        finally:
            jax.config.update(name, usual)


def _suits_onednn(program: str) -> bool:
    """Returns whether a program has convolutions in bfloat16 that oneDNN is fast at.

    It is slow at gradients with respect to kernels as JAX writes them (`ops.onednn`
    writes them differently), and the option is for all of a program's convolutions.
    """
    convolutions = re.findall(r"stablehlo\.convolution.*", program)
    kernel_gradients = [line for line in convolutions if "[f, 0, 1, b]x" in line]
    return not kernel_gradients and any("bf16" in line for line in convolutions)


def is_slow_in_loops(lowered: jax.stages.Lowered) -> bool:
    """Returns whether XLA would run this program far slower in a loop than outside one.

    On a CPU, convolutions in a loop miss the fast kernels; their gradients take about
    30 times as long (https://github.com/jax-ml/jax/issues/12868).
    """
    on_cpu = jax.default_backend() == "cpu"
    return on_cpu and "stablehlo.convolution" in lowered.as_text()
