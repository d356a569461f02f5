"""The ways in which a command or a training ends early, and the exit code of each."""

import signal


class UserError(Exception):
    """Something the user gave cannot be used: a flag, a folder, data, a picture.

    The message names the thing, its value and the way out. Commands print it on
    one line and exit with status 2.
    """

    exit_code = 2


class RunError(Exception):
    """A run that started well has failed: a full disk, a non-finite loss.

    The message says what was lost, if anything, and what is safe. Commands print
    it on one line and exit with status 1.
    """

    exit_code = 1


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM has ended a training, after its state was saved.

    Attributes:
        signum: the signal.
    """

    def __init__(self, signum: int, message: str):
        super().__init__(f"stopped by {signal.Signals(signum).name} {message}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What a shell reports for a command that a signal has ended."""
        return 128 + self.signum
