"""Short explanations of why a file could not be read."""


def reason(error: Exception) -> str:
    """Returns an error's message as one short line, or its class if it has none.

    Parsers can raise almost anything on damaged input, with messages of any length.
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
