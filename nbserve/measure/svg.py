"""Axes and shapes of a plot as SVG text: no library, no state. Called by `plots.py` only.

An image does not see the colours of the page that it is on, so text and lines are of one grey that reads on white and
on #111 (4.3:1 on either); `report.py` turns the image's brightness up or down where it knows the page's theme. The
other colours are of Okabe and Ito's palette, told apart with any colour vision; no meaning is in colour alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "BLUE",
    "BOTTOM",
    "CHARACTER",
    "GREY",
    "LEFT",
    "RIGHT",
    "TOP",
    "VERMILLION",
    "WIDTH",
    "Axis",
    "Point",
    "cross",
    "dashed",
    "dot",
    "escape",
    "frame",
    "labelled",
    "legend",
    "line",
    "linear",
    "logarithmic",
    "solid",
    "square",
    "text",
]

GREY = "#797979"
BLUE = "#0072b2"
VERMILLION = "#d55e00"
"""Of Okabe and Ito's palette these two keep 3:1 on white and on #111 (WCAG 2.1, 1.4.11) and differ in lightness too."""

WIDTH = 370
"""Pixels. Two stand side by side in JupyterLab beside its side bar."""
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 24, 36
"""Pixels between the edge of an image and the plot itself."""
CHARACTER = 7.6
"""Width of a digit at 12 px in DejaVu Sans, the widest of the common fonts: for placing labels."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A scale: values from `low` to `high` at pixels from `start` to `end`; ticks are (value, label)."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def linear(most: float, start: float, end: float, *, ticks: int = 4, exact: bool = False) -> Axis:
    """From 0 to a round number over `most` (or to `most` itself), with about so many ticks at 1, 2 or 5 x 10^n."""
    most = most if most > 0 and math.isfinite(most) else 1.0
    power = 10 ** math.floor(math.log10(most / ticks))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if most / step <= ticks)
    high = most if exact else math.ceil(most / step - 1e-9) * step
    return Axis(0.0, high, start, end, [(n * step, _tick(n * step)) for n in range(int(high / step + 1e-9) + 1)])


def logarithmic(least: float, most: float, start: float, end: float) -> Axis:
    """Linear from 0 where the values are within a factor of 10, else in powers of ten with 2 and 5 between."""
    if least <= 0 or most / least < 10:
        return linear(most, start, end)
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    steps = (1,) if high - low > 2 else (1, 2, 5)
    all_ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    first = max((tick for tick in all_ticks if tick <= least), default=all_ticks[0])
    last = min((tick for tick in all_ticks if tick >= most), default=all_ticks[-1])
    ticks = [(tick, _tick(tick)) for tick in all_ticks if first <= tick <= last]
    return Axis(first, last, start, end, ticks, log=True)


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


def frame(x: Axis, y: Axis, height: int, y_name: str, x_name: str) -> Iterable[str]:
    """Grid lines with the ticks' labels; the axes' names stand on top and below. A label without room is left out."""
    for value, label in y.ticks:
        at = y.at(value)
        opacity = 0.9 if value == y.low else 0.25
        yield f'<path d="M{x.start} {at:.1f}H{x.end}" stroke="{GREY}" stroke-opacity="{opacity}"/>'
        yield text(x.start - 6, at + 4, label, "end")
    yield text(4, y.end - 10, y_name)
    taken = -math.inf
    for value, label in x.ticks:
        at, half = x.at(value), len(label) * CHARACTER / 2
        yield f'<path d="M{at:.1f} {y.start}v4" stroke="{GREY}"/>'
        if at - half > taken:
            yield text(min(at, WIDTH - half - 1), y.start + 17, label, "middle")
            taken = at + half + 4
    if x_name:
        yield text((x.start + x.end) / 2, height - 4, x_name, "middle")


def labelled(marks: Sequence[tuple[float, float, str]]) -> Iterable[str]:
    """Dots with labels at their upper left, last ones first; a label that would touch another one is left out."""
    taken: list[tuple[float, float]] = []
    for px, py, label in reversed(marks):
        yield dot(px, py, BLUE, BLUE)
        left = px - 6 - len(label) * CHARACTER
        if left > LEFT and all(px - 6 < start or abs(py - at) > 14 for start, at in taken):
            taken.append((left, py))
            yield text(px - 6, max(py - 5, 12), label, "end")


def legend(entries: Sequence[tuple[str, Callable[[float, float, str, str], str], str]]) -> Iterable[str]:
    """Each entry's shape and name, at the upper right."""
    px = float(WIDTH - RIGHT)
    for label, shape, colour in reversed(entries):
        px -= len(label) * CHARACTER
        yield text(px, 14, label)
        px -= 10
        yield shape(px, 10, colour, colour)
        px -= 24


def line(points: Iterable[Point], style: str) -> str:
    """A line through these points."""
    joined = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    return f'<polyline points="{joined}" stroke-linejoin="round" {style}/>'


def dot(px: float, py: float, stroke: str, fill: str) -> str:
    """A circle as a mark."""
    return f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" stroke="{stroke}" fill="{fill}"/>'


def square(px: float, py: float, stroke: str, fill: str) -> str:
    """A square as a mark."""
    return f'<rect x="{px - 3.5:.1f}" y="{py - 3.5:.1f}" width="7" height="7" stroke="{stroke}" fill="{fill}"/>'


def solid(px: float, py: float, stroke: str, fill: str) -> str:
    """A piece of line, for a legend."""
    return f'<path d="M{px - 12:.1f} {py:.1f}h18" stroke="{stroke}" stroke-width="2"/>'


def dashed(px: float, py: float, stroke: str, fill: str) -> str:
    """A piece of broken line, for a legend."""
    return f'<path d="M{px - 12:.1f} {py:.1f}h18" stroke="{stroke}" stroke-width="2" stroke-dasharray="5 3"/>'


def cross(px: float, py: float) -> str:
    """Marks a failure."""
    return f'<path d="M{px - 4:.1f} {py - 4:.1f}l8 8m0-8l-8 8" stroke="{VERMILLION}" stroke-width="2"/>'


def text(px: float, py: float, text: str, anchor: str = "start") -> str:
    """Text with its anchor on the base line."""
    return f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" fill="{GREY}">{escape(text)}</text>'


def escape(text: str) -> str:
    """Escaped for XML; characters that XML 1.0 does not allow at all (a server may have sent them) become U+FFFD."""
    allowed = "".join(
        char
        if char in "\t\n\r" or " " <= char <= "\ud7ff" or (char >= "\ue000" and char not in "\ufffe\uffff")
        else "\ufffd"
        for char in text
    )
    return html.escape(allowed)
