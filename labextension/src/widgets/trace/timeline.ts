// The picture of the timeline: spans as pixels (raster.ts), and over them words, arrows, the selection, the axis.
// Owned by view.ts, which says what to draw; decides nothing itself.

import { css, INK, type Theme } from "./colours";
import { sized } from "./dom";
import { duration } from "./format";
import { rowOf, type Layout, type Row } from "./lanes";
import { paint, Raster, Shades, type Caption, type Frame, type Scene } from "./raster";
import type { Selection } from "./select";
import { firstWhere } from "./trace";
import { ticks, type Range } from "./viewport";

export const AXIS = 22;
const FONT = 11;
const MOST_CAPTIONS = 500;
const LETTERS = "abcdefghijklmnopqrstuvwxyz_:"; // how wide one is on average
const CLEAR = 4; // pixels between a caption and the edge of its span

/** What to draw. Heights are CSS pixels of the layout. */
export interface Shown {
  layout: Layout;
  range: Range;
  top: number;
  width: number;
  height: number;
  theme: Theme;
  emphasis: Uint32Array | null;
  chosen: number;
  arrows: [from: number, to: number][];
  selection: Selection | null;
  /** A rectangle being dragged, in CSS pixels of the canvas. */
  marquee: { x0: number; y0: number; x1: number; y1: number } | null;
}

export class Timeline {
  readonly canvas = document.createElement("canvas");
  readonly axis = document.createElement("canvas");
  private raster: Raster | null = null;
  private image: ImageData | null = null;
  private shades: Shades | null = null;
  private themed: Theme | null = null;

  constructor(private readonly scene: Scene) {}

  draw(shown: Shown): void {
    const context = sized(this.canvas, shown.width, shown.height);
    const { raster, image, shades } = this.surfaces(shown.theme);
    const frame = frameOf(shown, this.canvas.width);
    const captions = paint(raster, this.scene, shown.layout.rows, frame, shades, shown.emphasis);
    context.putImageData(image, 0, 0);
    this.drawGrid(context, shown);
    this.drawCaptions(context, shown, captions, frame);
    this.drawSelection(context, shown);
    this.drawArrows(context, shown);
    this.drawChosen(context, shown);
    this.drawAxis(shown);
  }

  private surfaces(theme: Theme): { raster: Raster; image: ImageData; shades: Shades } {
    const { width, height } = this.canvas;
    if (!this.raster || !this.image || this.raster.width !== width || this.raster.height !== height) {
      this.image = new ImageData(width, height);
      this.raster = new Raster(width, height, new Uint32Array(this.image.data.buffer));
    }
    if (!this.shades || this.themed !== theme) {
      this.shades = new Shades(theme);
      this.themed = theme;
    }
    return { raster: this.raster, image: this.image, shades: this.shades };
  }

  private drawGrid(context: CanvasRenderingContext2D, shown: Shown): void {
    context.fillStyle = css(shown.theme.text, 0.07);
    for (const tick of ticks(shown.range, shown.width / 110)) {
      context.fillRect(Math.round(xOf(shown, tick.at)), 0, 1, shown.height);
    }
    context.fillStyle = css(shown.theme.border);
    for (const group of shown.layout.groups.slice(1))
      context.fillRect(0, Math.round(group.y - 3 - shown.top), shown.width, 1);
  }

  private drawCaptions(context: CanvasRenderingContext2D, shown: Shown, captions: Caption[], frame: Frame): void {
    context.font = `${FONT}px ${shown.theme.font}`;
    context.textBaseline = "middle";
    const wide = captions.length > MOST_CAPTIONS ? widest(captions) : captions;
    const letter = context.measureText(LETTERS).width / LETTERS.length;
    const { trace } = this.scene;
    for (const { index, x0, x1, row } of wide) {
      const from = Math.max(0, x0 / frame.ratio) + CLEAR;
      const room = Math.min(shown.width, x1 / frame.ratio) - CLEAR - from;
      const name = trace.names[trace.name[index]!]!;
      const fits = Math.floor(room / letter);
      if (fits < 2) continue;
      const text = name.length <= fits ? name : `${name.slice(0, fits - 1)}…`;
      context.fillStyle = isEmphasized(shown.emphasis, index) ? INK : css(shown.theme.muted);
      context.fillText(text, from, row.y + row.height / 2 - shown.top + 0.5, room);
    }
    this.drawIdleWords(context, shown);
  }

  /** How long a wide idle gap is, once for each GPU. */
  private drawIdleWords(context: CanvasRenderingContext2D, shown: Shown): void {
    const { trace, gaps } = this.scene;
    const told = new Set<string>();
    context.fillStyle = css(shown.theme.text);
    context.textAlign = "center";
    for (const row of shown.layout.rows) {
      const { process } = trace.lanes[row.lanes[0]!]!;
      if (row.kind !== "gpu" || row.height < 12 || told.has(process)) continue;
      told.add(process);
      const { start, end } = gaps.get(process)!;
      const least = (70 * (shown.range.to - shown.range.from)) / shown.width;
      for (let i = firstWhere(0, end.length, (k) => end[k]! > shown.range.from); i < start.length; i++) {
        if (start[i]! >= shown.range.to) break;
        const [from, to] = [Math.max(start[i]!, shown.range.from), Math.min(end[i]!, shown.range.to)];
        if (to - from < least) continue;
        const text = `idle ${duration(end[i]! - start[i]!)}`;
        context.fillText(text, (xOf(shown, from) + xOf(shown, to)) / 2, row.y + row.height / 2 - shown.top + 0.5);
      }
    }
    context.textAlign = "start";
  }

  private drawSelection(context: CanvasRenderingContext2D, shown: Shown): void {
    const { brand } = shown.theme;
    if (shown.selection) {
      const { from, to, threads } = shown.selection;
      const [x0, x1] = [xOf(shown, from), xOf(shown, to)];
      for (const [y, height] of bands(shown.layout, threads)) {
        context.fillStyle = css(brand, 0.14);
        context.fillRect(x0, y - shown.top, x1 - x0, height);
      }
      context.fillStyle = css(brand);
      for (const x of [x0, x1]) context.fillRect(Math.round(x) - 0.5, 0, 1, shown.height);
    }
    if (shown.marquee) {
      const { x0, y0, x1, y1 } = shown.marquee;
      context.fillStyle = css(brand, 0.18);
      context.strokeStyle = css(brand);
      context.lineWidth = 1;
      const box = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)] as const;
      context.fillRect(...box);
      context.strokeRect(...box);
    }
  }

  private drawArrows(context: CanvasRenderingContext2D, shown: Shown): void {
    const { trace } = this.scene;
    for (const [from, to] of shown.arrows) {
      const [above, below] = [rowOf(shown.layout, trace.lane[from]!), rowOf(shown.layout, trace.lane[to]!)];
      if (!above || !below || above === below) continue;
      const isOver = trace.end[from]! <= trace.start[to]!;
      const x0 = xOf(shown, isOver ? trace.end[from]! : trace.start[from]!);
      arrow(context, shown.theme, x0, middle(above, shown), xOf(shown, trace.start[to]!), middle(below, shown));
    }
  }

  private drawChosen(context: CanvasRenderingContext2D, shown: Shown): void {
    if (shown.chosen < 0) return;
    const { trace } = this.scene;
    const row = rowOf(shown.layout, trace.lane[shown.chosen]!);
    if (!row) return;
    const x0 = Math.max(-5, xOf(shown, trace.start[shown.chosen]!));
    const x1 = Math.min(shown.width + 5, xOf(shown, trace.end[shown.chosen]!));
    const box = [Math.floor(x0) - 1, row.y - shown.top - 1, Math.max(3, x1 - x0 + 1), row.height + 2] as const;
    context.strokeStyle = css(shown.theme.background);
    context.lineWidth = 4;
    context.strokeRect(...box);
    context.strokeStyle = css(shown.theme.text);
    context.lineWidth = 2;
    context.strokeRect(...box);
  }

  private drawAxis(shown: Shown): void {
    const context = sized(this.axis, shown.width, AXIS);
    context.clearRect(0, 0, shown.width, AXIS);
    context.font = `${FONT}px ${shown.theme.font}`;
    context.textBaseline = "middle";
    for (const tick of ticks(shown.range, shown.width / 110)) {
      const x = Math.round(xOf(shown, tick.at));
      context.fillStyle = css(shown.theme.border);
      context.fillRect(x, AXIS - 6, 1, 6);
      context.fillStyle = css(shown.theme.muted);
      if (x + 60 < shown.width) context.fillText(tick.label, x + 3, AXIS / 2);
    }
    if (!shown.selection) return;
    const [x0, x1] = [xOf(shown, shown.selection.from), xOf(shown, shown.selection.to)];
    const text = duration(shown.selection.to - shown.selection.from);
    context.fillStyle = css(shown.theme.brand, 0.25);
    context.fillRect(x0, 0, x1 - x0, AXIS);
    if (x1 - x0 < context.measureText(text).width + 8) return;
    context.fillStyle = css(shown.theme.background);
    const at = (Math.max(0, x0) + Math.min(shown.width, x1)) / 2;
    const half = context.measureText(text).width / 2 + 4;
    context.fillRect(at - half, 2, 2 * half, AXIS - 4);
    context.fillStyle = css(shown.theme.text);
    context.fillText(text, at - half + 4, AXIS / 2);
  }
}

function frameOf(shown: Shown, width: number): Frame {
  const { from, to } = shown.range;
  return { window: { start: from, scale: width / (to - from), width }, top: shown.top, ratio: width / shown.width };
}

function xOf(shown: Shown, time: number): number {
  return ((time - shown.range.from) / (shown.range.to - shown.range.from)) * shown.width;
}

function middle(row: Row, shown: Shown): number {
  return row.y + row.height / 2 - shown.top;
}

function isEmphasized(emphasis: Uint32Array | null, index: number): boolean {
  return !emphasis || emphasis[firstWhere(0, emphasis.length, (k) => emphasis[k]! >= index)] === index;
}

function widest(captions: Caption[]): Caption[] {
  return [...captions].sort((a, b) => b.x1 - b.x0 - (a.x1 - a.x0)).slice(0, MOST_CAPTIONS);
}

/** Where selected threads stand: (y, height); folded groups whole. */
function bands(layout: Layout, threads: ReadonlySet<number> | null): [number, number][] {
  if (!threads) return [[0, layout.height]];
  return layout.groups.flatMap((group): [number, number][] => {
    if (group.folded) return group.members.some((one) => threads.has(one)) ? [[group.y, group.height]] : [];
    return group.threads.filter((box) => threads.has(box.thread)).map((box) => [box.y, box.height]);
  });
}

function arrow(context: CanvasRenderingContext2D, theme: Theme, x0: number, y0: number, x1: number, y1: number): void {
  const bend = Math.max(20, Math.abs(x1 - x0) / 2);
  for (const [width, colour] of [
    [3.5, css(theme.background, 0.8)],
    [1.5, css(theme.text)],
  ] as const) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(x0, y0);
    context.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1 - 4, y1);
    context.stroke();
  }
  context.fillStyle = css(theme.text);
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x1 - 7, y1 - 4);
  context.lineTo(x1 - 7, y1 + 4);
  context.fill();
}
