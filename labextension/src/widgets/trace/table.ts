// The table of operators of a selection: sortable, as text for everybody. Owned by panels.ts.

import { element } from "./dom";
import { count, duration, percent, plural } from "./format";
import { sorted, type Column, type Operator } from "./select";
import type { Kind, Trace } from "./trace";
import { shapesOf } from "./words";

const MOST_ROWS = 100;
const HEADS: [Column | "on" | "shapes", string][] = [
  ["name", "operator"],
  ["on", "on"],
  ["self", "self"],
  ["total", "total"],
  ["calls", "calls"],
  ["shapes", "shapes"],
];
const ON: Record<Kind, string> = { gateway: "gateway", cpu: "CPU", gpu: "GPU" };

export class OperatorTable {
  readonly node = element("div", { class: "jp-nbserve-trace-table" });
  private rows: Operator[] = [];
  private by: Column = "self";
  private descending = true;

  constructor(
    private readonly trace: Trace,
    /** Search for a name. */
    private readonly find: (name: string) => void,
  ) {}

  show(rows: Operator[]): void {
    this.rows = rows;
    this.render();
  }

  private sortBy(column: Column): void {
    this.descending = this.by === column ? !this.descending : column !== "name";
    this.by = column;
    this.render();
    this.node.querySelector<HTMLElement>(`[data-column="${column}"]`)?.focus();
  }

  private render(): void {
    const all = new Map<Kind, number>();
    for (const row of this.rows) all.set(row.kind, (all.get(row.kind) ?? 0) + row.self);
    const shown = sorted(this.trace, this.rows, this.by, this.descending).slice(0, MOST_ROWS);
    const head = element("tr", {}, ...HEADS.map(([column, label]) => this.head(column, label)));
    const body = element("tbody", {}, ...shown.map((row) => this.row(row, all.get(row.kind)!)));
    this.node.replaceChildren(element("table", { "aria-label": "Operators" }, element("thead", {}, head), body));
    const left = this.rows.length - shown.length;
    if (left > 0)
      this.node.append(
        element("div", { class: "jp-nbserve-trace-note", text: `and ${plural(left, "operator")} more` }),
      );
    if (!this.rows.length)
      this.node.replaceChildren(element("div", { class: "jp-nbserve-trace-note", text: "no spans here" }));
  }

  private head(column: Column | "on" | "shapes", label: string): HTMLElement {
    if (column === "shapes" || column === "on")
      return element("th", { scope: "col", class: "jp-nbserve-trace-word", text: label });
    const active = this.by === column;
    const mark = active ? (this.descending ? " ▾" : " ▴") : "";
    const button = element("button", {
      type: "button",
      text: label + mark,
      "data-column": column,
      click: () => this.sortBy(column),
    });
    const order = active ? (this.descending ? "descending" : "ascending") : "none";
    return element("th", { scope: "col", "aria-sort": order }, button);
  }

  /** `all`: own times of all operators of its kind. */
  private row(row: Operator, all: number): HTMLElement {
    const name = this.trace.names[row.name]!;
    const share = all > 0 ? row.self / all : 0;
    const link = element("button", { type: "button", title: `Find ${name}`, text: name, click: () => this.find(name) });
    const bar = element("span", {
      class: "jp-nbserve-trace-share",
      style: `width: ${(100 * share).toFixed(1)}%`,
      "aria-hidden": "true",
    });
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, link),
      element("td", { class: "jp-nbserve-trace-word", text: ON[row.kind] }),
      element(
        "td",
        { class: "jp-nbserve-trace-self" },
        bar,
        element("span", { text: `${duration(row.self)} (${percent(share)})` }),
      ),
      element("td", { text: duration(row.total) }),
      element("td", { text: count(row.calls) }),
      this.shapes(row),
    );
  }

  private shapes(row: Operator): HTMLElement {
    const found = new Map<string, number>();
    for (const [detail, time] of row.details.slice(0, MOST_ROWS)) {
      const shapes = shapesOf(this.trace.details[detail]!);
      if (shapes) found.set(shapes, (found.get(shapes) ?? 0) + time);
    }
    const [first, ...others] = [...found].sort((a, b) => b[1] - a[1]);
    if (!first) return element("td");
    const all = [first, ...others].map(([shapes, time]) => `${shapes}: ${duration(time)}`).join("\n");
    const more = others.length ? ` +${others.length}` : "";
    return element("td", { class: "jp-nbserve-trace-word jp-nbserve-trace-shapes", title: all, text: first[0] + more });
  }
}
