"""Why a file could not be read, in few words."""


def reason(error: Exception) -> str:
    """What an error says, on one line of bounded length; its class if it says nothing.

    Parsers given damaged bytes raise nearly anything, and say it at any length.
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
