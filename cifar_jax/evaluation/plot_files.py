"""Plots that commands write to files named by the user."""

import io
import pathlib
from typing import TYPE_CHECKING

from cifar_jax import extras
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation.report import is_written_by
from cifar_jax.runs.files import check_folder, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = (".png", ".svg")


def check(path: pathlib.Path, flag: str, generator: str) -> None:
    """Checks a file before a plot is written to it, without changing it.

    Args:
        path: path of the file.
        flag: name of the flag that gave the path, for the message.
        generator: the command, which may replace its own earlier plots.

    Raises:
        UserError: the file has an unsupported type, cannot be written, or was not
            written by this command, or a plotting package is missing.
    """
    extras.require(f"--{flag}={path}", "report", "matplotlib")
    if path.suffix.lower() not in _KINDS:
        raise UserError(f"--{flag}={path} must end in {' or '.join(_KINDS)}")
    check_folder(path.parent, flag)
    try:
        foreign = path.exists() and not is_written_by(generator, path)
    except OSError as error:
        raise UserError(f"--{flag}={path} cannot be used: {error.strerror}") from None
    if foreign:
        raise UserError(
            f"--{flag}={path} was not written by {generator} and would be overwritten; "
            "choose another name"
        )


def write(figure: "Figure", path: pathlib.Path, flag: str, generator: str) -> None:
    """Writes a figure atomically to a file that has passed `check`.

    Equal figures produce identical files.

    Raises:
        RunError: the file cannot be written.
    """
    # Imported here because it takes a second and only plots need it.
    import matplotlib

    file = io.BytesIO()
    kind = path.suffix.lower()[1:]
    # No dates or random ids.
    metadata = {
        "png": {"Software": generator},
        "svg": {"Creator": generator, "Date": None, "Format": None, "Type": None},
    }
    with matplotlib.rc_context({"svg.hashsalt": "cifar_jax"}):
        figure.savefig(file, format=kind, dpi=110, metadata=metadata[kind])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, file.getvalue())
    except OSError as error:
        raise RunError(f"cannot write --{flag}={path}: {error.strerror}") from error
