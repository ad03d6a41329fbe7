// Mouse, wheel and keys on the timeline -> what the view is to do. Owned by view.ts.

import type { Range } from "./viewport";

/** What the view lets its controls do. Points are CSS pixels of the canvas. */
export interface Actions {
  range(): Range;
  total(): number;
  /** `smooth`: moved there step by step, unless the reader wants less motion. */
  show(range: Range, smooth?: boolean): void;
  panBy(share: number): void;
  zoomBy(factor: number, x?: number): void;
  scrollBy(pixels: number): void;
  timeAt(x: number): number;
  hover(x: number, y: number): void;
  leave(): void;
  choose(x: number, y: number): void;
  zoomTo(x: number, y: number): void;
  zoomToChosen(): void;
  step(side: 1 | -1): void;
  stepLane(side: 1 | -1): void;
  marquee(x0: number, y0: number, x1: number, y1: number): void;
  select(x0: number, y0: number, x1: number, y1: number): void;
  selectVisible(): void;
  /** All threads, between two places of the axis. */
  selectTime(x0: number, x1: number, done: boolean): void;
  clear(): void;
  nextHit(side: 1 | -1): void;
  focusSearch(): void;
}

const DRAG = 4; // pixels before a press is a drag
const WHEEL = 0.0016; // of a zoom, per pixel of a wheel
const LINE = 16; // pixels of a line, where a wheel counts lines

export const HELP =
  "W and S or plus and minus zoom, A and D or left and right pan, up and down scroll, 0 shows all. " +
  "Shift with an arrow chooses the next span or lane, Enter zooms to it. M selects what is visible, Escape clears. " +
  "N and P go through what was found. A slash goes to the search.";

export function listen(canvas: HTMLCanvasElement, axis: HTMLCanvasElement, actions: Actions): void {
  canvas.addEventListener("wheel", (event) => wheel(event, canvas, actions), { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (!event.altKey && !event.metaKey && !event.ctrlKey && key(event, actions)) {
      event.preventDefault();
      event.stopPropagation(); // the notebook has commands of its own on these keys
    }
  });
  canvas.addEventListener("dblclick", (event) => actions.zoomTo(event.offsetX, event.offsetY));
  canvas.addEventListener("pointerleave", () => actions.leave());
  press(canvas, actions);
  pressAxis(axis, actions);
}

/** Keys in the view are not the notebook's, except that it saves from anywhere: what is around the view gets that. */
export function passSaving(node: HTMLElement): void {
  const pass = (event: KeyboardEvent): void => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "s") return;
    event.preventDefault();
    event.stopPropagation();
    node.parentElement?.dispatchEvent(new KeyboardEvent("keydown", event));
  };
  node.addEventListener("keydown", pass, { capture: true });
}

function wheel(event: WheelEvent, canvas: HTMLCanvasElement, actions: Actions): void {
  if (!event.ctrlKey && !canvas.matches(":focus")) return; // the page scrolls
  event.preventDefault();
  const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1;
  const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
  if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) actions.panBy((dx || dy) / canvas.clientWidth);
  else actions.zoomBy(Math.exp(dy * WHEEL * (event.ctrlKey ? 3 : 1)), event.offsetX);
}

/** Drag: pan. With shift: a rectangle that selects. A press that does not move: choose a span. */
function press(canvas: HTMLCanvasElement, actions: Actions): void {
  let from: { x: number; y: number; range: Range; shift: boolean; lastY: number } | null = null;
  let dragged = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const [x, y] = [event.offsetX, event.offsetY];
    from = { x, y, range: actions.range(), shift: event.shiftKey, lastY: event.clientY };
    dragged = false;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = [event.offsetX, event.offsetY];
    if (!from) return actions.hover(x, y);
    dragged ||= Math.abs(x - from.x) + Math.abs(y - from.y) > DRAG;
    if (!dragged) return;
    actions.leave();
    if (from.shift) return actions.marquee(from.x, from.y, x, y);
    const shift = ((from.x - x) / canvas.clientWidth) * (from.range.to - from.range.from);
    actions.show({ from: from.range.from + shift, to: from.range.to + shift });
    actions.scrollBy(from.lastY - event.clientY);
    from.lastY = event.clientY;
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!from) return;
    const start = from;
    from = null;
    if (!dragged) actions.choose(event.offsetX, event.offsetY);
    else if (start.shift) actions.select(start.x, start.y, event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointercancel", () => (from = null));
}

function pressAxis(axis: HTMLCanvasElement, actions: Actions): void {
  let from: number | null = null;
  axis.addEventListener("pointerdown", (event) => {
    axis.setPointerCapture(event.pointerId);
    from = event.offsetX;
  });
  axis.addEventListener("pointermove", (event) => {
    if (from !== null && Math.abs(event.offsetX - from) > DRAG) actions.selectTime(from, event.offsetX, false);
  });
  axis.addEventListener("pointerup", (event) => {
    if (from !== null && Math.abs(event.offsetX - from) > DRAG) actions.selectTime(from, event.offsetX, true);
    from = null;
  });
}

/** Whether the key means something here. */
function key(event: KeyboardEvent, actions: Actions): boolean {
  const choosing = event.shiftKey && event.key.startsWith("Arrow");
  const table: Record<string, () => void> = choosing
    ? {
        ArrowLeft: () => actions.step(-1),
        ArrowRight: () => actions.step(1),
        ArrowUp: () => actions.stepLane(-1),
        ArrowDown: () => actions.stepLane(1),
      }
    : {
        w: () => actions.zoomBy(0.7),
        "+": () => actions.zoomBy(0.7),
        "=": () => actions.zoomBy(0.7),
        s: () => actions.zoomBy(1 / 0.7),
        "-": () => actions.zoomBy(1 / 0.7),
        a: () => actions.panBy(-0.15),
        ArrowLeft: () => actions.panBy(-0.15),
        d: () => actions.panBy(0.15),
        ArrowRight: () => actions.panBy(0.15),
        ArrowUp: () => actions.scrollBy(-40),
        ArrowDown: () => actions.scrollBy(40),
        "0": () => actions.show({ from: 0, to: actions.total() }, true),
        Home: () => actions.show({ from: 0, to: actions.range().to - actions.range().from }),
        End: () =>
          actions.show({ from: actions.total() - (actions.range().to - actions.range().from), to: actions.total() }),
        Enter: () => actions.zoomToChosen(),
        m: () => actions.selectVisible(),
        Escape: () => actions.clear(),
        n: () => actions.nextHit(1),
        p: () => actions.nextHit(-1),
        "/": () => actions.focusSearch(),
      };
  const act = table[event.key] ?? table[event.key.toLowerCase()];
  act?.();
  return act !== undefined;
}
