// Below the timeline: operators, flame graph and threads of what is selected, as tabs; one of them at a time is made.
// Owned by view.ts.

import type { Theme } from "./colours";
import { element } from "./dom";
import { fold } from "./flame";
import { FlameView } from "./flameview";
import { duration } from "./format";
import type { Scene } from "./raster";
import { everything, operators, type Selection } from "./select";
import { OperatorTable } from "./table";
import type { Trace } from "./trace";
import { threadRows } from "./words";

const TABS = ["Operators", "Flame graph", "Threads"] as const;
export type Tab = (typeof TABS)[number];

let made = 0; // for ids: a page may hold several views

export class Panels {
  readonly node = element("div", { class: "jp-nbserve-trace-panels" });
  private readonly trace: Trace;
  private readonly table: OperatorTable;
  private readonly flame: FlameView;
  /** Of the panel; others on the page begin with it. */
  readonly id = `jp-nbserve-trace-panel-${made++}`;
  private readonly panel = element("div", { role: "tabpanel", tabindex: 0, id: this.id });
  private readonly caption = element("span", { class: "jp-nbserve-trace-note" });
  private readonly buttons: HTMLButtonElement[];
  private selection: Selection | null = null;

  constructor(
    scene: Scene,
    theme: () => Theme,
    find: (name: string) => void,
    private tab: Tab,
  ) {
    this.trace = scene.trace;
    this.table = new OperatorTable(this.trace, find);
    const colours = new Map(this.trace.names.map((name, at) => [name, scene.colour[at]!]));
    this.flame = new FlameView(theme, (name) => colours.get(name) ?? 0);
    this.buttons = TABS.map((tab) => {
      return element("button", {
        type: "button",
        role: "tab",
        text: tab,
        "aria-controls": this.id,
        click: () => this.open(tab),
      });
    });
    const tabs = element("div", { role: "tablist", "aria-label": "About the selection" }, ...this.buttons);
    tabs.addEventListener("keydown", (event) => this.key(event));
    this.node.append(element("div", { class: "jp-nbserve-trace-tabs" }, tabs, this.caption), this.panel);
  }

  /** Of a selection; null: of the whole trace. */
  show(selection: Selection | null): void {
    this.selection = selection;
    this.open(this.tab);
  }

  search(query: string): void {
    this.flame.search(query);
  }

  redraw(): void {
    this.flame.draw();
  }

  private open(tab: Tab): void {
    this.tab = tab;
    this.buttons.forEach((button) => {
      const chosen = button.textContent === tab;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    });
    this.panel.setAttribute("aria-label", tab);
    const selection = this.selection ?? everything(this.trace);
    this.caption.textContent = this.selection
      ? `of the selected ${duration(selection.to - selection.from)}`
      : "of the whole trace";
    if (tab === "Operators") {
      this.table.show(operators(this.trace, selection));
      this.panel.replaceChildren(this.table.node);
    } else if (tab === "Flame graph") {
      this.panel.replaceChildren(this.flame.node);
      this.flame.show(fold(this.trace, selection));
    } else {
      this.caption.textContent = "of the whole trace";
      this.panel.replaceChildren(threadTable(this.trace));
    }
  }

  private key(event: KeyboardEvent): void {
    const side = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!side) return;
    event.stopPropagation();
    const next = (TABS.indexOf(this.tab) + side + TABS.length) % TABS.length;
    this.open(TABS[next]!);
    this.buttons[next]!.focus();
  }
}

function threadTable(trace: Trace): HTMLElement {
  const cells = (tag: "th" | "td", words: string[]) => words.map((text) => element(tag, { text }));
  const head = element("tr", {}, ...cells("th", ["process", "thread", "spans", "busy", "of the trace"]));
  const rows = threadRows(trace).map((row) => element("tr", {}, ...cells("td", row)));
  const table = element(
    "table",
    { "aria-label": "Threads" },
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
  return element("div", { class: "jp-nbserve-trace-table" }, table);
}
