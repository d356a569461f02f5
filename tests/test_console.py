import os

import pytest

from cifar_jax import console


@pytest.fixture
def full_disk(monkeypatch):
    """Makes standard output fail until it is discarded; returns what is written."""
    written = []

    def fail(line, file=None, **_):
        if file is None and "discarded" not in written:
            raise OSError(28, os.strerror(28))
        written.append(line)

    monkeypatch.setattr(console, "print", fail, raising=False)
    discard = lambda: written.append("discarded")  # noqa: E731
    monkeypatch.setattr(console, "discard_output", discard)
    return written


def test_a_training_continues_without_its_log_and_warns_once(full_disk):
    for step in range(3):
        console.log(f"step {step}")
    warning = (
        "warning: cannot write to standard output: No space left on device; "
        "training continues without its log"
    )
    assert full_disk == ["discarded", warning, "step 1", "step 2"]


def test_a_result_that_cannot_be_printed_is_an_error(full_disk):
    with pytest.raises(console.OutputError, match="No space left on device"):
        console.say("precision @ 1 = 0.610")


def test_messages_are_one_line():
    assert console.to_one_line("two\nlines, é, \udcff\t") == r"two\nlines, é, \udcff\t"


def test_names_cannot_steer_the_terminal(capsys):
    console.say("kinds: \x1b[31mcat\x07, a\nb", "", "\u202enext\x9b")
    console.note("\x1b]0;title\x07 \udcff")
    out, err = capsys.readouterr()
    assert out == "kinds: \\x1b[31mcat\\x07, a\\nb\n\n\\u202enext\\x9b\n"
    assert err == "\\x1b]0;title\\x07 \\udcff\n"
