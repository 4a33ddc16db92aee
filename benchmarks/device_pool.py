"""How fast a pool of devices measures: 1, 2, 4 and 8 device servers, whose candidates sleep a fixed time.

Sleeping needs no processor, so that a few cores can serve all devices: what is measured is what the tuner
adds. Prints JSON: ``rate`` is candidates a second by number of devices, ``efficiency`` the rate over that of
one device times their number, ``overhead_ms`` what a candidate takes on one device beyond its sleeping.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir.meta_schedule.arg_info import TensorInfo

import targets
import tuning
from tuning.measuring.limits import Limits
from tuning.measuring.runner import Runner

POOLS = (1, 2, 4, 8)
RUNS = 3 + 2
SOURCE = """
#include <unistd.h>
extern "C" int __tvm_ffi_main(void *, const void *, int, void *) {{ usleep({microseconds}); return 0; }}
"""
ARGS_INFO = [TensorInfo("float32", (1, 64, 56, 56)), TensorInfo("float32", (64, 64, 3, 3))]
LIMITS = Limits(spread=1.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sleep-ms", type=float, default=200.0, help="sleep of one run (default: 200)")
    parser.add_argument("--candidates", type=int, default=8, help="candidates a device (default: 8)")
    options = parser.parse_args()
    host = targets.find("host")
    with tempfile.TemporaryDirectory() as folder:
        library = _library(Path(folder), host, options.sleep_ms)
        rates = {devices: _rate(host, library, devices, options.candidates) for devices in POOLS}
    print(json.dumps(_summary(host, rates, options.sleep_ms), indent=2))


def _library(folder: Path, host: targets.TargetInfo, sleep_ms: float) -> Path:
    source, library = folder / "candidate.cc", folder / "candidate.so"
    source.write_text(SOURCE.format(microseconds=round(1e3 * sleep_ms)), encoding="ascii")
    subprocess.run([host.require_compiler(), "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def _rate(host: targets.TargetInfo, library: Path, devices: int, candidates: int) -> float:
    """Return candidates a second, after a first one on each device."""
    with (
        tuning.LocalSession(host, threads=1, devices=devices, shares_machine=False) as session,
        Runner(session.rpc_config, limits=LIMITS) as runner,
    ):
        _measure(runner, library, devices)
        started = time.perf_counter()
        _measure(runner, library, devices * candidates)
        return devices * candidates / (time.perf_counter() - started)


def _measure(runner: Runner, library: Path, count: int) -> None:
    for future in [runner.submit(library, ARGS_INFO) for _ in range(count)]:
        failure = future.result().failure
        if failure is not None:
            raise SystemExit(f"a candidate failed: {failure}")


def _summary(host: targets.TargetInfo, rates: dict[int, float], sleep_ms: float) -> dict[str, Any]:
    return {
        "efficiency": {str(number): round(rate / (number * rates[1]), 3) for number, rate in rates.items()},
        "rate": {str(number): round(rate, 3) for number, rate in rates.items()},
        "unit": "candidates a second",
        "overhead_ms": round(1e3 / rates[1] - RUNS * sleep_ms, 1),
        "sleep_ms": sleep_ms,
        "runs_of_a_candidate": RUNS,
        "measured_on": f"{host.measured_on()}, all servers on it",
        "tvm": tvm.__version__,
    }


if __name__ == "__main__":
    main()
