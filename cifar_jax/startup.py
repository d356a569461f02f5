"""What the commands do first, before their imports, which take seconds."""

import os
import pathlib
import sys

from cifar_jax.training import interrupts

_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb"
_MODE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def prepare() -> None:
    """Handles Ctrl-C and SIGTERM, and restarts this process if it needs variables.

    It is restarted with the same arguments and the same process ID, at most once.
    """
    variables = environment()
    # A debugger would lose its breakpoints.
    if variables and sys.gettrace() is None:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | variables)
    interrupts.exit_on_signals()


def environment() -> dict[str, str]:
    """Returns the environment variables that make a process's memory fast to use.

    XLA allocates the memory for intermediate results anew for every step, and the
    kernel provides it in pages of 4 KiB as they are first used: that is a sixth of a
    train step of ResNet-18. glibc asks for pages of 2 MiB instead if a variable says so
    when the process starts. The result is empty where the variable is not needed, has
    no effect or is set by the user.
    """
    tunables = os.environ.get(_TUNABLES, "")
    try:
        can_ask = "[madvise]" in _MODE.read_text(encoding="utf-8")
    except OSError:  # Not Linux.
        can_ask = False
    if not can_ask or _HUGE_PAGES in tunables:
        return {}
    return {_TUNABLES: ":".join(filter(None, [tunables, f"{_HUGE_PAGES}=1"]))}
