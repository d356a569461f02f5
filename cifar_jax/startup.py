"""What commands do first, before their imports, which take seconds."""

import os
import pathlib
import re
import sys
from collections.abc import Sequence

from cifar_jax import aftermath
from cifar_jax.training import interrupts

_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb"
# Together, they make glibc keep freed memory instead of returning it to the kernel.
_KEEP_MEMORY = {
    "glibc.malloc.mmap_max": 0,
    "glibc.malloc.trim_threshold": 2**62,
    # Other arenas than the first cannot keep large blocks.
    "glibc.malloc.arena_max": 1,
}
MODE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def prepare() -> None:
    """Handles Ctrl-C and SIGTERM, and restarts this process if it needs variables.

    It is restarted with the same arguments and the same process ID, at most once.
    Closed standard streams are opened (see `open_closed_streams`), and what libraries
    print after errors is silenced (see `aftermath`).

    Nothing happens in a process that was not started as a command, such as a notebook's
    kernel with `%run -m`, or a script with `runpy`: it would lose its variables and its
    handling of Ctrl-C.
    """
    if not is_command(sys.orig_argv):
        return
    variables = environment()
    # A debugger would lose its breakpoints.
    if variables and sys.gettrace() is None:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | variables)
    open_closed_streams()
    aftermath.silence()
    interrupts.exit_on_signals()


def is_command(process: Sequence[str]) -> bool:
    """Returns whether a process was started by `python -m cifar_jax.*` or `cifar-jax`.

    Args:
        process: its words, as in `sys.orig_argv`.
    """
    words = iter(process[1:])
    for word in words:
        if re.fullmatch(r"-[a-zA-Z]*m", word):
            return next(words, "").split(".")[0] == "cifar_jax"
        if re.fullmatch(r"-[a-zA-Z]*c", word):
            return False
        if not word.startswith("-"):
            return pathlib.Path(word).stem == "cifar-jax"
        if re.fullmatch(r"-[a-zA-Z]*[WX]", word):  # options of Python with a value
            next(words, None)
    return False


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

    XLA allocates new memory for the intermediate results of every step. By default,
    glibc takes it from the kernel, in pages of 4 KiB that are cleared on first use, and
    returns it after the step. If variables tell it to when the process starts, glibc
    requests pages of 2 MiB where the kernel offers them to programs that ask, and keeps
    the memory for the next step. The result is empty where nothing is missing: on
    systems other than Linux, or if the user has set everything.
    """
    try:
        mode = MODE.read_text(encoding="utf-8")
    except OSError:  # Not Linux.
        return {}
    wanted = _KEEP_MEMORY | ({_HUGE_PAGES: 1} if "[madvise]" in mode else {})
    given = os.environ.get(_TUNABLES, "")
    missing = [f"{k}={v}" for k, v in wanted.items() if k not in given]
    return {_TUNABLES: ":".join(filter(None, [given, *missing]))} if missing else {}
