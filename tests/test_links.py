"""Links of the README and the documentation lead somewhere, and every page is in the site's contents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "api" not in page.relative_to(DOCS).parts),
]
FENCE = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub and the site give to the headings of a page."""
    slugs: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        repeats = sum(slug == re.sub(r"-\d+$", "", other) for other in slugs)
        slugs.add(f"{slug}-{repeats}" if slug in slugs else slug)
    return slugs


def broken(page: Path) -> list[str]:
    """Relative links of a page that point to no file of the repository, or to no heading of it."""
    links = []
    for link in LINK.findall(CODE.sub("", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.is_relative_to(ROOT) or not file.exists() or (anchor and anchor not in anchors(file)):
            links.append(link)
    return links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    assert not broken(page)


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# A title, with `code` & more\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](there.md#a-title-with-code--more) [c](there.md#twice-1) [d](https://example.org/x) `[e](none.md)`\n"
        "```\n[f](none.md)\n```\n"
    )
    assert not broken(page)
    page.write_text("![a](gone.png) [b](there.md#twice-2) [c](#nothing) [d](../outside.md)\n")
    assert broken(page) == ["gone.png", "there.md#twice-2", "#nothing", "../outside.md"]


def test_every_page_is_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text()
    contents = "".join(re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL))
    listed = set(re.findall(r"^(?:.+ <)?([\w/-]+)>?$", contents, re.MULTILINE))
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if page.is_relative_to(DOCS)} - {"index"}
    assert pages <= listed, "add the page to a toctree of docs/index.md"
