// The column left of the timeline: a button for each process that folds its group, a label for each thread.
// Owned by view.ts.

import { element } from "./dom";
import type { Layout } from "./lanes";

export class Labels {
  readonly node = element("div", { class: "jp-nbserve-trace-labels" });

  constructor(private readonly toggle: (process: string) => void) {}

  show(layout: Layout): void {
    const focused = this.node.contains(document.activeElement)
      ? (document.activeElement as HTMLElement).dataset["process"]
      : undefined;
    this.node.style.height = `${layout.height}px`;
    this.node.replaceChildren();
    for (const group of layout.groups) {
      const button = element("button", {
        class: "jp-nbserve-trace-process",
        type: "button",
        style: `top: ${group.y}px`,
        "aria-expanded": String(!group.folded),
        title: group.process,
        click: () => this.toggle(group.process),
      });
      button.dataset["process"] = group.process;
      button.append(element("span", { "aria-hidden": "true", text: group.folded ? "▸" : "▾" }), ` ${group.process}`);
      this.node.append(button);
      for (const box of group.threads) {
        const style = `top: ${box.y}px; max-height: ${box.height}px`;
        this.node.append(
          element("div", { class: "jp-nbserve-trace-thread", style, title: box.label, text: box.label }),
        );
      }
      if (group.process === focused) button.focus();
    }
  }
}
