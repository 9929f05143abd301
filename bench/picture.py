"""The picture: bars, drawn as SVG by hand, readable on light and on dark paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .table import number

WIDTH = 760
LEFT = 210
RIGHT = 110
LINE = 30
HEAD = 46

_STYLE = """\
text { font: 14px system-ui, sans-serif; fill: #1f2328; }
.head { font-weight: 600; }
.ours { font-weight: 600; }
rect { fill: #8c959f; }
rect.ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  rect { fill: #6e7681; }
  rect.ours { fill: #58a6ff; }
}"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: its title, and a name and a value for each bar."""

    title: str
    bars: Sequence[tuple[str, float]]


def picture(panels: Sequence[Panel], *, ours: str) -> str:
    """Draws all panels, one below the other, and highlights the bar named `ours`."""
    parts: list[str] = []
    top = 0
    for panel in panels:
        parts.append(f'<text class="head" x="12" y="{top + 28}">{escape(panel.title)}</text>')
        longest = max((value for _, value in panel.bars), default=0.0) or 1.0
        for index, (name, value) in enumerate(sorted(panel.bars, key=lambda bar: bar[1])):
            y = top + HEAD + index * LINE
            width = max(value / longest * (WIDTH - LEFT - RIGHT), 1.5)
            kind = ' class="ours"' if name == ours else ""
            parts += [
                f'<text{kind} x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
                f'<rect{kind} x="{LEFT}" y="{y}" width="{width:.1f}" height="20" rx="3"/>',
                f'<text{kind} x="{LEFT + width + 8:.1f}" y="{y + 15}">{number(value)}</text>',
            ]
        top += HEAD + len(panel.bars) * LINE + 12
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    label = escape("; ".join(panel.title for panel in panels), quote=True)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">\n'
        f"<style>\n{_STYLE}\n</style>\n{body}\n</svg>\n"
    )
