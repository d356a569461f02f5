"""The texts that commands print with --help and --helpfull."""

import re
import sys
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

from absl import flags

_WIDTH = 80
# The column where explanations begin in --help.
_INDENT = 30
_HELP = ("help", "helpfull")


def format_short(usage: str, names: Collection[str]) -> str:
    """Returns the short help, with one line per flag.

    Args:
        usage: description of the command, with examples.
        names: the flags that most people need; if empty, all of the command's own.
    """
    own = {flag.name: flag for flag in _own_flags() if flag.name not in _HELP}
    shown = [own[name] for name in names] or list(own.values())
    lines = [usage.rstrip(), "", "Flags:", *map(_line, shown), ""]
    hidden = len(own) - len(shown)
    more = f"explains these and {hidden} more" if hidden else "explains them"
    return "\n".join([*lines, f"--helpfull {more}."])


def format_full(usage: str, groups: Mapping[str, str]) -> str:
    """Returns the full help.

    Args:
        usage: description of the command, with examples.
        groups: {first flag: title} of the groups of flags.
    """
    lines = [usage.rstrip()]
    for number, flag in enumerate(_own_flags()):
        if number == 0 or flag.name in groups:
            lines += ["", f"{groups.get(flag.name, 'Flags')}:"]
        lines.append(_whole(flag))
    return "\n".join(lines)


def _own_flags() -> list[flags.Flag[Any]]:
    """Returns this project's flags, without those of libraries."""
    known = flags.FLAGS.flags_by_module_dict()
    return [
        flag
        for module, module_flags in known.items()
        if module.startswith("cifar_jax") or module == sys.argv[0]
        for flag in module_flags
    ]


def _line(flag: flags.Flag[Any]) -> str:
    """Returns a flag with its default and the first words of its help."""
    name = f"  --{'[no]' if flag.boolean else ''}{flag.name}"
    if flag.default and not flag.boolean:
        with_default = f"{name}={flag.serialize().partition('=')[2]}"
        name = with_default if len(with_default) <= _INDENT - 2 else name
    # absl prepends the choices of an enum.
    text = re.sub(r"^<[^>]*>: ", "", flag.help)
    words = re.split(r"[.:;] |\.?\n|\.$", text)[0]
    room = _WIDTH - _INDENT
    return f"{name:{_INDENT}}{textwrap.shorten(words, room, placeholder=' ...')}"


def _whole(flag: flags.Flag[Any]) -> str:
    lines = map(_wrap, flag.help.splitlines())
    return (
        f"  --{'[no]' if flag.boolean else ''}{flag.name}\n"
        + "\n".join(lines)
        + f" (default: {flag.default_as_str or 'none'})"
    )


def _wrap(line: str) -> str:
    """Wraps a help line to the width of a terminal."""
    return textwrap.fill(
        line,
        _WIDTH,
        initial_indent=6 * " ",
        subsequent_indent=6 * " ",
        break_long_words=False,
    )
