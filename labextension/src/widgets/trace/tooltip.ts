// What is said of the span under the pointer, beside it. Owned by view.ts.

import { element } from "./dom";

export class Tooltip {
  readonly node = element("div", { class: "jp-nbserve-trace-tooltip", role: "tooltip", hidden: true });

  /** Lines at a point of a canvas, both within the view's own element. */
  show(lines: string[], canvas: HTMLElement, x: number, y: number): void {
    this.node.replaceChildren(...lines.map((text) => element("div", { text })));
    this.node.hidden = false;
    const inner = canvas.getBoundingClientRect();
    const outer = (this.node.parentElement ?? canvas).getBoundingClientRect();
    const left = Math.min(inner.left - outer.left + x + 14, outer.width - this.node.offsetWidth - 4);
    this.node.style.left = `${Math.max(0, left)}px`;
    this.node.style.top = `${inner.top - outer.top + y + 18}px`;
  }

  hide(): void {
    this.node.hidden = true;
  }
}
