"""Where code is measured: devices behind a tracker, or servers on this machine that we start ourselves."""

import os
import socket
import sys
from pathlib import Path
from typing import Protocol, Self

from targets import TargetInfo, fitting, missing_features
from targets.runtime.opencl import DEVICE_VARIABLE
from tuning.devices import opencl, tracker
from tuning.devices.facts import DeviceFacts
from tuning.devices.listening import LOOPBACK, is_loopback, listen
from tuning.devices.opencl import OpenClDevice
from tuning.devices.supervisor import Program, Supervisor
from tuning.devices.tracker import Lease, RpcConfig
from tuning.errors import Mistake, TuningError

_START_SECONDS = 60.0
_PROGRAM = str(Path(__file__).with_name("serve.py"))
_ASK_SECONDS = 60.0


class Session(Protocol):
    """Devices that can be asked for through a tracker, and the number of threads their code runs on.

    ``shares_machine`` tells whether they are the machine that also searches and builds, so that nothing else
    may run while they measure. ``facts`` is what they say of themselves, None if they say nothing. ``opencl``
    is their OpenCL device; None unless that is what code runs on.
    """

    rpc_config: RpcConfig
    threads: int
    shares_machine: bool
    facts: DeviceFacts | None
    opencl: OpenClDevice | None

    def measured_on(self, target: TargetInfo) -> str:
        """Return the device in words."""
        ...

    def emulated(self, target: TargetInfo) -> bool:
        """Tell whether something else stands in for the target's device, so that its times say nothing."""
        ...


class _Described:
    """What a device says of itself goes before what the target's table says of such devices."""

    facts: DeviceFacts | None = None
    opencl: OpenClDevice | None = None

    def measured_on(self, target: TargetInfo) -> str:
        """Return the device in words; a GPU in whose place another device ran is named too."""
        if target.gpu is not None and self.opencl is not None:
            instead = "" if self.opencl.is_of_kind(target.gpu) else f" in place of {target.gpu.description}"
            return f"{self.opencl.in_words()}{instead}"
        return target.measured_on() if self.facts is None else self.facts.in_words()

    def emulated(self, target: TargetInfo) -> bool:
        """Tell whether something else stands in for the target's device, so that its times say nothing.

        That is an emulator of its instructions, or an OpenCL device of another family than the target's GPU.
        """
        if target.gpu is not None and self.opencl is not None and not self.opencl.is_of_kind(target.gpu):
            return True
        return target.emulated or (self.facts is not None and self.facts.emulated)


class RemoteSession(_Described):
    """Devices that serve a key of a tracker somewhere.

    Parameters
    ----------
    host, port, key
        The tracker's address and the devices' key.
    threads : int, optional
        Cores that the devices' servers were told to use; by default a device is asked.
    shares_machine : bool, optional
        Whether the devices are this machine; by default, whether the tracker's address is a loopback address.
    target : TargetInfo, optional
        What code is built for: its GPU is looked for, and its instructions.

    Attributes
    ----------
    facts : DeviceFacts or None
        What a device says of itself; None if it does not know.
    opencl : OpenClDevice or None
        The GPU of a device.

    Raises
    ------
    Mistake
        On entering, if the tracker does not answer, no device serves the key (names the keys there are), it
        has no GPU that code can run on, or not all instructions of the target.
    TuningError
        On entering, if the number of threads is not known.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str,
        threads: int | None = None,
        shares_machine: bool | None = None,
        target: TargetInfo | None = None,
    ) -> None:
        self.rpc_config = RpcConfig(host, port, key)
        self.threads = threads or 0
        self._target = target
        self.shares_machine = is_loopback(host) if shares_machine is None else shares_machine

    def __enter__(self) -> Self:
        try:
            tracker.require_device(self.rpc_config)
        except tracker.DeviceAway as error:
            raise Mistake(str(error)) from None
        self._ask()
        if self._on_gpu:
            self.opencl = opencl.require_behind(self.rpc_config)
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    @property
    def _on_gpu(self) -> bool:
        return self._target is not None and self._target.gpu is not None

    def _ask(self) -> None:
        lease = tracker.request(self.rpc_config, _ASK_SECONDS, _ASK_SECONDS)
        self.facts = tracker.device_facts(lease)
        if self._target is not None:
            _require_features(self._target, lease)
        if self.threads:
            return
        if self.facts is None and self._on_gpu:
            self.threads = 1
            return
        if self.facts is None:
            raise TuningError(
                f"the device {lease.address} does not say how many threads it runs code on: give the number"
            )
        self.threads = self.facts.threads


def _require_features(target: TargetInfo, lease: Lease) -> None:
    """Insist that a device that says what it has can run the target's code."""
    traits = tracker.device_traits(lease)
    missing = () if traits is None else missing_features(target, traits)
    if missing:
        name = fitting(traits)
        advice = "--target auto finds what it is" if name is None else f"use target {name}"
        raise Mistake(
            f"the device {lease.address} has no {' and no '.join(missing)}, which code for {target.name} may "
            f"use: {advice}"
        )


class LocalSession(_Described):
    """A tracker and RPC servers on this machine, which live as long as the ``with`` block.

    All are child processes in sessions of their own: the terminal's Ctrl-C does not reach them, and they end,
    with everything they started, when the block is left or this process is gone in whatever way. One that
    dies is started again, on the same port.

    Parameters
    ----------
    target : TargetInfo
        What the servers run; its number of threads is the default.
    threads : int, optional
        Cores that measured code uses.
    key : str
        The key the servers register.
    devices : int
        How many servers there are.
    shares_machine : bool
        False lets searching and building go on while the servers measure: for code that does not compute.
    tracker_port : int, optional
        The tracker's port; by default a free one.
    opencl_device : str, optional
        The OpenCL device that the servers use, where there are several: its number, or a part of its name or
        of its platform's.

    Raises
    ------
    Mistake
        On entering, if the target is a GPU and there is no OpenCL device, or none of that name.
    TuningError
        On entering, if they do not start in time or the port is in use; later, on asking for ``rpc_config``,
        if they end again and again.
    """

    def __init__(
        self,
        target: TargetInfo,
        threads: int | None = None,
        key: str = "local",
        devices: int = 1,
        shares_machine: bool = True,
        tracker_port: int | None = None,
        opencl_device: str | None = None,
    ) -> None:
        self.threads = threads or target.threads
        self._gpu = target.gpu is not None
        self._opencl_device = opencl_device
        self.shares_machine = shares_machine
        self._key = key
        self._devices = devices
        self._tracker_port = tracker_port
        self._listeners: list[socket.socket] = []
        self._supervisor: Supervisor | None = None

    @property
    def rpc_config(self) -> RpcConfig:
        """The tracker's address and the servers' key."""
        if self._supervisor is not None:
            self._supervisor.check()
        return self._config

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes: the tracker's first, then the servers'."""
        return () if self._supervisor is None else self._supervisor.process_ids

    def __enter__(self) -> Self:
        try:
            self._listeners = [listen(LOOPBACK, self._tracker_port)]
            self._listeners += [listen(LOOPBACK) for _ in range(self._devices)]
            port = self._listeners[0].getsockname()[1]
            self._config = RpcConfig(LOOPBACK, port, self._key)
            self._supervisor = Supervisor(self._programs(str(port)))
            self._wait()
            if self._gpu:
                self.opencl = opencl.require_behind(self._config)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the servers and the tracker and everything they started."""
        if self._supervisor is not None:
            self._supervisor.close()
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _wait(self) -> None:
        try:
            tracker.wait_for_device(self._config, _START_SECONDS, self._devices)
        except TuningError as error:
            self._supervisor.check()
            raise TuningError(f"the local RPC servers did not start in time: {error}") from None

    def _programs(self, port: str) -> list[Program]:
        words = [("tracker",), *[("server", LOOPBACK, port, self._key)] * self._devices]
        environment = os.environ | {"TVM_NUM_THREADS": str(self.threads), "TVM_BIND_THREADS": "0"}
        if self._opencl_device is not None:
            environment |= {DEVICE_VARIABLE: self._opencl_device}
        return [
            Program(
                command=(sys.executable, "-P", _PROGRAM, role, str(listener.fileno()), *rest),
                environment=environment,
                descriptors=(listener.fileno(),),
            )
            for listener, (role, *rest) in zip(self._listeners, words, strict=True)
        ]
