// The parts of the dashboard that show: each an element, and `update` with what the kernel says now.

import { h, put, say } from "../dom";
import { bars, meanSize } from "./batches";
import { Chart } from "./charts";
import { describe, layout } from "./cores";
import { deviceLoad, isScarce } from "./device";
import { bytes, clock, count, duration, percent } from "./format";
import { scrolled } from "./results";
import { columns } from "./series";
import { parts, type Part } from "./stages";
import type { Core, Facts, Now, Point, Series, Worker } from "./types";

/** Latencies that are older are shown with their time. */
const OLD_S = 10;

/** Requests a second, latencies, queue: a number and its last minutes each. */
export class Tiles {
  readonly element: HTMLElement;
  private readonly rate = new Tile("Requests / s", [{ label: "requests / s", colour: "--nbserve-blue", filled: true }], count);
  private readonly latency = new Tile(
    "Latency p50 · p99",
    [
      { label: "p50", colour: "--nbserve-blue" },
      { label: "p99", colour: "--nbserve-vermillion", dashed: true },
    ],
    (ms) => duration(ms).replace(" ", " "),
  );
  private readonly queue = new Tile("Queue", [{ label: "queue", colour: "--nbserve-green", filled: true }], count);

  constructor() {
    this.element = h("div", { class: "jp-nbserve-tiles" }, this.rate.element, this.latency.element, this.queue.element);
  }

  update(points: Point[], now: Now | undefined): void {
    const last = points[points.length - 1];
    const rate = last?.requests_per_s ?? 0;
    const errors = last?.errors_per_s ?? 0;
    this.rate.set(count(rate), errors > 0 ? `${count(errors)} errors / s` : "", columns(points, "requests_per_s"));
    const answered = [...points].reverse().find((point) => point.p50_ms !== null);
    const [p50, p99] = answered ? [duration(answered.p50_ms!), duration(answered.p99_ms!)] : ["–", "–"];
    const late = answered && last && last.at - answered.at > OLD_S ? ` at ${clock(answered.at)}` : "";
    this.latency.set(p50, `${p99}${late}`, columns(points, "p50_ms", "p99_ms"));
    const waiting = now?.queue_items ?? 0;
    this.queue.set(count(waiting), now?.queue_bytes ? bytes(now.queue_bytes) : "", columns(points, "queue"));
  }

  redraw(): void {
    for (const tile of [this.rate, this.latency, this.queue]) tile.chart.redraw();
  }

  destroy(): void {
    for (const tile of [this.rate, this.latency, this.queue]) tile.chart.destroy();
  }
}

class Tile {
  readonly element: HTMLElement;
  readonly chart: Chart;
  private readonly value = h("span", { class: "jp-nbserve-value" }, "–");
  private readonly beside = h("span", { class: "jp-nbserve-beside" });

  constructor(
    private readonly title: string,
    lines: ConstructorParameters<typeof Chart>[0],
    format: (value: number) => string,
  ) {
    this.chart = new Chart(lines, format);
    const head = h("div", { class: "jp-nbserve-tilehead" }, h("h4", {}, title), h("div", {}, this.value, this.beside));
    this.element = h("section", { class: "jp-nbserve-tile" }, head, this.chart.element);
  }

  set(value: string, beside: string, data: (number | null)[][]): void {
    say(this.value, value);
    say(this.beside, beside);
    this.chart.set(data, `${this.title} over the last minutes; now ${value} ${beside}`);
  }
}

/** A stacked bar with its legend; also for the answer of the try-it box. */
export function stageBar(stages: Record<string, number>, of: string): HTMLElement {
  const found = parts(stages);
  const total = found.reduce((sum, part) => sum + part.ms, 0);
  const bar = h("div", { class: "jp-nbserve-bar", role: "img", "aria-label": `${of}: ${found.map(told).join(", ")}` });
  for (const part of found) {
    const piece = h("span", { class: `jp-nbserve-piece jp-nbserve-stage-${knownStage(part.stage)}`, title: told(part) });
    piece.style.flexGrow = String(part.share);
    bar.append(piece);
  }
  const legend = h(
    "ul",
    { class: "jp-nbserve-legend" },
    ...found.map((part) =>
      h(
        "li",
        {},
        h("span", { class: `jp-nbserve-swatch jp-nbserve-stage-${knownStage(part.stage)}`, "aria-hidden": "true" }),
        `${part.label} `,
        h("b", {}, duration(part.ms)),
        h("span", { class: "jp-nbserve-faint" }, ` ${percent(part.share)}`),
      ),
    ),
  );
  return h("div", {}, h("div", { class: "jp-nbserve-total" }, `${duration(total)} ${of}`), bar, legend);
}

const STAGES = ["queue", "batch", "decode", "preprocess", "inference", "postprocess", "encode", "transport", "network"];

function knownStage(stage: string): string {
  return STAGES.includes(stage) ? stage : "other";
}

function told(part: Part): string {
  return `${part.label} ${duration(part.ms)} (${percent(part.share)})`;
}

/** Where the time of requests goes. */
export class Stages {
  readonly element = h("div", {});
  private readonly body = h("div", {});

  constructor() {
    put(this.element, h("h4", {}, "Where the time goes"), this.body);
  }

  update(now: Now): void {
    const { stages_ms, since_load, answered } = now.recent;
    if (!stages_ms || !answered) {
      put(this.body, h("p", { class: "jp-nbserve-faint" }, "No request yet: try one below."));
      return;
    }
    const of = `a request on average, ${since_load ? "since it was loaded" : "last 30 s"} (${count(answered)} answers)`;
    put(this.body, stageBar(stages_ms, of));
  }
}

/** The batches that ran. */
export class Batches {
  readonly element = h("div", {});
  private readonly body = h("div", {});

  constructor(private readonly largest: () => number) {
    put(this.element, h("h4", {}, "Batch sizes"), this.body);
  }

  update(now: Now): void {
    const found = bars(now.recent.batch_sizes);
    if (!found.length) {
      put(this.body, h("p", { class: "jp-nbserve-faint" }, "No batch yet."));
      return;
    }
    const most = Math.max(...found.map((bar) => bar.batches));
    const mean = meanSize(now.recent.batch_sizes);
    const plot = h("div", {
      class: "jp-nbserve-histogram",
      role: "img",
      "aria-label": found.map((bar) => `${bar.batches} batches of ${bar.label}`).join(", "),
    });
    for (const bar of found) {
      const column = h("span", { class: "jp-nbserve-column", title: `${bar.batches} batches, ${bar.requests} requests` });
      const height = h("span", { class: "jp-nbserve-height" });
      height.style.height = `${bar.batches ? Math.max(2, (bar.batches / most) * 100) : 0}%`;
      put(column, h("span", { class: "jp-nbserve-up" }, height), h("span", {}, bar.label));
      plot.append(column);
    }
    const text = `${count(mean)} requests on average, ${this.largest()} at most`;
    put(this.body, h("div", { class: "jp-nbserve-total" }, text), plot);
  }
}

/** Answers by status, the errors among them. */
export class Statuses {
  readonly element = h("ul", { class: "jp-nbserve-statuses", "aria-label": "answers by status" });

  update(now: Now): void {
    const rows = Object.entries(now.requests).sort(([a], [b]) => Number(a) - Number(b));
    put(
      this.element,
      ...rows.map(([status, answers]) => {
        const late = now.recent.since_load ? 0 : (now.recent.statuses[status] ?? 0);
        const kind = Number(status) >= 500 ? "jp-nbserve-bad" : Number(status) >= 400 ? "jp-nbserve-poor" : "";
        const text = ` ${meaning(status)}${late ? `, ${count(late)} in the last 30 s` : ""}`;
        return h("li", { class: kind }, h("b", {}, `${count(answers)} × ${status}`), text);
      }),
    );
  }
}

const MEANINGS: Record<string, string> = {
  "200": "answered",
  "400": "bad request",
  "413": "body too large",
  "499": "client left",
  "500": "handler raised",
  "503": "refused",
  "504": "too slow",
  "507": "out of memory",
};

function meaning(status: string): string {
  return MEANINGS[status] ?? (Number(status) >= 500 ? "server error" : Number(status) >= 400 ? "client error" : "");
}

/** Each worker, and the cores that they are pinned to. */
export class Workers {
  readonly element = h("div", {});
  private readonly table = h("tbody", {});
  private readonly map = h("div", { class: "jp-nbserve-cores" });

  constructor() {
    const head = ["worker", "state", "CPU", "memory", "own", "shared", "device", "batches", "restarts"];
    put(
      this.element,
      h("h4", {}, "Workers"),
      scrolled(
        "workers",
        h("table", {}, h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))), this.table),
      ),
      this.map,
    );
  }

  update(now: Now, facts: Facts): void {
    const none = h("tr", {}, h("td", { colspan: 9, class: "jp-nbserve-faint" }, "No worker runs."));
    put(this.table, ...(now.workers.length ? now.workers.map(workerRow) : [none]));
    put(this.map, ...coreMap(facts.cores, now.workers, facts.reserved));
  }
}

function workerRow(worker: Worker): HTMLElement {
  const used = worker.cores_used;
  const { resident_bytes: resident, own_bytes: own } = worker;
  const shared = resident === null || own === null ? null : Math.max(0, resident - own);
  const meter = h("span", { class: "jp-nbserve-meter" }, h("span", {}));
  (meter.firstElementChild as HTMLElement).style.width = `${Math.min(1, (used ?? 0) / Math.max(1, worker.threads)) * 100}%`;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, swatch(worker.id), `#${worker.id}`),
    h("td", {}, h("span", { class: `jp-nbserve-state jp-nbserve-state-${stateClass(worker.state)}` }, worker.state.toLowerCase())),
    h("td", {}, ...(used === null ? ["–"] : [meter, ` ${percent(used / Math.max(1, worker.threads))} of ${worker.threads}`])),
    h("td", {}, worker.total_bytes === null ? "–" : bytes(worker.total_bytes)),
    h("td", {}, worker.own_bytes === null ? "–" : bytes(worker.own_bytes)),
    h("td", {}, shared === null ? "–" : bytes(shared)),
    h("td", {}, ...deviceCell(worker)),
    h("td", {}, count(worker.batches)),
    h("td", {}, String(worker.restarts), worker.error && h("div", { class: "jp-nbserve-bad" }, worker.error)),
  );
}

function deviceCell(worker: Worker): (HTMLElement | string)[] {
  const load = deviceLoad(worker);
  if (!load) return [worker.device];
  const own = h("span", {});
  const others = h("span", { class: "jp-nbserve-others" });
  own.style.width = `${load.own * 100}%`;
  others.style.width = `${(load.taken - load.own) * 100}%`;
  const meter = h("span", { class: "jp-nbserve-meter jp-nbserve-stacked", role: "img", "aria-label": load.told, title: load.told }, own, others);
  return [`${worker.device} `, meter, " ", h("span", { class: isScarce(load) ? "jp-nbserve-bad" : "" }, load.text)];
}

function coreMap(cores: readonly Core[], workers: readonly Worker[], reserved: readonly number[]): HTMLElement[] {
  const groups = layout(cores, workers, reserved);
  const nodes = new Set(groups.map((group) => group.node));
  const cells = groups.flatMap((group) => group.cores.flat());
  const marks = [
    cells.some((cell) => cell.owners.length === 1) && "the number is the worker's",
    cells.some((cell) => cell.owners.length > 1) && "∗ several workers",
    cells.some((cell) => !cell.owners.length && cell.reserved) && "= kept for gateway and notebook",
  ].filter((mark) => mark !== false);
  const legend = h("span", { class: "jp-nbserve-faint" }, ["cores of this machine", ...marks].join("; "));
  const boxes = groups.map((group) => {
    const cores = group.cores.map((cells) =>
      h(
        "span",
        { class: "jp-nbserve-core" },
        ...cells.map((cell) => {
          const owner = cell.owners[0];
          const kind =
            cell.owners.length > 1 ? "shared" : owner !== undefined ? `worker-${owner % 6}` : cell.reserved ? "kept" : "free";
          const mark = cell.owners.length > 1 ? "∗" : owner !== undefined ? String(owner) : cell.reserved ? "=" : "";
          return h("span", { class: `jp-nbserve-cell jp-nbserve-${kind}`, title: describe(cell) }, mark);
        }),
      ),
    );
    const name = `${nodes.size > 1 ? `node ${group.node}, ` : ""}cores with one L3 cache`;
    const told = group.cores.flat().map(describe).join("; ");
    return h("div", { class: "jp-nbserve-group", role: "img", "aria-label": `${name}: ${told}`, title: name }, ...cores);
  });
  return cells.length ? [...boxes, legend] : [];
}

function swatch(worker: number): HTMLElement {
  return h("span", { class: `jp-nbserve-swatch jp-nbserve-worker-${worker % 6}`, "aria-hidden": "true" });
}

function stateClass(state: string): string {
  return { READY: "good", BUSY: "good", FAILED: "bad", STOPPED: "bad" }[state] ?? "poor";
}

/** The handler's own metrics; absent where it has none. */
export class Metrics {
  readonly element = h("div", { hidden: true });
  private readonly table = h("tbody", {});

  constructor() {
    put(this.element, h("h4", {}, "The handler's own metrics"), scrolled("the handler's own metrics", h("table", {}, this.table)));
  }

  update(series: Series[]): void {
    this.element.hidden = series.length === 0;
    put(this.table, ...series.map(metricRow));
  }
}

function metricRow(series: Series): HTMLElement {
  const labels = Object.entries(series.labels ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(", ");
  const value = series.value ?? 0;
  const shown =
    series.kind === "histogram"
      ? `${count(value / Math.max(1, series.count ?? 0))} on average of ${count(series.count ?? 0)}`
      : count(value);
  return h(
    "tr",
    {},
    h("th", { scope: "row", title: series.help ?? "" }, series.name),
    h("td", { class: "jp-nbserve-faint jp-nbserve-labels" }, labels),
    h("td", {}, h("b", {}, shown)),
    h("td", { class: "jp-nbserve-faint" }, series.kind),
  );
}

/** The last lines that the handlers printed; it follows them while it is scrolled to its end. */
export class Log {
  readonly element: HTMLDetailsElement;
  private readonly text = h("pre", { class: "jp-nbserve-log", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "log" });
  private readonly summary = h("summary", {}, "Log");
  private lines: string[] = [];

  constructor() {
    this.element = h("details", { hidden: true }, this.summary, this.text);
  }

  /** `lines` come after those there are, or in their place. */
  add(lines: string[], replace = false): void {
    this.lines = [...(replace ? [] : this.lines), ...lines].slice(-LOG_LINES);
    this.element.hidden = this.lines.length === 0;
    if (!this.lines.length) return;
    const atEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 4;
    say(this.text, this.lines.join("\n"));
    say(this.summary, `Log: ${this.lines.length} ${this.lines.length === 1 ? "line" : "last lines"}`);
    if (atEnd) this.text.scrollTop = this.text.scrollHeight;
  }
}

const LOG_LINES = 300;
