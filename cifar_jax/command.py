"""How the three commands start and end: flags, errors, exit codes."""

import os
import sys
import textwrap
from collections.abc import Callable, Sequence

import jax
from absl import flags

from cifar_jax import compilation_cache, parallel
from cifar_jax.errors import RunError, UserError


def run(main: Callable[[Sequence[str]], int | None], usage: str) -> None:
    """Parses the flags, runs main(positional arguments), exits with its status.

    Status 0 is success, 1 a failed run, 2 something the user gave, 130 Ctrl-C.
    Each ends with one line on stderr and no traceback, save for faults of ours.
    """
    flags.DEFINE_boolean("help", False, "Show this help.", short_name="h")
    flags.DEFINE_string(
        "compilation_cache",
        None,
        "Folder of compiled programs, which later starts use. Default: one in the "
        "user's cache folder. Empty: none.",
    )
    try:
        arguments = flags.FLAGS(sys.argv)[1:]
        if flags.FLAGS.help:
            print(f"{usage}\n\nFlags:\n{_flag_help()}")
            sys.exit(0)
        compilation_cache.enable(flags.FLAGS.compilation_cache)
        status = main(arguments) or 0
    except flags.Error as error:
        _fail(f"{error} (--help lists the flags)", UserError.exit_code)
    except (UserError, RunError) as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`... | head`): nobody to tell.
        sys.stderr.close()
        status = 141
    sys.exit(status)


def no_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError if there are positional arguments."""
    if arguments:
        raise UserError(
            f"unexpected argument {arguments[0]!r}: flags are written --name=value "
            "(--help lists them)"
        )


def banner(notice: str | None) -> None:
    """Prints what a reader of the results must know, so that it is seen."""
    if notice is None:
        return
    rule = "=" * 78
    parallel.say(f"{rule}\n{notice}\n{rule}")


def _flag_help() -> str:
    """The help of this project's flags, without those of the libraries."""
    known = flags.FLAGS.flags_by_module_dict()
    own = [
        flag
        for module, module_flags in known.items()
        if module.startswith("cifar_jax") or module == sys.argv[0]
        for flag in module_flags
    ]
    return "\n".join(
        f"  --{'[no]' if flag.boolean else ''}{flag.name}\n"
        + "\n".join(map(_wrapped, flag.help.splitlines()))
        + f" (default: {flag.default_as_str or 'none'})"
        for flag in own
    )


def _wrapped(line: str) -> str:
    """A line of help as lines that fit a terminal."""
    return textwrap.fill(
        line,
        80,
        initial_indent=6 * " ",
        subsequent_indent=6 * " ",
        break_long_words=False,
    )


def _fail(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    if jax.distributed.is_initialized():
        # The usual end would wait for processes that may be waiting for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
