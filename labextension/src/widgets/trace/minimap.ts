// The whole trace in one strip: how busy each moment is, and which part is visible; dragging moves that part.
// Owned by view.ts.

import { css, mix, type Theme } from "./colours";
import { element, sized } from "./dom";
import type { Kind, Trace } from "./trace";
import { clamp, type Range } from "./viewport";

export const MINIMAP = 34;
const BINS = 600;
const KINDS: Kind[] = ["cpu", "gpu"];

export class Minimap {
  readonly canvas = element("canvas", { "aria-hidden": "true", class: "jp-nbserve-trace-minimap" });
  private readonly loads: Float64Array[];

  constructor(
    private readonly trace: Trace,
    private readonly move: (range: Range) => void,
    private readonly current: () => Range,
  ) {
    this.loads = KINDS.map((kind) => load(trace, kind, BINS));
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => event.buttons === 1 && this.center(event));
  }

  draw(width: number, range: Range, theme: Theme): void {
    const context = sized(this.canvas, width, MINIMAP);
    context.fillStyle = css(mix(theme.raised, theme.background, 0.6));
    context.fillRect(0, 0, width, MINIMAP);
    const half = MINIMAP / 2;
    const step = width / BINS;
    this.loads.forEach((bins, at) => {
      context.fillStyle = css(at ? theme.brand : theme.muted, at ? 0.9 : 0.6);
      bins.forEach((share, bin) => {
        const height = share > 0 ? Math.max(1, share * (half - 2)) : 0;
        if (height) context.fillRect(bin * step, (at + 1) * half - height, Math.max(step, 0.5), height);
      });
    });
    const [x0, x1] = [(range.from / this.trace.total) * width, (range.to / this.trace.total) * width];
    context.fillStyle = css(theme.background, 0.55);
    context.fillRect(0, 0, x0, MINIMAP);
    context.fillRect(x1, 0, width - x1, MINIMAP);
    context.strokeStyle = css(theme.text, 0.8);
    context.lineWidth = 1;
    const size = Math.max(3, x1 - x0 - 1);
    context.strokeRect(Math.min(x0, width - size) + 0.5, 0.5, size, MINIMAP - 1);
  }

  private down(event: PointerEvent): void {
    this.canvas.setPointerCapture(event.pointerId);
    this.center(event);
  }

  private center(event: PointerEvent): void {
    const { from, to } = this.current();
    const at = (event.offsetX / this.canvas.clientWidth) * this.trace.total;
    this.move(clamp({ from: at - (to - from) / 2, to: at + (to - from) / 2 }, this.trace.total));
  }
}

/** Share of each bin in which the busiest thread of a kind is busy. */
export function load(trace: Trace, kind: Kind, bins: number): Float64Array {
  const most = new Float64Array(bins);
  for (const lanes of trace.threads) {
    const lane = lanes[0]!;
    if (trace.lanes[lane]!.kind !== kind) continue;
    const busy = new Float64Array(bins);
    for (let i = trace.first[lane]!; i < trace.first[lane + 1]!; i++) {
      spread(busy, (trace.start[i]! / trace.total) * bins, (trace.end[i]! / trace.total) * bins);
    }
    busy.forEach((share, bin) => (most[bin] = Math.max(most[bin]!, share)));
  }
  return most;
}

function spread(bins: Float64Array, from: number, to: number): void {
  for (let bin = Math.floor(from); bin < Math.min(to, bins.length); bin++) {
    bins[bin]! += Math.min(to, bin + 1) - Math.max(from, bin);
  }
}
