"""Make Markdown and HTML pages from templates.

Texts on a page come from the user's model or files and may hold anything; each kind of page escapes them in
its own way.
"""

import re
from collections.abc import Iterable

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.report.tables import Table, printable

MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$#])")


def render(template: str, **values: object) -> str:
    """Return the page that a template and its values make; a value that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"md": escape_markdown, "md_row": _markdown_row, "md_rule": _markdown_rule}
    return environment.get_template(template).render(values)


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in a paragraph or in the cell of a table."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN_SPECIAL.sub(r"\\\1", text)


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _markdown_rule(table: Table) -> str:
    ends = ("---:" if index in table.numbers else "---" for index, _ in enumerate(table.header))
    return f"| {' | '.join(ends)} |"
