"""Startup and exit of the commands: flags, errors and exit codes."""

import io
import os
import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn

import jax
from absl import flags

from cifar_jax import aftermath, console, help, plugins
from cifar_jax.checks import as_path
from cifar_jax.console import OutputError
from cifar_jax.devices import compilation as compilation_cache
from cifar_jax.devices import memory, settings
from cifar_jax.errors import RunError, Stopped, UserError
from cifar_jax.training import interrupts

# Flags that functions in this module define belong to the modules that call them.
flags.disclaim_key_flags()

# Flags of the tutorial that have a different name here.
_RENAMED = {"num_gpus": "num_devices"}


class _Path(flags.ArgumentParser[str]):
    """The value of a flag that names a file or a folder."""

    def parse(self, argument: str) -> str:
        return as_path(argument)


def define_path(name: str, default: str | None, help: str) -> None:
    """Defines a flag that names a file or a folder; see `checks.as_path`."""
    flags.DEFINE(_Path(), name, default, help, serializer=flags.ArgumentSerializer())


def run(
    main: Callable[[Sequence[str]], int | None],
    define_flags: Callable[[], None],
    usage: str,
    main_flags: Collection[str] = (),
    groups: Mapping[str, str] = types.MappingProxyType({}),
) -> None:
    """Defines and parses the flags, calls main(positional arguments), and exits.

    Its status is 0 for success, 1 for a failed run, 2 for unusable input (including
    code from --import), 130 for Ctrl-C and 143 for SIGTERM. Everything but success ends
    with one line on stderr; only a bug in this package prints a traceback.

    Args:
        main: the command.
        define_flags: defines its flags, which exist until it ends: a notebook can run
            one command after the other in its process.
        usage: description of the command, with examples.
        main_flags: see `help.format_short`.
        groups: see `help.format_full`.
    """
    before = set(flags.FLAGS)
    try:
        define_flags()
        _run(main, usage, main_flags, groups)
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def _run(
    main: Callable[[Sequence[str]], int | None],
    usage: str,
    main_flags: Collection[str],
    groups: Mapping[str, str],
) -> NoReturn:
    """Implements `run` with the command's own flags defined."""
    flags.DEFINE_boolean("help", False, "Show a short help.", short_name="h")
    flags.DEFINE_boolean("helpfull", False, "Explain every flag.")
    define_path(
        "compilation_cache",
        None,
        "Folder for compiled programs, which later runs reuse; an empty value disables "
        "the cache. Default: a folder in the user's cache.",
    )
    imports = flags.DEFINE_list(
        "import",
        [],
        "Your own modules or .py files to import first; they register networks, data "
        "sets, or anything else that has a name.",
    )
    interrupts.ignore_at_exit()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may contain characters that the terminal cannot encode.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parse(sys.argv)
        if flags.FLAGS.help or flags.FLAGS.helpfull:
            text = help.format_full(usage, groups) if flags.FLAGS.helpfull else None
            console.say(*(text or help.format_short(usage, main_flags)).splitlines())
            sys.exit(0)
        settings.check()
        compilation_cache.warn_once()
        compilation_cache.enable(flags.FLAGS.compilation_cache)
        plugins.load(imports.value)
        status = main(arguments) or 0
    except flags.UnrecognizedFlagError as error:
        way = f"write --{new}" if (new := _RENAMED.get(error.flagname)) else None
        message = f"there is no --{error.flagname}; {way}" if way else str(error)
        _fail(f"{message} (--helpfull lists the flags)", UserError.exit_code)
    except flags.Error as error:
        message = str(error).removeprefix("ERROR:: ")  # of absl, about --flagfile
        _fail(f"{message} (--helpfull lists the flags)", UserError.exit_code)
    except Stopped as stop:
        # Every process of the run stops, so they can shut down together.
        _print_error(str(stop))
        status = stop.exit_code
    except OutputError as error:
        if not error.closed:
            _fail(str(error), error.exit_code)
        status = 141  # As for SIGPIPE: no one is left to read a message.
    except (UserError, RunError) as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped by SIGINT", 130)
    except Exception as error:
        if (reason := memory.shortage(error)) is not None:
            _fail(
                f"there is not enough memory ({reason}); close other programs, or use "
                "a machine with more",
                RunError.exit_code,
            )
        line = (plugins.find_culprit(error) if imports.value else None) or _no_devices()
        if line is None:
            raise
        _fail(line, UserError.exit_code)
    sys.exit(status)


def _no_devices() -> str | None:
    """Returns why JAX cannot use any device, or None if it can."""
    try:
        settings.devices()
    except UserError as error:
        return str(error)
    return None


def _parse(words: Sequence[str]) -> list[str]:
    """Parses the flags; returns the positional arguments."""
    try:
        return flags.FLAGS(words)[1:]
    except ValueError as error:  # for example, --noprofile=3
        raise UserError(f"{error} (--helpfull lists the flags)") from None


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError if there are positional arguments."""
    if arguments:
        raise UserError(
            f"unexpected argument {arguments[0]!r}: flags are written --name=value "
            "(--helpfull lists them)"
        )


def print_banner(notice: str | None, say: Callable[..., None] = console.log) -> None:
    """Prints a prominent notice that readers of the results must see.

    Args:
        notice: one or more lines, or None to print nothing.
        say: prints the lines.
    """
    if notice is not None:
        rule = "=" * 78
        say(rule, *notice.splitlines(), rule)


def _fail(message: str, status: int) -> NoReturn:
    _print_error(message)
    if jax.distributed.is_initialized() or aftermath.lingers():
        # A normal exit would wait for processes or threads that wait for a failed one.
        os._exit(status)
    sys.exit(status)


def _print_error(message: str) -> None:
    console.note(f"error: {message}")
