"""Line charts, one below the other, as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["Panel", "draw"]

_WIDTH, _HEIGHT = 760, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 34, 26
_COLOURS = ("#0b6e99", "#c2571a")


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: what is measured, with its unit.
        series: name to points; the vertical axis begins at zero.
    """

    title: str
    series: dict[str, list[tuple[float, float]]]


def draw(title: str, panels: list[Panel]) -> str:
    """The charts under one title; all have the same horizontal axis."""
    total = 40 + len(panels) * (_HEIGHT + _TOP + _BOTTOM)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {total}" '
            f'width="{_WIDTH}" height="{total}" font-family="sans-serif" font-size="12" role="img">'
        ),
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="26" font-size="16" fill="#222222">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, 40 + number * (_HEIGHT + _TOP + _BOTTOM))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: float) -> list[str]:
    points = [point for series in panel.series.values() for point in series]
    right = max((x for x, _ in points), default=1.0)
    step = _nice(max((y for _, y in points), default=1.0) / 4)
    ceiling = step * math.ceil(max((y for _, y in points), default=1.0) / step or 1)
    width, base = _WIDTH - _LEFT - _RIGHT, top + _TOP + _HEIGHT

    def place(x: float, y: float) -> str:
        return f"{_LEFT + x / right * width:.1f},{base - y / ceiling * _HEIGHT:.1f}"

    parts = [f'<text x="{_LEFT}" y="{top + 16}" fill="#222222">{escape(panel.title)}</text>']
    value = 0.0
    while value <= ceiling + step / 2:
        y = base - value / ceiling * _HEIGHT
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555555">'
            f"{value:,.10g}</text>"
        )
        value += step
    for part in range(5):
        x = _LEFT + width * part / 4
        parts.append(
            f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle" fill="#555555">'
            f"{right * part / 4:,.0f}</text>"
        )
    for (name, series), colour, number in zip(panel.series.items(), _COLOURS, (0, 1), strict=False):
        line = " ".join(place(x, y) for x, y in series)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            f'<text x="{_WIDTH - _RIGHT - 180 * number}" y="{top + 16}" text-anchor="end" '
            f'fill="{colour}">{escape(name)}</text>'
        )
    return parts


def _nice(value: float) -> float:
    """The next larger of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= value)
