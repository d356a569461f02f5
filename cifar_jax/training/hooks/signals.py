"""Ctrl-C and SIGTERM: they end a run after its state is saved."""

import signal

from cifar_jax.devices import processes
from cifar_jax.training.interrupts import StopRequest
from cifar_jax.training.loop import Hook, Moment

# Limits on the steps and the approximate duration of one call of the devices: it cannot
# be interrupted, and Ctrl-C should not have to wait.
MAX_STEPS_PER_CALL = 100
_SECONDS_PER_CALL = 2.0


class Signals(Hook):
    """Stops all processes of a run if any of them has received a signal.

    It comes after the hooks that may take long: a signal that arrives in an evaluation
    ends the run at its step. Calls of the devices are kept short enough for Ctrl-C not
    to wait; the main process decides how long they are.
    """

    def __init__(self, request: StopRequest):
        self._request = request
        self._steps_per_call = MAX_STEPS_PER_CALL
        self._seconds = 0.0

    def due(self, step: int) -> int:
        """After as many steps as a call may take."""
        return step + self._steps_per_call

    def __call__(self, now: Moment) -> None:
        """Asks to stop if there was a signal."""
        of_step = (now.seconds - self._seconds) / (now.step - now.first)
        self._seconds = now.seconds
        affordable = min(int(_SECONDS_PER_CALL / of_step), MAX_STEPS_PER_CALL)
        gathered = processes.all_gather(self._request.signum or 0, max(1, affordable))
        self._steps_per_call = int(gathered[0, 1])
        if signum := int(gathered[:, 0].max()):
            now.stop(signal.Signals(signum))
