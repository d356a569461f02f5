"""What commands do first, before their imports, which take seconds."""

import os
import pathlib
import sys

from cifar_jax import aftermath
from cifar_jax.training import interrupts

_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb"
MODE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def prepare() -> None:
    """Handles Ctrl-C and SIGTERM, and restarts this process if it needs variables.

    It is restarted with the same arguments and the same process ID, at most once.
    Closed standard streams are opened (see `open_closed_streams`), and what libraries
    print after errors is silenced (see `aftermath`).
    """
    variables = environment()
    # A debugger would lose its breakpoints.
    if variables and sys.gettrace() is None:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | variables)
    open_closed_streams()
    aftermath.silence()
    interrupts.exit_on_signals()


def open_closed_streams() -> None:
    """Opens the standard streams that this process was started without, as by `>&-`.

    Otherwise the next file to be opened would get the number of a closed stream, and
    with it everything that libraries print. Writing to standard output fails, as if it
    were closed; error messages are lost.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # This is the lowest free number.
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115


def environment() -> dict[str, str]:
    """Returns the environment variables that make a process's memory fast to use.

    XLA allocates new memory for the intermediate results of every step, and the kernel
    provides it in pages of 4 KiB on first use, which takes a sixth of a train step of
    ResNet-18. glibc requests pages of 2 MiB instead if a variable tells it to when the
    process starts. The result is empty where the variable is not needed, has no effect
    or is set by the user.
    """
    tunables = os.environ.get(_TUNABLES, "")
    try:
        can_ask = "[madvise]" in MODE.read_text(encoding="utf-8")
    except OSError:  # Not Linux.
        can_ask = False
    if not can_ask or _HUGE_PAGES in tunables:
        return {}
    return {_TUNABLES: ":".join(filter(None, [tunables, f"{_HUGE_PAGES}=1"]))}
