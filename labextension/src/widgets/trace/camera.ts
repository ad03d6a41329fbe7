// Which range of time is in sight, and the way from one to the next. Owned by view.ts.

import { isStill } from "./dom";
import { between, clamp, pan, zoom, type Range } from "./viewport";

const GLIDE_MS = 180;

export class Camera {
  private visible: Range;
  private gliding = 0;

  constructor(
    private readonly total: number,
    first: Range,
    private readonly moved: () => void,
  ) {
    this.visible = clamp(first, total);
  }

  get range(): Range {
    return this.visible;
  }

  /** `smooth`: step by step, unless the reader wants less motion. */
  show(range: Range, smooth = false): void {
    cancelAnimationFrame(this.gliding);
    const goal = clamp(range, this.total);
    if (smooth && !isStill()) return this.glide(this.visible, goal, performance.now());
    this.visible = goal;
    this.moved();
  }

  panBy(share: number): void {
    this.show(pan(this.visible, share, this.total));
  }

  zoomBy(factor: number, at = (this.visible.from + this.visible.to) / 2): void {
    this.show(zoom(this.visible, factor, at, this.total));
  }

  stop(): void {
    cancelAnimationFrame(this.gliding);
  }

  private glide(from: Range, to: Range, began: number): void {
    const part = Math.min(1, (performance.now() - began) / GLIDE_MS);
    if (part === 1) return this.show(to);
    this.visible = clamp(between(from, to, 1 - (1 - part) ** 3), this.total);
    this.moved();
    this.gliding = requestAnimationFrame(() => this.glide(from, to, began));
  }
}
