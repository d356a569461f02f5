"""Ctrl-C and SIGTERM, which end a run after saving its state."""

import signal

from cifar_jax.devices import processes
from cifar_jax.training.interrupts import StopRequest
from cifar_jax.training.loop import Hook, Moment

# Limits on the steps and the approximate duration of a device call, which cannot be
# interrupted, so that Ctrl-C does not have to wait.
MAX_STEPS_PER_CALL = 100
_SECONDS_PER_CALL = 2.0


class Signals(Hook):
    """Stops all processes of a run if any of them has received a signal.

    It comes after the hooks that may take long, so that a signal during an evaluation
    ends the run at the same step. Device calls are kept short so that Ctrl-C does not
    have to wait; the main process decides their length.
    """

    def __init__(self, request: StopRequest):
        self._request = request
        self._steps_per_call = MAX_STEPS_PER_CALL
        self._seconds = 0.0

    def due(self, step: int) -> int:
        """Returns the step after as many steps as a call may take."""
        return step + self._steps_per_call

    def __call__(self, now: Moment) -> None:
        """Asks to stop if any process received a signal."""
        of_step = (now.seconds - self._seconds) / (now.step - now.first)
        self._seconds = now.seconds
        affordable = min(int(_SECONDS_PER_CALL / of_step), MAX_STEPS_PER_CALL)
        gathered = processes.all_gather(self._request.signum or 0, max(1, affordable))
        self._steps_per_call = int(gathered[0, 1])
        if signum := int(gathered[:, 0].max()):
            now.stop(signal.Signals(signum))
