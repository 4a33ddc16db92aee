"""What is known of each device of a pool: whether it is there, what it does, and how fast it was at first."""

import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tuning.measuring.measured import Measured
from tuning.measuring.throttling import Finding, Level, Pace, after_check, is_due, rest_seconds
from tuning.measuring.visit import Check, Sample
from tuning.progress import DeviceProgress, DeviceStatus

_LONGEST_REFERENCE = 0.25


@dataclass
class _Device:
    there: bool = True
    trials: int = 0
    failed: int = 0
    level: Level | None = None
    reference: Sample | None = None

    def status(self, busy: bool) -> DeviceStatus:
        if not self.there:
            return "gone"
        if self.level is not None and self.level.hot:
            return "cooling down"
        return "measuring" if busy else "free"


class Roster:
    """The devices of a pool by address; not for several threads at once.

    Parameters
    ----------
    folder : Path
        Keeps the libraries of the devices' references.
    pace : Pace
        When they are measured again.
    """

    def __init__(self, folder: Path, pace: Pace) -> None:
        self._folder = folder
        self._pace = pace
        self._devices: dict[str, _Device] = {}

    @property
    def count(self) -> int:
        """Devices that are there."""
        return sum(device.there for device in self._devices.values())

    def progress(self, busy: Collection[str]) -> tuple[DeviceProgress, ...]:
        """Return what the devices do, in the order they were seen first; the ``busy`` ones are visited."""
        return tuple(
            DeviceProgress(
                address=address, status=each.status(address in busy), trials=each.trials, failed=each.failed
            )
            for address, each in self._devices.items()
        )

    def seen(self, addresses: Iterable[str]) -> list[str]:
        """Take in which devices serve the key now; return what the user is to be told."""
        now = set(addresses)
        lines = []
        for address, device in self._devices.items():
            if device.there and address not in now:
                lines.append(f"the device {address} is gone")
            if not device.there and address in now:
                lines.append(f"the device {address} is back")
            device.there = address in now
        for address in sorted(now - self._devices.keys()):
            self._devices[address] = _Device()
        return lines

    def checks(self) -> dict[str, Check]:
        """Return what has to be measured again, by the device's address."""
        now = time.monotonic()
        return {
            address: self._check(device, now)
            for address, device in self._devices.items()
            if device.reference is not None and is_due(device.level, self._pace, now)
        }

    def checked(self, address: str, seconds: float) -> tuple[Finding, str | None]:
        """Take in what the reference took; return what that tells, and a line for the user if it is news."""
        device = self._device(address)
        before = device.level
        device.level, finding = after_check(before, self._pace, seconds, time.monotonic())
        return finding, self._in_words(address, finding, seconds / before.seconds)

    def check_failed(self, address: str) -> None:
        """A device's reference could not be measured again: another candidate becomes its reference."""
        device = self._device(address)
        device.level = device.reference = None

    def measured(self, measured: Measured, sample: Sample) -> None:
        """Count a trial; the first short one of a device becomes its reference."""
        if measured.device is None:
            return
        device = self._device(measured.device)
        device.trials += 1
        device.failed += measured.failure is not None
        if device.level is not None:
            device.level = device.level.after_trial()
        elif measured.seconds and min(measured.seconds) <= _LONGEST_REFERENCE:
            with suppress(OSError):
                device.reference = self._kept(sample)
                device.level = Level(min(measured.seconds), time.monotonic())

    def _device(self, address: str) -> _Device:
        return self._devices.setdefault(address, _Device())

    def _check(self, device: _Device, now: float) -> Check:
        level, pace = device.level, self._pace
        rest = rest_seconds(level, pace, now) if level.hot else None
        allowed = pace.back if level.hot else pace.slower
        return Check(device.reference, allowed * level.seconds, rest)

    def _kept(self, sample: Sample) -> Sample:
        kept = self._folder / f"reference{len(list(self._folder.iterdir()))}.so"
        shutil.copyfile(sample.path, kept)
        return Sample(kept, sample.args_info)

    def _in_words(self, address: str, finding: Finding, times: float) -> str | None:
        more = f"{100 * (times - 1):.0f} %"
        if finding is Finding.THROTTLING:
            patience = f"{self._pace.patience_seconds:g} s"
            return (
                f"the device {address} is throttling: its first candidate takes {more} longer than at first; "
                f"it cools down, for {patience} at most"
            )
        if finding is Finding.COOLED_DOWN:
            return f"the device {address} has cooled down"
        if finding is Finding.NEW_LEVEL:
            return (
                f"the device {address} did not cool down: measuring goes on, "
                f"and its times are {more} longer from now on"
            )
        return None
