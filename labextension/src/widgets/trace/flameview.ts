// The flame graph on a canvas: click or Enter zooms, arrows move, what is searched for stands out. Owned by panels.ts.

import { css, INK, mix, PALETTE, type Theme } from "./colours";
import { element, sized } from "./dom";
import { duration, percent, plural } from "./format";
import { boxes, matching, type Box, type Flame } from "./flame";

const ROW = 18;
const MOST_DEPTH = 60;

export class FlameView {
  readonly node = element("div", { class: "jp-nbserve-trace-flame" });
  private readonly canvas = element("canvas", {
    tabindex: 0,
    role: "application",
    "aria-roledescription": "flame graph",
  });
  private readonly words = element("div", { class: "jp-nbserve-trace-note", "aria-live": "polite" });
  private flame: Flame | null = null;
  private shown: Box[] = [];
  private zoomed = 0;
  private current = 0;
  private query = "";

  constructor(
    private readonly theme: () => Theme,
    /** Of a name, its place in the palette. */
    private readonly colourOf: (name: string) => number,
  ) {
    this.node.append(this.canvas, this.words);
    this.canvas.setAttribute("aria-label", "Flame graph. Arrow keys move, Enter zooms, Escape shows all.");
    this.canvas.addEventListener("click", (event) => this.zoom(this.nodeAt(event)));
    this.canvas.addEventListener("pointermove", (event) => this.look(this.nodeAt(event)));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("focus", () => this.draw());
    this.canvas.addEventListener("blur", () => this.draw());
  }

  show(flame: Flame): void {
    this.flame = flame;
    this.zoomed = this.current = 0;
    this.draw();
    this.say(0);
  }

  search(query: string): void {
    this.query = query;
    this.draw();
    this.say(this.current);
  }

  draw(): void {
    const width = this.node.clientWidth;
    if (!this.flame || !width) return;
    const theme = this.theme();
    this.shown = boxes(this.flame, this.zoomed, 0.5 / width).filter((box) => box.depth < MOST_DEPTH);
    const depth = this.shown.reduce((most, box) => Math.max(most, box.depth), 0);
    const context = sized(this.canvas, width, (depth + 1) * ROW);
    context.fillStyle = css(theme.background);
    context.fillRect(0, 0, width, (depth + 1) * ROW);
    context.font = `11px ${theme.font}`;
    context.textBaseline = "middle";
    const found = matching(this.flame, this.query).nodes;
    for (const box of this.shown) this.drawBox(context, box, width, theme, !this.query || found.has(box.node));
  }

  private drawBox(context: CanvasRenderingContext2D, box: Box, width: number, theme: Theme, lit: boolean): void {
    const [x, y] = [box.x0 * width, box.depth * ROW];
    const size = Math.max(0.5, (box.x1 - box.x0) * width - (box.x1 - box.x0 > 3 / width ? 1 : 0));
    const label = this.flame!.label[box.node]!;
    const isPlain = box.depth < 2;
    const colour = isPlain ? mix(theme.muted, theme.background, 0.35) : PALETTE[this.colourOf(label)]!;
    context.fillStyle = css(lit ? colour : mix(colour, theme.background, 0.28));
    context.fillRect(x, y, size, ROW - 1);
    if (size > 24) {
      context.fillStyle = isPlain ? css(theme.text) : lit ? INK : css(theme.muted);
      const fits = Math.floor((size - 8) / 5.8);
      context.fillText(
        label.length <= fits ? label : `${label.slice(0, Math.max(1, fits - 1))}…`,
        x + 4,
        y + ROW / 2,
        size - 8,
      );
    }
    if (box.node === this.current && this.canvas.matches(":focus")) {
      context.strokeStyle = css(theme.text);
      context.lineWidth = 2;
      context.strokeRect(x + 1, y + 1, Math.max(1, size - 2), ROW - 3);
    }
  }

  private nodeAt(event: MouseEvent): number {
    const share = event.offsetX / this.canvas.clientWidth;
    const depth = Math.floor(event.offsetY / ROW);
    return this.shown.find((box) => box.depth === depth && share >= box.x0 && share < box.x1)?.node ?? -1;
  }

  private zoom(node: number): void {
    if (node < 0) return;
    this.zoomed = this.current = node;
    this.draw();
    this.say(node);
  }

  private look(node: number): void {
    if (node >= 0) this.say(node);
    this.canvas.style.cursor = node >= 0 ? "pointer" : "default";
  }

  private say(node: number): void {
    const flame = this.flame;
    if (!flame) return;
    const share = flame.total[0]! > 0 ? flame.total[node]! / flame.total[0]! : 0;
    const calls = flame.calls[node] ? `, ${plural(flame.calls[node]!, "call")}` : "";
    const self = flame.calls[node] ? `, self ${duration(flame.self[node]!)}` : "";
    const found = this.query ? ` · “${this.query}”: ${percent(matching(flame, this.query).share)} of all` : "";
    this.words.textContent = `${flame.label[node]}: ${duration(flame.total[node]!)} (${percent(share)})${self}${calls}${found}`;
  }

  private key(event: KeyboardEvent): void {
    if (!this.flame || event.ctrlKey || event.altKey || event.metaKey) return;
    const moves: Record<string, () => number | undefined> = {
      ArrowUp: () => this.flame!.parent[this.current],
      ArrowDown: () => this.flame!.children[this.current]![0],
      ArrowLeft: () => this.sibling(-1),
      ArrowRight: () => this.sibling(1),
    };
    if (event.key in moves) this.current = Math.max(0, moves[event.key]!() ?? this.current);
    else if (event.key === "Enter") this.zoomed = this.current;
    else if (event.key === "Escape") this.zoomed = this.current = 0;
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
    this.say(this.current);
  }

  private sibling(side: number): number | undefined {
    const siblings = this.flame!.children[this.flame!.parent[this.current]!];
    return siblings?.[siblings.indexOf(this.current) + side];
  }
}
