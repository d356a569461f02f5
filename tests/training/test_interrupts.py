import signal
import threading

import pytest

from cifar_jax.training.interrupts import StopRequest


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_requests_a_stop(signum):
    before = signal.getsignal(signum)
    with StopRequest() as stop:
        assert stop.signum is None
        signal.raise_signal(signum)
        assert stop.signum == signum
        # A second signal would have its original effect.
        assert signal.getsignal(signum) is before
    assert signal.getsignal(signum) is before


@pytest.fixture
def python_raises_ctrl_c():
    """Sets Python's own handler, which it lacks if started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_raises_ctrl_c")
def test_a_second_ctrl_c_is_not_held_back():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_restored_after_no_signal():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_may_train_too():
    failures = []

    def train():
        try:
            with StopRequest() as stop:
                assert stop.signum is None
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not failures


def test_a_signal_that_the_platform_lacks_is_ignored(monkeypatch):
    set_handler = signal.signal

    def refuse_sigterm(signum, handler):
        if signum == signal.SIGTERM:
            raise ValueError("signal only works in ...")
        return set_handler(signum, handler)

    monkeypatch.setattr("cifar_jax.training.interrupts.signal.signal", refuse_sigterm)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
    assert stop.signum == signal.SIGINT
