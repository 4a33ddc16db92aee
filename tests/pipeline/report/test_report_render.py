import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.report.chart import accuracy_chart, chart
from pipeline.report.model import Accuracy, Report
from pipeline.report.pages import escape_markdown
from pipeline.report.render import html, markdown, write_report

HOSTILE = "<script>alert(1)</script>|`x`\n## [a](b) {{ 7*7 }} \x1b[31m"


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list):
        self.tags.append(tag)

    def handle_data(self, data: str):
        self.text += data


@pytest.fixture
def hostile(facts: dict) -> Report:
    refusal = facts["refusals"][0].model_copy(
        update=dict.fromkeys(("name", "kind", "reason", "detail"), HOSTILE) | {"layers": (HOSTILE,)}
    )
    device = facts["device"].model_copy(update={"measured_on": HOSTILE})
    named = {
        "model": facts["model"].model_copy(update={"name": HOSTILE}),
        "target": facts["target"].model_copy(update={"name": HOSTILE}),
        "merges": (facts["merges"][0].model_copy(update={"name": HOSTILE}),),
    }
    return Report(
        **facts
        | named
        | {"device": device, "refusals": (refusal,), "notices": (HOSTILE,), "speedup_note": HOSTILE}
    )


def test_written_report_reads_back(report: Report, tmp_path: Path):
    directory = tmp_path / "Ergebnis für Zoë"
    directory.mkdir()
    files = write_report(report, directory)
    assert [file.name for file in files] == ["report.json", "report.md", "report.html"]
    assert sorted(each.name for each in directory.iterdir()) == sorted(file.name for file in files)
    assert Report.model_validate_json(files[0].read_text(encoding="utf-8")) == report


def test_nowhere_to_write(report: Report, tmp_path: Path):
    with pytest.raises(UserError, match="cannot write to"):
        write_report(report, tmp_path / "missing")


def test_html_escapes_names(hostile: Report):
    page = Page(html(hostile))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>|`x` ## [a](b) {{ 7*7 }}" in page.text
    assert "\x1b" not in page.text


def test_html_needs_nothing_beside_it(report: Report):
    text = html(report)
    assert {"svg", "table", "meta"} <= set(Page(text).tags)
    for outside in ("<link", "<img", "src=", "@import"):
        assert outside not in text


def test_markdown_escapes_names(hostile: Report, report: Report):
    text, plain = markdown(hostile), markdown(report)
    assert "<script" not in text
    assert text.count("\n#") == plain.count("\n#")
    assert pipes(text) == pipes(plain)


def pipes(page: str) -> list[int]:
    """The number of cell borders in each row of each table."""
    rows = [line for line in page.splitlines() if line.startswith("|")]
    return [row.replace(r"\|", "").count("|") for row in rows]


def test_escape_markdown():
    assert escape_markdown("a|b`c\nd<e>_f_\\") == r"a\|b\`c d&lt;e&gt;\_f\_" + "\\\\"


def test_pages_show_notices_and_missing_accuracy(structure_only: Report):
    for page in (markdown(structure_only), Page(html(structure_only)).text):
        assert "reborn layers not trained: for timing only" in page
        assert "Note that accuracy was not measured" in page
        assert "2.50x the speed of the original" in page


def test_pages_of_an_emulated_device_claim_nothing(emulated: Report):
    for page in (markdown(emulated), Page(html(emulated)).text):
        assert "No speed-up is claimed" in page
        assert "Latency, median, emulated" in page


def test_a_report_without_merges(facts: dict):
    page = markdown(Report(**facts | {"merges": (), "refusals": ()}))
    assert "## Merges made\n\nNone.\n" in page


def test_pages_show_accuracy_step_by_step(retrained: Report):
    page = Page(html(retrained))
    assert page.tags.count("svg") == 2
    for text in (markdown(retrained), page.text):
        assert "0.25 points less" in text
        assert "undone: lost 3.5 points after 2 epochs" in text
        assert "accuracy was not measured" not in text
        assert "timing only" not in text


def test_accuracy_chart_marks_what_was_undone(accuracy: Accuracy):
    text = " ".join(ET.fromstring(accuracy_chart(accuracy)).itertext())
    for shown in ("top-1 after each step", "original", "conv1", "inception_3a", "91.25", "91.00", "87.50"):
        assert shown in text


def test_accuracy_chart_takes_any_name(accuracy: Accuracy):
    steps = tuple(
        each.model_copy(update={"name": HOSTILE + "$\\frac{" + "y" * 99}) for each in accuracy.steps
    )
    strange = accuracy.model_copy(update={"steps": steps, "metric": "a$b$:" + HOSTILE})
    root = ET.fromstring(accuracy_chart(strange))
    assert "script" not in {each.tag.rpartition("}")[2] for each in root.iter()}
    assert "<script>alert(1)" in " ".join(root.itertext())


def test_chart_is_one_svg_element(report: Report, emulated: Report):
    root = ET.fromstring(chart(report))
    assert root.tag.endswith("svg")
    text = " ".join(root.itertext())
    assert "20 ms" in text
    assert "590 M" in text
    assert "emulated" not in text
    assert "Latency, emulated" in " ".join(ET.fromstring(chart(emulated)).itertext())
    assert chart(report) == chart(report)
