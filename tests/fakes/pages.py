"""What a browser would make of a page, and texts that try to make more of it."""

from __future__ import annotations

from html.parser import HTMLParser

RIGHT_TO_LEFT = "\u202e"
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "<img src=//evil.example/x.png>",
    "javascript:alert(1)",
    "JaVaScRiPt&colon;alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "</style><style>*{background:url(//evil.example)}",
    "]]></style><svg onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "</text></svg><iframe src=//evil.example>",
    '" onmouseover="alert(1)',
    "' style='position:fixed;inset:0",
    "<!--<script>",
    "-->{{ 7 * 7 }}{% raw %}",
    "${7*7}<%= 7*7 %>",
    "&lt;script&gt;&#x3c;b&#x3e;",
    "<a href=javascript:alert(1)>x</a>",
    "<base href=//evil.example><meta http-equiv=refresh content=0>",
    f"{RIGHT_TO_LEFT}evil{RIGHT_TO_LEFT}\u2066\u200b\ufeff",
    "a\x00b\x1b[31m\r\nc\u2028d",
    "../../../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16") * 3,
    "x" * 10_000,
    " ",
)
"""Names and values as somebody writes them into data who wants a reader's browser to do something."""
_RUNNING = {"script", "iframe", "object", "embed", "link", "form", "base", "img", "input", "button", "foreignobject"}


class Page(HTMLParser):
    """All that a page holds: tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        self.styles = ""
        self._styled = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._styled = tag == "style"
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._styled = False

    def handle_data(self, data: str) -> None:
        if self._styled:
            self.styles += data
        else:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    @property
    def addresses(self) -> list[str]:
        return [value for name, value in self.attributes if name in {"href", "src", "xlink:href", "action"}]


def runs_nothing(html: str) -> Page:
    """Claim that a page runs nothing, loads nothing and hides nothing; returns it."""
    page = Page(html)
    assert not _RUNNING & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"style", "src"}]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert "url(" not in page.styles
    assert "@import" not in page.styles
    assert not [char for char in (RIGHT_TO_LEFT, "\u2066", "\u200b", "\x00", "\x1b", "\u2028") if char in html]
    assert "x" * 1_000 not in html
    return page
