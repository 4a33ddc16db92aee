import subprocess
import sys
from importlib import metadata

import pytest

from pipeline import startup


def install(monkeypatch: pytest.MonkeyPatch, **versions: str | None):
    """Make packages look as if they had other versions, or were not there."""
    real = metadata.version

    def version(package: str) -> str:
        found = versions.get(package.replace("-", "_"), real(package))
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(metadata, "version", version)


def test_installed_versions_are_right():
    startup.check_versions()
    assert {pin.package for pin in startup.pins()} == {"apache-tvm", "apache-tvm-ffi", "torch"}


def test_a_newer_ffi_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, apache_tvm_ffi="0.1.15.post2")
    with pytest.raises(startup.WrongVersions) as error:
        startup.check_versions()
    wanted = next(pin.wanted for pin in startup.pins() if pin.package == "apache-tvm-ffi")
    assert str(error.value) == (
        f"wrong versions: apache-tvm-ffi 0.1.15.post2 ({wanted} is wanted); another apache-tvm-ffi ends the "
        f'process while tuning; run: python -m pip install "apache-tvm-ffi=={wanted}"'
    )


def test_all_wrong_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, apache_tvm="0.26.0", torch=None)
    with pytest.raises(
        startup.WrongVersions, match=r"apache-tvm 0\.26\.0 .*, torch is not installed"
    ) as error:
        startup.check_versions()
    assert "ends the process" not in str(error.value)
    assert str(error.value).count("==") == 2


@pytest.mark.parametrize(("found", "met"), [("2.13.0+cpu", True), ("2.13.0", True), ("2.13.0.post1", False)])
def test_a_local_label_does_not_matter(found: str, met: bool):
    assert startup.Pin("torch", "2.13.0", found).met is met


def test_only_exact_requirements_are_pins(monkeypatch: pytest.MonkeyPatch):
    requirements = ["numpy>=2.0", "rich == 15.0.0", 'pytest==9.2.0; extra == "test"', "torch>=2,==2.*"]
    monkeypatch.setattr(metadata, "requires", lambda _: requirements)
    assert [(pin.package, pin.wanted) for pin in startup.pins()] == [("rich", "15.0.0")]


def test_deeprebirth_itself_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    with pytest.raises(startup.WrongVersions, match="deeprebirth is not installed in this Python"):
        startup.check_versions()


def test_the_check_does_not_import_tvm():
    code = "import sys, pipeline.startup as s; s.check_versions(); sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
