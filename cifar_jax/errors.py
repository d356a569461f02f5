"""Exceptions that end a command or a training run early, with their exit codes."""

import signal


class UserError(Exception):
    """User input cannot be used: a flag, a folder, data or an image.

    The message names the thing, its value and the way out. Commands print it on
    one line and exit with status 2.
    """

    exit_code = 2


class RunError(Exception):
    """A run failed after it had started, as on a full disk or a non-finite loss.

    The message tells what was lost, if anything, and what was saved. Commands print
    it on one line and exit with status 1.
    """

    exit_code = 1


class DivergedError(RunError):
    """Training produced non-finite values."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM stopped a training run after its state was saved.

    Attributes:
        signum: number of the signal.
    """

    def __init__(self, signum: int, message: str):
        super().__init__(f"stopped by {signal.Signals(signum).name} {message}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The status that a shell reports for a command ended by a signal."""
        return 128 + self.signum
