// The spans of a timeline as pixels: filled into one array, since half a million calls of a canvas would take seconds.
// Needs no canvas: raster.test.ts compares it with a renderer that draws every span. Called by timeline.ts.

import { colours, mix, packed, PALETTE, type Theme } from "./colours";
import { idleGaps } from "./gaps";
import type { Row } from "./lanes";
import { Density, scan, type Sink, type Window } from "./lod";
import { firstWhere, type Trace } from "./trace";

/** What is drawn and does not change with the view. */
export interface Scene {
  trace: Trace;
  density: Density;
  gaps: ReadonlyMap<string, Density>;
  /** Of each name, its place in the palette. */
  colour: Uint8Array;
}

export function sceneOf(trace: Trace): Scene {
  const time = new Float64Array(trace.names.length);
  for (let i = 0; i < trace.count; i++) time[trace.name[i]!]! += trace.end[i]! - trace.start[i]!;
  const order = [...time.keys()].sort((a, b) => time[b]! - time[a]! || a - b);
  const colour = colours(trace.names, order);
  return { trace, density: new Density(trace.start, trace.end), gaps: idleGaps(trace), colour };
}

/** Device pixels; `top` is the height (of the layout, in CSS pixels) that is drawn at line 0. */
export interface Frame {
  window: Window;
  top: number;
  ratio: number;
}

/** A span wide enough for words. */
export interface Caption {
  index: number;
  x0: number;
  x1: number;
  row: Row;
}

const LEVELS = 8;
const DIMMED = 0.28;
const HATCH = 7; // pixels between the stripes of an idle gap

/** Packed colours of a theme: of each palette entry by how much it covers, and of idle gaps. */
export class Shades {
  readonly full: Uint32Array[];
  readonly dim: Uint32Array[];
  readonly background: number;
  readonly raised: number;
  readonly idle: Uint32Array;
  readonly stripe: Uint32Array;

  constructor(theme: Theme) {
    const levels = (over: (typeof PALETTE)[number], most: number): Uint32Array => {
      return Uint32Array.from({ length: LEVELS + 1 }, (_, k) =>
        packed(mix(over, theme.background, (most * k) / LEVELS)),
      );
    };
    this.full = PALETTE.map((colour) => levels(colour, 1));
    this.dim = PALETTE.map((colour) => levels(colour, DIMMED));
    this.background = packed(theme.background);
    this.raised = packed(mix(theme.raised, theme.background, 0.75));
    this.idle = levels(theme.warn, 0.1);
    this.stripe = levels(theme.warn, 0.4);
  }
}

export class Raster {
  constructor(
    readonly width: number,
    readonly height: number,
    readonly pixels = new Uint32Array(width * height),
  ) {}

  /** Fill the pixels of [x0, x1) x [y0, y1), as far as they are in the picture. */
  fill(x0: number, y0: number, x1: number, y1: number, colour: number): void {
    const left = x0 < 0 ? 0 : x0;
    const right = x1 > this.width ? this.width : x1;
    const bottom = y1 > this.height ? this.height : y1;
    for (let y = y0 < 0 ? 0 : y0; y < bottom; y++) {
      const line = y * this.width;
      if (right - left > 8) this.pixels.fill(colour, line + left, line + right);
      else for (let x = left; x < right; x++) this.pixels[line + x] = colour;
    }
  }

  hatch(x0: number, y0: number, x1: number, y1: number, colour: number): void {
    const [left, right] = [Math.max(0, x0), Math.min(this.width, x1)];
    for (let y = Math.max(0, y0); y < Math.min(this.height, y1); y++) {
      for (let x = left + ((((HATCH - y - left) % HATCH) + HATCH) % HATCH); x < right; x += HATCH) {
        this.pixels[y * this.width + x] = colour;
      }
    }
  }
}

/** Draw the rows; returns the spans that have room for words. With `emphasis`, sorted, all others are dimmed. */
export function paint(
  raster: Raster,
  scene: Scene,
  rows: Row[],
  frame: Frame,
  shades: Shades,
  emphasis: Uint32Array | null,
): Caption[] {
  raster.pixels.fill(shades.background);
  const captions: Caption[] = [];
  for (const row of rows) {
    const y0 = Math.round((row.y - frame.top) * frame.ratio);
    const y1 = Math.max(y0 + 1, Math.round((row.y + row.height - frame.top) * frame.ratio));
    if (y1 < 0 || y0 >= raster.height) continue;
    const box = new RowPainter(raster, scene, row, frame, y0, y1, captions);
    box.idle(shades);
    for (const lane of row.lanes) {
      const { first } = scene.trace;
      scan(scene.density, first[lane]!, first[lane + 1]!, frame.window, box.sink(emphasis ? shades.dim : shades.full));
      if (emphasis) box.emphasize(lane, emphasis, shades.full);
    }
  }
  return captions;
}

class RowPainter {
  private readonly roomForWords: number;

  constructor(
    private readonly raster: Raster,
    private readonly scene: Scene,
    private readonly row: Row,
    private readonly frame: Frame,
    private readonly y0: number,
    private readonly y1: number,
    private readonly captions: Caption[],
  ) {
    this.roomForWords = row.height >= 12 && row.lanes.length === 1 ? 26 * frame.ratio : Infinity;
  }

  /** Spans in their colour; those below a pixel by how many (strength) and how much of the pixel they fill (height). */
  sink(shades: Uint32Array[]): Sink {
    const { raster, y0, y1 } = this;
    const { colour, trace } = this.scene;
    const height = y1 - y0;
    return {
      span: (index, x0, x1) => {
        const [left, right] = edges(x0, x1);
        raster.fill(left, y0, right, y1, shades[colour[trace.name[index]!]!]![LEVELS]!);
        if (right - left >= this.roomForWords) this.captions.push({ index, x0: left, x1: right, row: this.row });
      },
      bin: (x, count, filled, longest) => {
        const top = y1 - Math.max(1, Math.round(height * barHeight(filled)));
        raster.fill(x, top, x + 1, y1, shades[colour[trace.name[longest]!]!]![barLevel(count)]!);
      },
    };
  }

  /** Idle gaps behind the rows of a GPU. */
  idle(shades: Shades): void {
    const gaps = this.row.kind === "gpu" && this.scene.gaps.get(this.scene.trace.lanes[this.row.lanes[0]!]!.process);
    if (!gaps) return;
    const { raster, y0, y1 } = this;
    scan(gaps, 0, gaps.start.length, this.frame.window, {
      span: (_, x0, x1) => {
        const [left, right] = [Math.floor(x0), Math.ceil(x1)];
        raster.fill(left, y0, right, y1, shades.idle[LEVELS]!);
        raster.hatch(left, y0, right, y1, shades.stripe[LEVELS]!);
      },
      bin: (x, _, filled) => raster.fill(x, y0, x + 1, y1, shades.idle[Math.round(LEVELS * Math.min(1, filled))]!),
    });
  }

  emphasize(lane: number, emphasis: Uint32Array, shades: Uint32Array[]): void {
    const { trace, colour } = this.scene;
    const { start, scale, width } = this.frame.window;
    const from = firstWhere(0, emphasis.length, (k) => emphasis[k]! >= trace.first[lane]!);
    const to = firstWhere(from, emphasis.length, (k) => emphasis[k]! >= trace.first[lane + 1]!);
    let drawn = -1;
    for (let k = firstWhere(from, to, (each) => trace.end[emphasis[each]!]! > start); k < to; k++) {
      const index = emphasis[k]!;
      const x0 = (trace.start[index]! - start) * scale;
      if (x0 >= width) return;
      const [left, right] = edges(x0, (trace.end[index]! - start) * scale);
      if (right - 1 === drawn) continue;
      drawn = right - 1;
      this.raster.fill(left, this.y0, right, this.y1, shades[colour[trace.name[index]!]!]![LEVELS]!);
    }
  }
}

/** Whole pixels of a span: at least one; a wide one leaves its last free, to be told from the next. */
function edges(x0: number, x1: number): [number, number] {
  const left = Math.max(-1, Math.floor(x0));
  const right = Math.max(left + 1, Math.round(x1));
  return [left, right - left > 3 ? right - 1 : right];
}

/** Of the row, for spans that fill this share of their pixel: never nothing. */
export function barHeight(filled: number): number {
  return 0.3 + 0.7 * Math.min(1, filled);
}

/** Strength by count: 1 is visible, 16 are full. */
export function barLevel(count: number): number {
  return Math.min(LEVELS, 4 + Math.round(Math.log2(count)));
}
