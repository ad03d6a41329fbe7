"""A `BenchResult` as SVG plots: latency by percentile, throughput and latency, timeline, stages, batch sizes.

Called by `report.py`, which shows them as images in a notebook.

Drawn by hand rather than by matplotlib: it would be a second of import and a heavy dependency wherever an endpoint is
measured, its SVGs are ten times as large with text as outlines, and five plain charts need little code.

They are shown as `<img>` with data URIs: GitHub, and JupyterLab where a notebook is not trusted, take inline SVG out
but leave images in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbserve.measure.facts import batch_bins, best_run, is_rivalry, is_varied, mean_batch, number, percent, stages
from nbserve.measure.result import BenchResult, Run
from nbserve.measure.search import parse_slo
from nbserve.measure.stats import decoded
from nbserve.measure.svg import (
    BLUE,
    BOTTOM,
    CHARACTER,
    GREY,
    LEFT,
    RIGHT,
    TOP,
    VERMILLION,
    WIDTH,
    Axis,
    Point,
    cross,
    dashed,
    dot,
    escape,
    frame,
    labelled,
    legend,
    line,
    linear,
    logarithmic,
    solid,
    square,
    text,
)

__all__ = ["Plot", "plots"]


@dataclass(frozen=True)
class Plot:
    """One plot: `title` and `description` in words (for captions and screen readers), and the SVG document."""

    name: str
    title: str
    description: str
    svg: str
    width: int
    height: int


def plots(result: BenchResult) -> list[Plot]:
    """Every plot that the result has data for, most telling first."""
    makers: tuple[Callable[[BenchResult], Plot | None], ...] = (
        _latency,
        _throughput,
        _timeline,
        _stages,
        _batches,
    )
    return [plot for plot in (make(result) for make in makers) if plot is not None]


# --- the plots ---


def _latency(result: BenchResult) -> Plot | None:
    """Latency by percentile, the x axis in nines (0 %, 90 %, 99 %, ...) as HdrHistogram's plots have it."""
    best = best_run(result)
    if best is None:
        return None
    drawn = [best] if is_varied(result) else [run for run in result.runs if run is not best] + [best]
    curves = [(run, curve) for run in drawn if (curve := _percentile_curve(run))]
    if not curves or curves[-1][0] is not best:
        return None
    most = max(curve[-1][0] for _, curve in curves)
    nines = [math.log10(2), *(float(power) for power in range(1, int(most) + 1))]
    x = Axis(0.0, most, LEFT, WIDTH - RIGHT, [(at, _percentile_name(at)) for at in nines])
    y = linear(_with_slo(result, max(curve[-1][1] for _, curve in curves)), 240 - BOTTOM, TOP)
    parts = [*frame(x, y, 240, "latency, ms", "percentile of requests"), *_slo_line(result, x, y)]
    rivals = is_rivalry(result)
    other = f'stroke="{VERMILLION}" stroke-width="2" stroke-dasharray="5 3"' if rivals else f'stroke="{GREY}"'
    for run, curve in curves:
        style = f'stroke="{BLUE}" stroke-width="2"' if run is best else other
        parts.append(line([(x.at(nine), y.at(ms)) for nine, ms in curve], style))
    if rivals:
        against = next(run.label for run in result.runs if run.label != best.label)
        parts += legend([(_short(best.label), solid, BLUE), (_short(against), dashed, VERMILLION)])
    marks = [
        (x.at(at), y.at(best.latency_ms[key]), f"{key} {number(best.latency_ms[key])}")
        for key, at in (("p90", 1.0), ("p99", 2.0), ("p99.9", 3.0), ("max", curves[-1][1][-1][0]))
        if key in best.latency_ms and at <= most
    ]
    parts += labelled(marks) if not rivals else []  # the numbers would stand on the other curve; the table has both
    told = ", ".join(f"{key} {number(value)} ms" for key, value in best.latency_ms.items())
    others = f" Beside it: {_others(result, len(curves) - 1)}." if len(curves) > 1 else ""
    return _plot("latency", "Latency by percentile", f"Latency of right answers: {told}.{others}", parts, 240)


def _throughput(result: BenchResult) -> Plot | None:
    """p50 and p99 over answers a second: one point a run."""
    runs = sorted((run for run in result.runs if run.answered), key=lambda run: (run.offered, run.rate))
    if len(runs) < 2 or is_rivalry(result):
        return None
    series = [(key, [(run.rate, run.latency_ms[key]) for run in runs]) for key in ("p50", "p99")]
    x = linear(max(run.rate for run in runs), LEFT, WIDTH - RIGHT)
    values = [ms for _, points in series for _, ms in points]
    y = logarithmic(min(values), _with_slo(result, max(values)), 240 - BOTTOM, TOP)
    parts = [*frame(x, y, 240, "latency, ms", "right answers a second"), *_slo_line(result, x, y)]
    for (key, points), (colour, dash) in zip(series, ((BLUE, ""), (VERMILLION, "5 3")), strict=True):
        placed = [(x.at(rate), y.at(ms)) for rate, ms in points]
        if is_varied(result):
            parts.append(line(placed, f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'))
        for run, (px, py) in zip(runs, placed, strict=True):
            fill = colour if run.valid else "none"
            shape = dot(px, py, colour, fill) if key == "p50" else square(px, py, colour, fill)
            parts.append(shape)
    parts += legend([("p50", dot, BLUE), ("p99", square, VERMILLION)])
    if is_varied(result) and (best := best_run(result)) in runs:
        px = x.at(best.rate)
        parts.append(f'<path d="M{px:.1f} {TOP}V{240 - BOTTOM}" stroke="{GREY}" stroke-dasharray="2 3"/>')
        anchor = "end" if px > WIDTH / 2 else "start"
        parts.append(text(px - 5 if anchor == "end" else px + 5, TOP + 10, f"best: {number(best.rate)}/s", anchor))
    told = "; ".join(
        f"{number(run.rate)}/s: p50 {number(run.latency_ms['p50'])} ms, p99 {number(run.latency_ms['p99'])} ms"
        f"{'' if run.valid else ' (INVALID, hollow)'}"
        for run in runs
    )
    return _plot(
        "throughput", "Throughput and latency", f"Answers a second and latency of each run: {told}.", parts, 240
    )


def _timeline(result: BenchResult) -> Plot | None:
    """Answers a second and p99 per window of the best run, windows with failures marked."""
    run = best_run(result)
    windows = run.windows if run else []
    if len(windows) < 2:
        return None
    height, middle = 240, 116
    end_s = windows[-1].start_s + windows[-1].seconds
    x = linear(end_s, LEFT, WIDTH - RIGHT, exact=True)
    rates = [window.answered / window.seconds for window in windows]
    top = linear(max(rates), middle - 14, TOP, ticks=3)
    p99s = [window.p99_ms if window.answered else 0.0 for window in windows]
    low = linear(max(p99s), height - BOTTOM, middle + 14, ticks=3)
    bare = Axis(0, 1, LEFT, WIDTH - RIGHT, [])
    parts = [*frame(bare, top, height, "right answers a second", ""), *frame(x, low, height, "p99, ms", "seconds")]
    spans = [(x.at(window.start_s), x.at(window.start_s + window.seconds)) for window in windows]
    for axis, values, colour in ((top, rates, BLUE), (low, p99s, VERMILLION)):
        steps = [(px, axis.at(value)) for span, value in zip(spans, values, strict=True) for px in span]
        parts.append(line(steps, f'stroke="{colour}" stroke-width="2"'))
    failed = [(sum(span) / 2, window.failed) for span, window in zip(spans, windows, strict=True) if window.failed]
    parts += [cross(px, middle - 14) for px, _ in failed]
    if failed:
        parts += legend([(f"{_sum(failed)} failed", lambda px, py, *_: cross(px, py), VERMILLION)])
    told = f"{number(min(rates))} to {number(max(rates))} right answers a second, p99 {number(min(p99s))} to "
    told += f"{number(max(p99s))} ms per window of {number(windows[0].seconds)} s"
    told += (
        f"; {_sum(failed)} failed requests in {len(failed)} windows, marked by crosses." if failed else "; none failed."
    )
    return _plot("timeline", "Timeline", told, parts, height)


def _stages(result: BenchResult) -> Plot | None:
    """Where the mean latency goes: a stacked bar, each part on a line of its own so that all have their names."""
    found = stages(result)
    if not found:
        return None
    step, names = 20, 96
    values = [f"{number(stage.mean_ms)} ms, {percent(stage.share)}" for stage in found]
    left, right = names + 8, WIDTH - RIGHT - 8 - max(map(len, values)) * CHARACTER
    height, begin, parts = step * len(found) + 12, 0.0, []
    for row, (stage, value) in enumerate(zip(found, values, strict=True)):
        y = 6 + row * step
        x0, x1 = (left + (right - left) * share for share in (begin, begin + stage.share))
        begin += stage.share
        colour = VERMILLION if stage.limit else BLUE
        parts.append(text(names, y + 14, _short(stage.name), "end"))
        parts.append(
            f'<rect x="{x0:.1f}" y="{y + 2}" width="{max(x1 - x0, 1):.1f}" height="{step - 4}" fill="{colour}"/>'
        )
        if row + 1 < len(found):
            parts.append(f'<path d="M{x1:.1f} {y + 2}v{step}" stroke="{GREY}" stroke-opacity=".6"/>')
        if stage.limit:
            after = right - x1 > x0 - left
            parts.append(text(x1 + 6 if after else x0 - 6, y + 14, "limit", "start" if after else "end"))
        parts.append(text(right + 8, y + 14, value))
    told = "; ".join(f"{stage.name} {value}" for stage, value in zip(found, values, strict=True))
    return _plot("stages", "Where the time goes", f"Mean time of a request by stage: {told}.", parts, height)


def _batches(result: BenchResult) -> Plot | None:
    """How many requests went into a batch."""
    run = best_run(result)
    bins = batch_bins(run) if run else []
    if run is None or not bins:
        return None
    height = 180
    y = linear(max(each.share for each in bins) * 100, height - BOTTOM, TOP, ticks=3)
    ticks = [(index + 0.5, each.label) for index, each in enumerate(bins)]
    x = Axis(0, max(len(bins), 4), LEFT, WIDTH - RIGHT, ticks)
    bar = min(0.7 * (x.at(1) - x.at(0)), 60.0)
    parts = [*frame(x, y, height, "% of batches", "requests in a batch")]
    for index, each in enumerate(bins):
        middle, py = x.at(index + 0.5), y.at(each.share * 100)
        parts.append(
            f'<rect x="{middle - bar / 2:.1f}" y="{py:.1f}" width="{bar:.1f}" '
            f'height="{height - BOTTOM - py:.1f}" fill="{BLUE}"/>'
        )
    told = "; ".join(f"{each.label}: {percent(each.share)}" for each in bins)
    mean = f"Mean {number(mean_batch(run))} requests a batch"
    return _plot("batches", "Batch sizes", f"{mean}. Share of batches by size: {told}.", parts, height)


# --- data ---


def _percentile_curve(run: Run) -> list[Point]:
    """(nines, milliseconds) of the encoded histogram, at most one point a pixel; empty without a right answer.

    The k-th of n values stands at (k - 1/2) / n, so that the largest one has a place on a logarithmic tail.
    """
    if not run.histogram or not run.answered:
        return []
    histogram = decoded(run.histogram)
    total = histogram.get_total_count()
    curve: list[Point] = []
    for step in histogram.get_recorded_iterator():
        nines = math.log10(total / (total - step.total_count_to_this_value + 0.5))
        milliseconds = step.value_iterated_to / 1000
        if not curve:
            curve.append((0.0, milliseconds))
        if nines - curve[-1][0] > 0.01 or step.total_count_to_this_value == total:
            curve.append((nines, milliseconds))
    return curve


def _percentile_name(nines: float) -> str:
    """0.3 -> 50 %, 2 -> 99 %, 3 -> 99.9 %."""
    return f"{100 * (1 - 10**-nines):.{max(int(nines) - 2, 0)}f} %"


def _others(result: BenchResult, count: int) -> str:
    if is_rivalry(result):
        return ", ".join(dict.fromkeys(run.label for run in result.runs if run is not best_run(result)))
    return f"{count} other repeats, thin"


def _sum(failed: Iterable[tuple[float, int]]) -> int:
    return sum(count for _, count in failed)


def _slo_ms(result: BenchResult) -> float:
    """The latency that was asked for; infinite where none was."""
    return parse_slo(result.slo).limit_ms if result.slo else math.inf


def _with_slo(result: BenchResult, most_ms: float) -> float:
    """How far an axis goes: so that the objective is seen, unless it is far from what was measured."""
    limit_ms = _slo_ms(result)
    return max(most_ms, limit_ms) if limit_ms < 2 * most_ms else most_ms


def _slo_line(result: BenchResult, x: Axis, y: Axis) -> Iterable[str]:
    limit_ms = _slo_ms(result)
    if y.low < limit_ms <= y.high:
        at = y.at(limit_ms)
        yield f'<path d="M{x.start} {at:.1f}H{x.end}" stroke="{GREY}" stroke-width="1.5" stroke-dasharray="6 4"/>'
        yield text(x.start + 4, at - 4, result.slo)


def _short(name: str, most: int = 14) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _plot(name: str, title: str, description: str, parts: Iterable[str], height: int) -> Plot:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12" fill="none">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
    return Plot(name, title, description, svg, WIDTH, height)
