// The dashboard of an endpoint. Its Python side is nbserve/notebook/widgets/dashboard.py.

import uplotStyle from "uplot/dist/uPlot.min.css";

import { h, put, say } from "../dom";
import type { Rendered } from "../model";
import { watchSight, watchTheme } from "../sight";
import { hidingTwin } from "../twin";
import { Actions } from "./actions";
import { Failures } from "./failures";
import { Jobs } from "./jobs";
import { Batches, Log, Metrics, Stages, Statuses, Tiles, Workers } from "./panels";
import { readingText, scrolled, snippet } from "./results";
import { add } from "./series";
import style from "./style.css";
import { TryIt } from "./tryit";
import type { Facts, Message, Now, Point, Traits } from "./types";

/** Every so many updates the kernel hears that somebody still looks. */
const SEEN_EVERY = 5;

function render({ model, el }: Rendered<Traits>): () => void {
  let points: Point[] = [];
  let updates = 0;
  let isInSight = false;
  const facts = (): Facts => model.get("facts");
  const now = (): Now | undefined => (model.get("now").point ? (model.get("now") as Now) : undefined);

  const jobs = new Jobs(model);
  const actions = new Actions(model, jobs, facts);
  const tiles = new Tiles();
  const stages = new Stages();
  const batches = new Batches(() => facts().max_batch_size);
  const statuses = new Statuses();
  const workers = new Workers();
  const metrics = new Metrics();
  const log = new Log();
  const tryIt = new TryIt(jobs);
  const failures = new Failures(jobs);
  const name = h("h3", {});
  const version = h("span", { class: "jp-nbserve-faint" });
  const state = h("span", {});
  const head = h("div", { class: "jp-nbserve-title" }, name, version, state);
  const url = h("code", {});
  const lines = h("div", { class: "jp-nbserve-lines" });
  const notes = h("div", { role: "status" });
  const more = h("div", {});

  const root = h(
    "div",
    { class: "jp-nbserve-dashboard", role: "region", "aria-label": `Dashboard of ${facts().name}` },
    h("style", {}, uplotStyle, style, hidingTwin(model.get("twin"))),
    h("div", { class: "jp-nbserve-head" }, h("div", {}, head, url), actions.buttons),
    lines,
    notes,
    actions.place,
    tiles.element,
    h("div", { class: "jp-nbserve-columns" }, stages.element, batches.element),
    statuses.element,
    failures.element,
    workers.element,
    metrics.element,
    h("details", { class: "jp-nbserve-tryit" }, h("summary", {}, "Try it"), tryIt.element),
    log.element,
    more,
  );
  root.dataset.jpSuppressContextMenu = "true"; // copy from it with the browser's own menu
  el.append(root);

  const drawState = () => {
    const shown = model.get("ended") ? "ended" : (now()?.state ?? facts().state).toLowerCase();
    const kind = shown === "ended" || shown === "failed" ? "bad" : shown === "ready" ? "good" : "poor";
    say(state, shown);
    state.className = `jp-nbserve-state jp-nbserve-state-${kind}`;
  };

  const drawFacts = () => {
    const known = facts();
    const ended = model.get("ended");
    say(name, known.name);
    say(version, `version ${known.version}`);
    say(url, known.url);
    drawState();
    put(lines, ...known.lines.map(([label, text]) => h("span", {}, h("b", {}, label), ` ${text}`)), snapshot(known));
    putOther(notes, [ended, known.warnings, known.errors], () => [
      ended && h("div", { class: "jp-nbserve-bad" }, ended),
      ...known.warnings.map((text) => h("div", { class: "jp-nbserve-poor" }, text)),
      known.errors.length > 0 && errorText(known.errors.join("\n")),
    ]);
    putOther(more, [known.entries, known.curl, known.python], () => [
      captured(known),
      request("curl", known.curl),
      request("Python", known.python),
    ]);
    actions.update(known, now());
    if (ended) actions.end();
    tryIt.update(known);
  };

  const draw = () => {
    const current = now();
    tiles.update(points, current);
    if (!current) return;
    drawState();
    stages.update(current);
    batches.update(current);
    statuses.update(current);
    failures.update(current);
    workers.update(current, facts());
    metrics.update(current.handler);
    actions.update(facts(), current);
  };

  const onNow = () => {
    const current = now();
    if (current) points = add(points, current.point);
    draw();
    updates += 1;
    if (isInSight && updates % SEEN_EVERY === 0) model.send({ kind: "seen" });
  };
  const onState = () => {
    drawFacts();
    draw();
  };
  const onMessage = (message: Message) => {
    if (message.kind === "job") jobs.hear(message);
    else if (message.kind === "log") log.add(message.lines);
    else {
      points = message.points.reduce(add, [] as Point[]);
      log.add(message.lines, true);
      draw();
    }
  };
  model.on("change:now", onNow);
  model.on("change:facts", onState);
  model.on("change:ended", drawFacts);
  model.on("msg:custom", onMessage);

  const view = Math.random().toString(36).slice(2);
  const endSight = watchSight(root, (inSight) => {
    isInSight = inSight;
    model.send({ kind: "view", view, in_sight: inSight });
  });
  const endTheme = watchTheme(() => tiles.redraw());
  model.send({ kind: "hello" });
  drawFacts();
  onNow();

  return () => {
    endSight();
    endTheme();
    model.off("change:now", onNow);
    model.off("change:facts", onState);
    model.off("change:ended", drawFacts);
    model.off("msg:custom", onMessage);
    actions.destroy();
    jobs.destroy();
    tiles.destroy();
    tryIt.destroy();
  };
}

function snapshot(facts: Facts): HTMLElement | null {
  if (!facts.snapshot) return null;
  const changed = facts.changed.map((line) => `; ${line.replace(/^snapshot of [^;]*; /, "")}`).join("");
  return h("span", { class: changed ? "jp-nbserve-poor" : "" }, h("b", {}, "snapshot"), ` of ${facts.snapshot}${changed}`);
}

function captured(facts: Facts): HTMLElement | null {
  if (!facts.entries.length) return null;
  const head = h("thead", {}, h("tr", {}, ...["name", "how", "from", "size"].map((text) => h("th", { scope: "col" }, text))));
  const rows = facts.entries.map((entry) => h("tr", {}, ...entry.map((text) => h("td", {}, text))));
  const table = h("table", {}, head, h("tbody", {}, ...rows));
  return h("details", {}, h("summary", {}, `Captured: ${rows.length}`), scrolled("captured", table));
}

const shownKeys = new WeakMap<HTMLElement, string>();

/** Replaces what is in an element where `key` is another than the last time: what is open or has the focus stays. */
function putOther(element: HTMLElement, key: unknown, make: () => (Node | string | null | false)[]): void {
  const known = JSON.stringify(key);
  if (shownKeys.get(element) === known) return;
  shownKeys.set(element, known);
  put(element, ...make());
}

function errorText(text: string): HTMLElement {
  const shown = readingText("error", text);
  shown.classList.add("jp-nbserve-error");
  return shown;
}

function request(title: string, text: string): HTMLElement {
  return h("details", {}, h("summary", {}, title), snippet(title, text, false));
}

export default { render };
