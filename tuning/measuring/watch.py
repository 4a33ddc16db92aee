"""Asks the tracker about every second which devices serve a key."""

import threading
from collections.abc import Callable

from tuning.devices import tracker
from tuning.devices.tracker import RpcConfig
from tuning.errors import TuningError

_EVERY_SECONDS = 1.0

Look = Callable[[list[str], str], None]


class Watch:
    """A thread that looks for devices; ``close`` ends it.

    Parameters
    ----------
    config : RpcConfig
        The tracker and the key.
    look : callable
        Called with the addresses of the devices and an empty text; with none and the reason in words if
        there are none or the tracker does not answer. The first call is made before this object is there.
    """

    def __init__(self, config: RpcConfig, look: Look) -> None:
        self._config = config
        self._look = look
        self._over = threading.Event()
        self._ask()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            self._ask()

    def _ask(self) -> None:
        try:
            devices = tracker.devices(self._config)
            addresses = [device.address for device in devices if device.key == self._config.key]
            if not addresses:
                tracker.require_device(self._config)
        except TuningError as error:
            self._look([], str(error))
        else:
            self._look(addresses, "")
