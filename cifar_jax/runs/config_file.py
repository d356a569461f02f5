"""Writes, verifies and reads the config.json of a run."""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

from cifar_jax import console
from cifar_jax.errors import UserError
from cifar_jax.runs.files import write_atomically

NAME = "config.json"
_CHECKSUM = "sha256"
# The format of config.json and the checkpoints; runs in another one cannot be read.
_FORMAT = 3
_PACKAGES = ("cifar-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def write(directory: pathlib.Path, contents: dict[str, Any]) -> None:
    """Writes the config.json of a run, with package versions and a checksum.

    Raises:
        UserError: it cannot be written.
    """
    whole = {"format": _FORMAT, **contents, "versions": versions()}
    whole[_CHECKSUM] = _checksum(whole)
    try:
        write_atomically(directory / NAME, json.dumps(whole, indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write to --train_dir={directory}: {error.strerror}"
        ) from None


def read(file: pathlib.Path) -> dict[str, Any]:
    """Returns the contents of config.json after checking its checksum and format."""
    if file.exists() and not file.is_file():
        raise UserError("it is not a regular file")
    saved: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    checksum = saved.pop(_CHECKSUM, None)
    if checksum is None:
        console.warn(f"{file} has no {_CHECKSUM}; it is used as is")
    elif checksum != _checksum(saved):
        raise UserError(
            f"its {_CHECKSUM} does not match, so it is damaged or was edited; if you "
            f"edited it, delete its line {_CHECKSUM!r}"
        )
    if saved.get("format") != _FORMAT:
        raise UserError(
            "another version of cifar_jax wrote it, whose checkpoints this one cannot "
            "read; use that version, or train again in another --train_dir"
        )
    return saved


@contextlib.contextmanager
def explain_unreadable(file: pathlib.Path) -> Iterator[None]:
    """Turns errors about config.json into a UserError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"no run in {file.parent}: there is no {NAME}; train first, "
            f"python -m cifar_jax.train --train_dir={file.parent}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{file} cannot be used: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise UserError(f"{file} is damaged: {reason}") from None


def refuse_foreign(directory: pathlib.Path) -> None:
    """Raises UserError if there is a config.json that does not belong to a run."""
    file = directory / NAME
    if not file.exists():
        return
    try:
        # Reading a FIFO would block forever.
        saved = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        is_own = {"config", "data", "versions"} <= saved.keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        is_own = False
    if not is_own:
        raise UserError(
            f"--train_dir={directory} has a {NAME} that does not belong to a run and "
            "would be overwritten; choose another --train_dir"
        )


def versions() -> dict[str, str | None]:
    """Returns the versions of Python and of the packages that affect results."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _checksum(contents: dict[str, Any]) -> str:
    """Returns the SHA-256 of contents without their checksum, in any layout."""
    canonical = json.dumps(contents, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _version(package: str) -> str | None:
    """Returns the version of a package, or None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
