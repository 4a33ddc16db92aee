import sys

import pytest

from pipeline.data.user_code import find_function, is_reference
from pipeline.errors import UserError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a module, as the current one; modules and the search path are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize("text", ["a:b", "a.b:c", "päckchen.x1:f_2", "a:B.c"])
def test_references(text):
    assert is_reference(text)


@pytest.mark.parametrize(
    "text", ["a", "a:", ":b", "a:b:c", "/data/a:b", "C:\\data", "a b:c", "1a:b", "a..b:c"]
)
def test_other_texts(text):
    assert not is_reference(text)


def test_a_module_of_the_current_directory(here):
    (here / "mine_here.py").write_text("class Kept:\n    @staticmethod\n    def seven(): return 7\n")
    assert find_function("mine_here:Kept.seven")() == 7


@pytest.mark.parametrize(
    ("code", "reference", "reason"),
    [
        (None, "nowhere_at_all:f", "there is no module nowhere_at_all in"),
        (None, "os.nothing:f", "there is no module os.nothing"),
        ("", "mine_bad:f", "there is no f in mine_bad"),
        ("f = 3", "mine_bad:f", "mine_bad:f is a int, not a function"),
        ("1 / 0", "mine_bad:f", "importing mine_bad failed: ZeroDivisionError: division by zero"),
        ("import nowhere_at_all", "mine_bad:f", "importing mine_bad failed: ModuleNotFoundError: No module"),
        ("def f(:", "mine_bad:f", "importing mine_bad failed: SyntaxError"),
        ("raise SystemExit(3)", "mine_bad:f", "importing mine_bad failed: SystemExit: 3"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(here, code, reference, reason):
    if code is not None:
        (here / "mine_bad.py").write_text(code)
    with pytest.raises(UserError) as caught:
        find_function(reference)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
