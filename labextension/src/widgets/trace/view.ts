// One trace view on the page: its state, and the parts that show it. Made by index.ts for each display of the widget.

import { Camera } from "./camera";
import { readTheme, watchTheme, type Theme } from "./colours";
import { HELP, listen, passSaving, type Actions } from "./controls";
import { element } from "./dom";
import { count, duration } from "./format";
import { Labels } from "./labels";
import { layout, rowAt, rowOf, spanAt, threadsBetween, type Layout } from "./lanes";
import { Minimap } from "./minimap";
import { Panels, type Tab } from "./panels";
import { sceneOf, type Scene } from "./raster";
import { Batches, everything, neighbour, pieces, search, working, type Selection } from "./select";
import { Timeline } from "./timeline";
import { Toolbar } from "./toolbar";
import { Tooltip } from "./tooltip";
import type { Trace } from "./trace";
import { around, type Range } from "./viewport";
import { piecesLine, spanLines } from "./words";

const MOST_HEIGHT = 460;
const MOST_ARROWS = 100;
const NEAR = 4; // pixels between the pointer and a span that is meant
const SETTLED_MS = 150;

/** The name of the measure that browsers' profilers show for each redraw. */
export const REDRAW = "nbserve-trace-redraw";

/** What all views of one trace share: computed once. */
export interface Prepared {
  scene: Scene;
  batches: Batches;
}

export function prepare(trace: Trace): Prepared {
  return { scene: sceneOf(trace), batches: new Batches(trace) };
}

export class View implements Actions {
  readonly node = element("div", { class: "jp-nbserve-trace", role: "region", "data-lm-suppress-shortcuts": "true" });
  private readonly trace: Trace;
  private readonly timeline: Timeline;
  private readonly minimap: Minimap;
  private readonly labels = new Labels((process) => this.toggle(process));
  private readonly panels: Panels;
  private readonly toolbar: Toolbar;
  private readonly scroller = element("div", { class: "jp-nbserve-trace-scroll" });
  private readonly plot = element("div", { class: "jp-nbserve-trace-plot" });
  private readonly tooltip = new Tooltip();
  private readonly facts = element("div", { class: "jp-nbserve-trace-facts", role: "status" });
  private readonly detail = element("div", { class: "jp-nbserve-trace-detail", "aria-live": "polite" });
  private readonly folded = new Set<string>();
  private readonly ending: (() => void)[] = [];
  private laid: Layout;
  private readonly camera: Camera;
  private theme: Theme | null = null;
  private width = 0;
  private chosen = -1;
  /** The batch of the chosen span, and how it goes through the processes. */
  private batch: Uint32Array | null = null;
  private arrows: [from: number, to: number][] = [];
  private selection: Selection | null = null;
  /** The selection that the panels show. */
  private told: Selection | null | undefined;
  private hits: Uint32Array = new Uint32Array();
  private rectangle: { x0: number; y0: number; x1: number; y1: number } | null = null;
  private frame = 0;
  private settling = 0;

  constructor(
    private readonly prepared: Prepared,
    title: string,
    download: (() => void) | null,
    tab: Tab,
  ) {
    this.trace = prepared.scene.trace;
    this.camera = new Camera(this.trace.total, working(this.trace), () => {
      this.redraw();
      if (!this.selection) this.settle();
    });
    this.laid = layout(this.trace, this.folded);
    this.timeline = new Timeline(prepared.scene);
    this.minimap = new Minimap(
      this.trace,
      (range) => this.show(range),
      () => this.range(),
    );
    this.panels = new Panels(
      prepared.scene,
      () => this.colours(),
      (name) => this.toolbar.search(name),
      tab,
    );
    this.toolbar = new Toolbar({
      search: (query) => this.search(query),
      next: (side) => this.nextHit(side),
      all: () => this.show({ from: 0, to: this.trace.total }, true),
      selectVisible: () => this.selectVisible(),
      clear: () => this.clear(),
      download,
    });
    this.node.setAttribute("aria-label", title);
    this.assemble(title);
    listen(this.timeline.canvas, this.timeline.axis, this);
    passSaving(this.node);
    this.labels.show(this.laid);
    this.watch();
  }

  /** Leave nothing behind: listeners, timers, frames. */
  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.camera.stop();
    clearTimeout(this.settling);
    this.ending.forEach((end) => end());
  }

  status(text: string): void {
    this.toolbar.status(text);
  }

  private assemble(title: string): void {
    const { canvas, axis } = this.timeline;
    const help = element("div", { class: "jp-nbserve-trace-hidden", id: `${this.panels.id}-help`, text: HELP });
    for (const [name, value] of Object.entries({
      tabindex: "0",
      role: "application",
      "aria-roledescription": "timeline",
      "aria-label": `Timeline of ${count(this.trace.count)} spans over ${duration(this.trace.total)}`,
      "aria-describedby": help.id,
    }))
      canvas.setAttribute(name, value);
    canvas.className = "jp-nbserve-trace-canvas";
    axis.className = "jp-nbserve-trace-axis";
    axis.setAttribute("aria-hidden", "true");
    this.plot.append(canvas);
    this.scroller.append(this.labels.node, this.plot);
    const heads = element("div", { class: "jp-nbserve-trace-heads" });
    heads.append(element("div", { class: "jp-nbserve-trace-corner", text: "whole trace" }), this.minimap.canvas);
    heads.append(element("div", { class: "jp-nbserve-trace-corner", text: "visible" }), axis);
    this.node.append(
      element("div", { class: "jp-nbserve-trace-title", text: title }),
      this.toolbar.node,
      heads,
      this.scroller,
      this.facts,
      this.detail,
      this.panels.node,
      this.tooltip.node,
      help,
    );
  }

  private watch(): void {
    const resized = new ResizeObserver(() => this.resize());
    resized.observe(this.plot);
    this.ending.push(() => resized.disconnect());
    this.ending.push(
      watchTheme(() => {
        this.theme = null;
        this.panels.redraw();
        this.redraw();
      }),
    );
    this.scroller.addEventListener("scroll", () => this.redraw());
  }

  private resize(): void {
    const first = this.width === 0;
    this.width = this.plot.clientWidth;
    if (!this.width) return;
    this.redraw();
    if (first) this.settle();
    else this.panels.redraw();
  }

  private colours(): Theme {
    return (this.theme ??= readTheme(this.node));
  }

  // --- drawing ---

  private redraw(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.width) this.drawNow();
    });
  }

  private drawNow(): void {
    const began = performance.now();
    const height = Math.min(this.laid.height, MOST_HEIGHT);
    this.scroller.style.height = `${height}px`;
    this.plot.style.height = `${this.laid.height}px`;
    const [width, theme] = [this.width, this.colours()];
    this.timeline.draw({
      layout: this.laid,
      range: this.range(),
      top: this.scroller.scrollTop,
      width,
      height,
      theme,
      emphasis: this.batch ?? (this.hits.length ? this.hits : null),
      chosen: this.chosen,
      arrows: this.arrows,
      selection: this.selection,
      marquee: this.rectangle,
    });
    this.minimap.draw(width, this.range(), theme);
    performance.measure(REDRAW, { start: began });
    performance.clearMeasures(REDRAW); // observers have it; the page's own list would grow
  }

  /** What takes longer than a frame waits until the view rests. */
  private settle(): void {
    clearTimeout(this.settling);
    this.facts.setAttribute("aria-busy", "true");
    this.settling = window.setTimeout(() => {
      this.facts.setAttribute("aria-busy", "false");
      const range = this.selection ?? { ...everything(this.trace), ...this.range() };
      const lines = pieces(this.trace, range, this.prepared.scene.gaps).map((one) =>
        piecesLine(one, range.to - range.from),
      );
      const where = this.selection ? "Selected" : "Visible";
      this.facts.replaceChildren(element("div", { text: `${where}: ${duration(range.to - range.from)}` }));
      lines.forEach((text) => this.facts.append(element("div", { text })));
      if (this.told !== this.selection) this.panels.show((this.told = this.selection));
    }, SETTLED_MS);
  }

  private toggle(process: string): void {
    if (!this.folded.delete(process)) this.folded.add(process);
    this.laid = layout(this.trace, this.folded);
    this.labels.show(this.laid);
    this.redraw();
  }

  // --- time ---

  range(): Range {
    return this.camera.range;
  }

  total(): number {
    return this.trace.total;
  }

  timeAt(x: number): number {
    return this.range().from + (x / this.width) * (this.range().to - this.range().from);
  }

  show(range: Range, smooth = false): void {
    this.camera.show(range, smooth);
  }

  panBy(share: number): void {
    this.camera.panBy(share);
  }

  zoomBy(factor: number, x?: number): void {
    this.camera.zoomBy(factor, x === undefined ? undefined : this.timeAt(x));
  }

  scrollBy(pixels: number): void {
    this.scroller.scrollTop += pixels;
  }

  // --- spans ---

  private spanAt(x: number, y: number): number {
    const row = rowAt(this.laid, y + this.scroller.scrollTop);
    const slack = (NEAR * (this.range().to - this.range().from)) / this.width;
    return row ? spanAt(this.trace, row, this.timeAt(x), slack) : -1;
  }

  private linesOf(index: number): string[] {
    return spanLines(this.trace, index, this.prepared.batches.of(this.trace.link[index]!).length);
  }

  hover(x: number, y: number): void {
    const index = this.spanAt(x, y);
    if (index < 0) return this.leave();
    this.tooltip.show(this.linesOf(index), this.timeline.canvas, x, y);
  }

  leave(): void {
    this.tooltip.hide();
  }

  choose(x: number, y: number): void {
    this.pick(this.spanAt(x, y));
  }

  private pick(index: number): void {
    const link = index >= 0 ? this.trace.link[index]! : 0;
    this.chosen = index;
    this.batch = link > 0 ? this.prepared.batches.of(link) : null;
    this.arrows = this.prepared.batches.arrows(link, MOST_ARROWS);
    this.detail.replaceChildren(...(index >= 0 ? this.linesOf(index) : []).map((text) => element("div", { text })));
    this.redraw();
  }

  zoomTo(x: number, y: number): void {
    this.pick(this.spanAt(x, y));
    if (this.chosen >= 0) this.zoomToChosen();
    else this.zoomBy(0.5, x);
  }

  zoomToChosen(): void {
    if (this.chosen < 0) return;
    this.show(around(this.trace.start[this.chosen]!, this.trace.end[this.chosen]!, this.trace.total), true);
  }

  /** The next span of the same lane. */
  step(side: 1 | -1): void {
    const next = this.chosen < 0 ? this.firstVisible() : this.chosen + side;
    if (next < 0 || next >= this.trace.count) return;
    if (this.chosen >= 0 && this.trace.lane[next] !== this.trace.lane[this.chosen]) return;
    this.bringTo(next);
  }

  /** The span of the next row at the same time. */
  stepLane(side: 1 | -1): void {
    if (this.chosen < 0) return this.step(1);
    const time = this.trace.start[this.chosen]!;
    let at = this.laid.rows.findIndex((row) => row.lanes.includes(this.trace.lane[this.chosen]!));
    for (at += side; at >= 0 && at < this.laid.rows.length; at += side) {
      const index = spanAt(this.trace, this.laid.rows[at]!, time, Infinity);
      if (index >= 0) return this.bringTo(index);
    }
  }

  private firstVisible(): number {
    const middle = (this.range().from + this.range().to) / 2;
    return this.laid.rows.map((row) => spanAt(this.trace, row, middle, Infinity)).find((index) => index >= 0) ?? -1;
  }

  /** Choose a span and have it in sight. */
  private bringTo(index: number): void {
    this.pick(index);
    const { process } = this.trace.lanes[this.trace.lane[index]!]!;
    if (!rowOf(this.laid, this.trace.lane[index]!)) this.toggle(process);
    const row = rowOf(this.laid, this.trace.lane[index]!)!;
    const { scrollTop, clientHeight } = this.scroller;
    if (row.y < scrollTop || row.y + row.height > scrollTop + clientHeight)
      this.scroller.scrollTop = row.y - clientHeight / 2;
    const [start, end] = [this.trace.start[index]!, this.trace.end[index]!];
    const size = this.range().to - this.range().from;
    if (end - start > size || end - start < size / 500)
      return this.show(around(start, Math.max(end, start + size / 50), this.trace.total), true);
    if (start >= this.range().from && end <= this.range().to) return;
    const middle = (start + end) / 2;
    this.show({ from: middle - size / 2, to: middle + size / 2 }, true);
  }

  // --- selection ---

  marquee(x0: number, y0: number, x1: number, y1: number): void {
    this.rectangle = { x0, y0, x1, y1 };
    this.redraw();
  }

  select(x0: number, y0: number, x1: number, y1: number): void {
    const top = this.scroller.scrollTop;
    const threads = threadsBetween(this.laid, Math.min(y0, y1) + top, Math.max(y0, y1) + top);
    this.choseRange(this.timeAt(Math.min(x0, x1)), this.timeAt(Math.max(x0, x1)), threads.size ? threads : null);
  }

  selectTime(x0: number, x1: number, done: boolean): void {
    const [from, to] = [Math.min(x0, x1), Math.max(x0, x1)];
    if (done) this.choseRange(this.timeAt(from), this.timeAt(to), null);
    else this.marquee(from, 0, to, MOST_HEIGHT);
  }

  selectVisible(): void {
    this.choseRange(this.range().from, this.range().to, null);
  }

  private choseRange(from: number, to: number, threads: ReadonlySet<number> | null): void {
    this.rectangle = null;
    this.selection = { from: Math.max(0, from), to: Math.min(this.trace.total, to), threads };
    this.redraw();
    this.settle();
  }

  clear(): void {
    this.selection = null;
    this.rectangle = null;
    this.pick(-1);
    this.settle();
  }

  // --- search ---

  search(query: string): void {
    this.hits = search(this.trace, query);
    this.pick(-1);
    this.panels.search(query);
    this.toolbar.found(query.trim() ? `${count(this.hits.length)} found` : "");
  }

  nextHit(side: 1 | -1): void {
    if (!this.hits.length) return;
    const { index, place } = neighbour(this.trace, this.hits, this.chosen, side);
    this.toolbar.found(`${count(place)} of ${count(this.hits.length)}`);
    this.bringTo(index);
  }

  focusSearch(): void {
    this.toolbar.focus();
  }
}
