"""A cluster that cannot build is refused in one line; one that is lost later on is told to all who wait."""

import http.server
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import tvm
from tvm import te

import targets
from tuning.building.cluster import ClusterBuilder
from tuning.errors import TuningError

LIMIT = 240


class Cluster:
    """A scheduler and workers, each a process of its own on loopback."""

    def __init__(self, folder: Path, *options: str, protocol: str = "tcp") -> None:
        self._options = options
        self._folder = folder
        self._processes: dict[str, subprocess.Popen] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"{protocol}://127.0.0.1:{port}"
        self._start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--protocol", protocol)
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                assert self._processes["scheduler"].poll() is None

    def add_worker(self, **environment: str) -> None:
        options = ["--host", "127.0.0.1", "--no-nanny", "--nthreads", "2"]
        self._start("worker", self.address, *options, **environment)

    def kill(self, which: str) -> None:
        self._processes[which].kill()
        self._processes[which].wait(60)

    def close(self) -> None:
        for which in self._processes:
            self.kill(which)

    def _start(self, which: str, *options: str, **environment: str) -> None:
        self._processes[which] = subprocess.Popen(
            [sys.executable, "-m", "dask", which, *options, *self._options, "--no-dashboard"],
            cwd=self._folder,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    yield started
    started.close()


@pytest.fixture
def stuck(tmp_path: Path, host: targets.TargetInfo) -> targets.TargetInfo:
    """The host with a compiler that never ends."""
    compiler = tmp_path / "stuck"
    compiler.write_text("#!/bin/sh\nexec sleep 600\n", encoding="ascii")
    compiler.chmod(0o755)
    return replace(host, compiler=str(compiler))


def doubling() -> tvm.IRModule:
    """Return a function that doubles 64 numbers."""
    values = te.placeholder((64,), name="values")
    result = te.compute((64,), lambda i: values[i] * 2, name="result")
    return tvm.IRModule({"main": te.create_prim_func([values, result])})


def refusal(address: str, target: targets.TargetInfo, connect_seconds: float = LIMIT) -> str:
    """Return why a cluster is refused; one line."""
    with pytest.raises(TuningError) as refused:
        ClusterBuilder(address, target, connect_seconds=connect_seconds)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_scheduler_that_is_not_there_is_told(host: targets.TargetInfo) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        told = refusal(address, host, connect_seconds=1)
    assert told.startswith(f"no Dask scheduler answers at {address} (")
    assert "start one with `dask scheduler`" in told


def test_a_port_that_accepts_and_says_nothing_is_told(host: targets.TargetInfo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        assert refusal(address, host, connect_seconds=1).startswith(f"no Dask scheduler answers at {address}")


def test_another_service_is_told(host: targets.TargetInfo) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{service.server_address[1]}"
        assert refusal(address, host, connect_seconds=1).startswith(f"no Dask scheduler answers at {address}")
        service.shutdown()


def test_a_host_that_has_no_address_is_told(host: targets.TargetInfo) -> None:
    address = "tcp://nowhere.invalid:8786"
    assert refusal(address, host, connect_seconds=1).startswith(f"no Dask scheduler answers at {address}")


def test_a_missing_package_is_told(host: targets.TargetInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "run python -m pip install distributed" in refusal("tcp://127.0.0.1:1", host)


def test_a_cluster_without_workers_is_told(cluster: Cluster, host: targets.TargetInfo) -> None:
    told = refusal(cluster.address, host, connect_seconds=3)
    assert told == (
        f"the Dask cluster at {cluster.address} has no workers: "
        f"start some with `dask worker {cluster.address}`"
    )


def test_a_worker_of_another_version_is_told(
    cluster: Cluster, host: targets.TargetInfo, tmp_path: Path
) -> None:
    record = tmp_path / "apache_tvm-0.25.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Name: apache-tvm\nVersion: 0.25.0\n", encoding="ascii")
    cluster.add_worker(PYTHONPATH=str(tmp_path))
    told = refusal(cluster.address, host)
    assert "has apache-tvm 0.25.0: install apache-tvm 0." in told


def test_losing_all_workers_and_then_the_scheduler_is_told(
    cluster: Cluster, stuck: targets.TargetInfo
) -> None:
    cluster.add_worker()
    builder = ClusterBuilder(
        cluster.address, stuck, seconds=LIMIT, connect_seconds=LIMIT, patience_seconds=LIMIT
    )
    impatient = ClusterBuilder(
        cluster.address, stuck, seconds=LIMIT, connect_seconds=LIMIT, patience_seconds=3
    )
    waiting, given_up = builder.submit(doubling()), impatient.submit(doubling())
    cluster.kill("worker")
    assert "has no workers left" in str(given_up.exception(LIMIT))
    assert "has no workers left" in str(impatient.submit(doubling()).exception(LIMIT))
    assert not waiting.done()
    cluster.kill("scheduler")
    assert f"lost the Dask scheduler {cluster.address}" in str(waiting.exception(LIMIT))
    assert isinstance(builder.submit(doubling()).exception(LIMIT), TuningError)
    builder.close()
    impatient.close()


def test_a_cluster_is_reached_over_tls(tmp_path: Path, host: targets.TargetInfo) -> None:
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cluster"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    options = ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    cluster = Cluster(tmp_path, *options, protocol="tls")
    cluster.add_worker()
    names = {"ca-file": certificate, "client.cert": certificate, "client.key": key}
    try:
        assert refusal(cluster.address, host, connect_seconds=2).startswith(
            "no Dask scheduler answers at tls"
        )
        with dask.config.set({f"distributed.comm.tls.{name}": path for name, path in names.items()}):
            builder = ClusterBuilder(cluster.address, host, connect_seconds=LIMIT)
        built = builder.submit(doubling()).result(LIMIT)
        library = tvm.runtime.load_module(str(built.path))
        values = tvm.runtime.tensor(np.arange(64, dtype="float32"))
        result = tvm.runtime.tensor(np.zeros(64, dtype="float32"))
        library["main"](values, result)
        np.testing.assert_array_equal(result.numpy(), 2 * np.arange(64))
        builder.close()
    finally:
        cluster.close()
