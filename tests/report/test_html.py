"""The page: self-contained, escaped, and readable in a real browser on a wide and on a narrow screen."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from traincheck.errors import UserError
from traincheck.findings import CheckResult
from traincheck.report.html import render, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=1000",
)


class Page(HTMLParser):
    """Every element and every attribute of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


@pytest.mark.parametrize("name", ["bad", "clean", "unchecked", "hostile"])
def test_the_page_runs_nothing_and_loads_nothing(name: str, request: pytest.FixtureRequest) -> None:
    page = Page(render(request.getfixturevalue(name)))

    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not {"src", "href", "action", "style"} & {attribute for attribute, _ in page.attributes}
    assert not any(attribute.startswith("on") for attribute, _ in page.attributes)


def test_names_from_files_are_escaped(hostile: CheckResult) -> None:
    text = render(hostile)

    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "{{ 7*7 }}" in text


def test_the_page_tells_what_the_text_tells(bad: CheckResult) -> None:
    text = render(bad)

    for told in ("2 findings, the first at step 3", "How to fix UPD000.", "and 12 more", "The pack does not fit."):
        assert told in text
    assert 8 == len(re.findall(r'<td class="id mono">', text))


def test_the_page_is_written_into_a_new_directory(tmp_path: Path, clean: CheckResult) -> None:
    path = write_report(clean, tmp_path / "new" / "report")

    assert tmp_path / "new" / "report" / "index.html" == path
    assert render(clean) == path.read_text(encoding="utf-8")


def test_a_file_in_the_place_of_the_directory_is_told(tmp_path: Path, clean: CheckResult) -> None:
    (tmp_path / "report").touch()

    with pytest.raises(UserError, match="cannot be used for the report"):
        write_report(clean, tmp_path / "report")


# The script that measures is the test's own: the page's policy forbids any, so it goes into a copy without the policy.
MEASURE = """<script>addEventListener("load", () => document.documentElement.setAttribute(
  "data-overflow", document.documentElement.scrollWidth - document.documentElement.clientWidth))</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("name", ["bad", "hostile"])
@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_sticks_out_in_a_real_browser(
    tmp_path: Path, name: str, width: int, request: pytest.FixtureRequest
) -> None:
    text = re.sub(r"<meta http-equiv[^>]*>", MEASURE, render(request.getfixturevalue(name)))
    page = tmp_path / "page.html"
    page.write_text(text, encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]

    dom = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=60
    ).stdout

    assert ["0"] == re.findall(r'data-overflow="(-?\d+)"', dom)
