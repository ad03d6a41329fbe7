"""An endpoint at one moment as an SVG picture, for where no widget runs: GitHub, nbviewer, a printed notebook. Pure.

Called by `card.py`. Of what there is: where the time of requests went, who runs on which cores, the sizes of batches
(before the first one: what the warm-up measured). Colours and fonts are those of `measure/svg.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nbserve.measure.svg import CHARACTER, GREY, escape, text
from nbserve.wire.management import ModelStatus
from nbserve.wire.numbers import Numbers

__all__ = ["Picture", "draw"]

WIDTH = 720
_CELL, _GAP = 18, 3
_PALETTE = ("#0072b2", "#b34700", "#00795a", "#98417a", "#7a5c00", "#5c5c5c")
"""Of workers, as the dashboard has them: white letters read on each (4.5:1)."""
_STAGES = {
    "queue": ("queue", "#767676"),
    "batch": ("batch wait", "#9e9e9e"),
    "decode": ("decode", "#56b4e9"),
    "preprocess": ("preprocess", "#e69f00"),
    "inference": ("inference", "#0072b2"),
    "postprocess": ("postprocess", "#009e73"),
    "encode": ("encode", "#2b7fb0"),
    "transport": ("transport", "#cc79a7"),
}


class Picture(NamedTuple):
    """The SVG, and what it shows in words."""

    svg: str
    description: str


def draw(model: ModelStatus, cores: Sequence[Mapping[str, Any]], numbers: Numbers | None = None) -> Picture | None:
    """None where there is nothing to show. `cores`: of GatewayStatus.placement; `numbers`: of the same version."""
    parts: list[str] = []
    words: list[str] = []
    height = 4.0
    if numbers is not None and (stages := _mean_stages(numbers)):
        parts += _stage_bar(stages, height)
        words.append("time of a request: " + ", ".join(f"{_STAGES[name][0]} {_ms(ms)}" for name, ms in stages.items()))
        height += 74
    left = list(_core_map(model, cores, height)) if cores else []
    right = list(_batches(model, WIDTH // 2 + 10, height))
    if left:
        words.append("; ".join(f"worker {one.id} on CPUs {', '.join(map(str, one.cores))}" for one in model.workers))
    if right:
        sizes = model.batch_sizes
        words.append("batches: " + ", ".join(f"{n} of {size}" for size, n in sizes.items()) if sizes else "batch times")
    rows = -(-len(cores) // _cells_a_row()) if left else 0
    height += max(34 + rows * (_CELL + _GAP) if left else 0, 92 if right else 0)
    if not parts and not left and not right:
        return None
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12" role="img">'
    )
    return Picture(f"{head}{''.join([*parts, *left, *right])}</svg>", "; ".join(words))


def _mean_stages(numbers: Numbers) -> dict[str, float]:
    """Milliseconds of a request in each stage, of those that took any time."""
    answered = sum(numbers.latency_counts)
    if not answered:
        return {}
    means = {stage: numbers.stages_s.get(stage, 0.0) * 1e3 / answered for stage in _STAGES}
    return {stage: ms for stage, ms in means.items() if ms > 0}


def _stage_bar(stages: Mapping[str, float], top: float) -> Iterator[str]:
    total = sum(stages.values())
    yield text(0, top + 12, f"Where the time of a request goes: {_ms(total)} on average")
    at = 0.0
    for stage, ms in stages.items():
        width = max(1.5, ms / total * WIDTH)
        yield f'<rect x="{at:.1f}" y="{top + 20:.1f}" width="{width:.1f}" height="16" fill="{_STAGES[stage][1]}"/>'
        at += ms / total * WIDTH
    at = 0.0
    for stage, ms in sorted(stages.items(), key=lambda item: -item[1]):
        label = f"{_STAGES[stage][0]} {_ms(ms)}"
        if at + 16 + len(label) * CHARACTER > WIDTH:
            return
        yield f'<rect x="{at:.1f}" y="{top + 45:.1f}" width="9" height="9" fill="{_STAGES[stage][1]}"/>'
        yield text(at + 14, top + 54, label)
        at += 30 + len(label) * CHARACTER


def _cells_a_row() -> int:
    return (WIDTH // 2 - 20) // (_CELL + _GAP)


def _core_map(model: ModelStatus, cores: Sequence[Mapping[str, Any]], top: float) -> Iterator[str]:
    yield text(0, top + 12, "Workers on their cores")
    owners: dict[int, list[int]] = {}
    for worker in model.workers:
        for cpu in worker.cores:
            owners.setdefault(cpu, []).append(worker.id)
    ordered = sorted(cores, key=lambda core: (core["node"], core["l3"], core["physical"], core["sibling"]))
    for index, core in enumerate(ordered):
        px = index % _cells_a_row() * (_CELL + _GAP)
        py = top + 24 + index // _cells_a_row() * (_CELL + _GAP)
        mine = owners.get(core["cpu"], [])
        fill = _PALETTE[mine[0] % len(_PALETTE)] if mine else GREY
        yield (
            f'<rect x="{px}" y="{py:.1f}" width="{_CELL}" height="{_CELL}" rx="3" fill="{fill}" '
            f'fill-opacity="{1 if mine else 0.25}"/>'
        )
        if mine:
            label = str(mine[0]) if len(mine) == 1 else "*"
            yield (
                f'<text x="{px + _CELL / 2}" y="{py + 13:.1f}" text-anchor="middle" font-size="11" '
                f'font-weight="bold" fill="#fff">{escape(label)}</text>'
            )


def _batches(model: ModelStatus, left: float, top: float) -> Iterator[str]:
    """How many batches of each size there were; before there were any, what a batch takes by the warm-up."""
    if model.batch_sizes:
        sizes = sorted((int(size), count) for size, count in model.batch_sizes.items())
        if len(sizes) > 12:
            sizes = sorted(sorted(sizes, key=lambda item: -item[1])[:12])
        yield text(left, top + 12, "Batch sizes")
        yield from _bars([(str(size), float(count), "") for size, count in sizes], left, top)
    elif model.cost:
        sizes_tried = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= model.config.max_batch_size]
        times = [(size, (model.cost.get("a_s", 0.0) + model.cost.get("c_s", 0.0) * size) * 1e3) for size in sizes_tried]
        if any(ms > 0 for _, ms in times):
            yield text(left, top + 12, "Time of a batch by its size, as warmed up")
            yield from _bars([(str(size), ms, _ms(ms)) for size, ms in times], left, top)


def _bars(bars: Sequence[tuple[str, float, str]], left: float, top: float) -> Iterator[str]:
    """(label, height, text above)."""
    most = max(value for _, value, _ in bars) or 1.0
    step = min(48.0, (WIDTH - left) / len(bars))
    for index, (label, value, above) in enumerate(bars):
        px, height = left + index * step, max(1.0, value / most * 38)
        box = f'x="{px:.1f}" y="{top + 72 - height:.1f}" width="{step - 6:.1f}" height="{height:.1f}"'
        yield f'<rect {box} fill="#0072b2"/>'
        yield text(px + step / 2 - 3, top + 86, label, "middle")
        if above:
            size = 'font-size="9" '
            shown = escape(above)
            yield (
                f'<text x="{px + step / 2 - 3:.1f}" y="{top + 69 - height:.1f}" {size}text-anchor="middle" '
                f'fill="{GREY}">{shown}</text>'
            )


def _ms(ms: float) -> str:
    """As the dashboard writes it."""
    if ms >= 1000:
        return f"{ms / 1000:.3g} s"
    return f"{ms:.3g} ms" if ms >= 0.1 else f"{ms * 1000:.2g} µs"
