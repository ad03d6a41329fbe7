// A job while it goes on: how far it is, in words and as a bar, and the lines that it prints. Made by actions.ts.

import { h, say } from "../dom";
import { WAITS } from "./jobs";
import { Tail } from "./tail";
import type { Progress } from "./types";

const MOST_LINES = 500;

export class Running {
  readonly element: HTMLElement;
  private readonly status = h("p", { role: "status" }, "asking the kernel …");
  private readonly bar: HTMLProgressElement;
  private readonly log = h("pre", { class: "jp-nbserve-log", role: "log", "aria-live": "off", tabindex: 0, hidden: true });
  private readonly tail = new Tail(MOST_LINES);

  /** `beside`: what can be done meanwhile. */
  constructor(title: string, ...beside: HTMLElement[]) {
    this.bar = h("progress", { max: 1, "aria-label": title });
    this.log.setAttribute("aria-label", `${title}: lines`);
    const row = beside.length > 0 && h("div", { class: "jp-nbserve-row" }, ...beside);
    this.element = h("div", {}, this.status, this.bar, this.log, row);
  }

  accepted(): void {
    say(this.status, "working …");
  }

  waits(): void {
    say(this.status, WAITS);
  }

  hear(progress: Progress): void {
    if (progress.text !== undefined) say(this.status, progress.text);
    if (typeof progress.done === "number") this.bar.value = progress.done;
    if (!progress.lines.length) return;
    const follows = this.log.hidden || this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 4;
    this.tail.add(progress.lines, progress.left_out);
    this.log.hidden = false;
    say(this.log, this.tail.text());
    if (follows) this.log.scrollTop = this.log.scrollHeight;
  }

  /** What is left of it when it is over; nothing where it printed nothing. */
  record(open: boolean): HTMLElement[] {
    if (this.log.hidden) return [];
    const summary = h("summary", {}, `Log: ${this.tail.count} lines`);
    const text = h("pre", { class: "jp-nbserve-log", tabindex: 0, "aria-label": "log of what was done" }, this.tail.text());
    const details = h("details", { open }, summary, text);
    if (open) requestAnimationFrame(() => (text.scrollTop = text.scrollHeight));
    return [details];
  }
}
