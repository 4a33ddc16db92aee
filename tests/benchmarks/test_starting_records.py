"""Starting records of databases that hold none."""

from pathlib import Path

import pytest
import starting_records

import targets


def test_nothing_is_written_in_place_of_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        starting_records.write(targets.find("host"), [tmp_path / "none"], tmp_path)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"no right records in {tmp_path / 'none'}: tune first\n"
    assert not list(tmp_path.glob("*.xz"))
