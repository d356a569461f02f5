"""The two ways in which a command ends badly, and the exit code of each."""


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
