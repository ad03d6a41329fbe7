// A small chart over the last minutes: uPlot, with the colours of the theme at the time of drawing.

import uPlot from "uplot";

import { h, put } from "../dom";

export interface Line {
  label: string;
  /** A CSS variable of style.css. */
  colour: string;
  dashed?: boolean;
  filled?: boolean;
}

const HEIGHT = 96;

/** One chart. `element` is to be put into the page; `set` gives it columns, times first. */
export class Chart {
  readonly element: HTMLElement;
  private readonly plot: uPlot;
  private readonly observer: ResizeObserver;

  constructor(lines: Line[], format: (value: number) => string) {
    this.element = h("div", { class: "jp-nbserve-chart", role: "img" });
    const colour = (name: string) => getComputedStyle(this.element).getPropertyValue(name).trim() || "gray";
    const axis: uPlot.Axis = {
      stroke: () => colour("--nbserve-faint"),
      grid: { stroke: () => colour("--nbserve-grid"), width: 1 },
      ticks: { show: false },
      font: "11px sans-serif",
    };
    const series = lines.map(
      (line): uPlot.Series => ({
        label: line.label,
        stroke: () => colour(line.colour),
        fill: line.filled ? () => `${colour(line.colour)}22` : undefined,
        width: 1.75,
        dash: line.dashed ? [5, 4] : undefined,
        points: { show: false },
        spanGaps: false,
      }),
    );
    const options: uPlot.Options = {
      width: 200,
      height: HEIGHT,
      padding: [6, 24, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, size: 22, gap: 7, space: 60, values: (_, times) => times.map(clockOf) },
        { ...axis, size: 46, gap: 5, space: 26, values: (_, values) => values.map(format) },
      ],
      series: [{}, ...series],
    };
    this.plot = new uPlot(options, [[], ...lines.map(() => [])], this.element);
    this.observer = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry?.contentRect.width ?? 0);
      if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    });
    this.observer.observe(this.element);
  }

  /** Columns, times first, and what a screen reader says of them. */
  set(columns: (number | null)[][], description: string): void {
    this.plot.setData(columns as uPlot.AlignedData);
    this.element.setAttribute("aria-label", description);
  }

  /** After a change of theme. */
  redraw(): void {
    this.plot.redraw(false);
  }

  destroy(): void {
    this.observer.disconnect();
    this.plot.destroy();
    put(this.element);
  }
}

function clockOf(seconds: number): string {
  const at = new Date(seconds * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}
