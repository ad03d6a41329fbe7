// The buttons, the form of `promote`, and the place where their progress and result are shown.

import { form, h, OWN_KEYS, put, say } from "../dom";
import { bytes } from "./format";
import { type Job, type Jobs, WAITS } from "./jobs";
import type { Facts, Layer, Now, Result } from "./types";

export class Actions {
  readonly buttons: HTMLElement;
  /** Forms, progress and results. */
  readonly place = h("div", { class: "jp-nbserve-place", ...OWN_KEYS });
  private readonly rollback: HTMLButtonElement;
  private readonly profile: HTMLButtonElement;
  private readonly all: HTMLButtonElement[];
  private workers = 1;

  constructor(
    private readonly jobs: Jobs,
    private readonly facts: () => Facts,
  ) {
    const button = (text: string, title: string, press: () => void) =>
      h("button", { type: "button", title, onclick: press }, text);
    this.profile = button("Profile", "What the workers spend their time on", () => this.act("profile", {}));
    this.rollback = button("Roll back", "Serve the version before this one again", () =>
      this.confirm(`Serve version ${this.facts().kept[0]} again?`, "Roll back", () => this.act("rollback", {})),
    );
    this.all = [
      button("Bench", "Measure it: ten seconds of load", () => this.act("bench", {})),
      this.profile,
      button("Advice", "What rules say of its counters", () => this.act("advise", {})),
      button("Scale", "Run more or fewer workers", () => this.scaleForm()),
      this.rollback,
      button("Promote", "Make a container image of it, and prove it", () => this.promoteForm()),
      button("Stop", "Finish what is in hand, then stop serving", () =>
        this.confirm(`Stop ${this.facts().name}?`, "Stop", () => this.act("stop", {})),
      ),
    ];
    this.buttons = h("div", { class: "jp-nbserve-buttons", role: "group", "aria-label": "actions", ...OWN_KEYS }, ...this.all);
  }

  update(facts: Facts, now: Now | undefined): void {
    this.rollback.hidden = facts.kept.length === 0;
    this.profile.hidden = !facts.can_profile;
    if (now) this.workers = now.workers.filter((one) => !["STOPPED", "FAILED"].includes(one.state)).length || 1;
  }

  /** It is served no more. */
  end(): void {
    for (const button of this.all) button.disabled = true;
  }

  private confirm(question: string, verb: string, act: () => void): void {
    const yes = h("button", { type: "button", class: "jp-nbserve-primary", onclick: act }, verb);
    put(this.place, panel(question, h("div", { class: "jp-nbserve-row" }, yes, this.closeButton("Cancel"))));
    yes.focus();
  }

  private scaleForm(): void {
    const input = h("input", { type: "number", min: 1, max: 1024, value: this.workers, "aria-label": "workers" });
    const asked = form(
      { class: "jp-nbserve-row" },
      () => this.act("scale", { workers: Number(input.value) }),
      input,
      h("button", { type: "submit", class: "jp-nbserve-primary" }, "Scale"),
      this.closeButton("Cancel"),
    );
    put(this.place, panel("How many workers?", asked));
    input.select();
  }

  private promoteForm(): void {
    const { tag, base_image, output } = this.facts().promote;
    const inputs = {
      tag: h("input", { type: "text", value: tag, spellcheck: "false" }),
      base_image: h("input", { type: "text", value: base_image, spellcheck: "false" }),
      output: h("input", { type: "text", value: output, spellcheck: "false" }),
    };
    const vendor = h("input", { type: "checkbox" });
    const build = h("input", { type: "checkbox", checked: true });
    const proof = h(
      "select",
      {},
      h("option", { value: "auto" }, "the image, or a clean environment where none can be built"),
      h("option", { value: "image" }, "the image"),
      h("option", { value: "venv" }, "a clean virtual environment"),
      h("option", { value: "off" }, "off: compare nothing"),
    );
    const field = (text: string, input: HTMLElement) => h("label", { class: "jp-nbserve-field" }, h("span", {}, text), input);
    const check = (text: string, input: HTMLElement) => h("label", { class: "jp-nbserve-check" }, input, text);
    const go = () => {
      const texts = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
      this.act("promote", { ...texts, vendor: vendor.checked, build: build.checked, proof: proof.value });
    };
    const asked = form(
      { class: "jp-nbserve-form" },
      go,
      field("Tag", inputs.tag),
      field("Base image", inputs.base_image),
      field("Folder of the build context", inputs.output),
      field("Proof: it must answer the sample as this does", proof),
      check("build the image, where docker or podman answers", build),
      check("put all wheels into the context: the build needs no index", vendor),
      h(
        "div",
        { class: "jp-nbserve-row" },
        h("button", { type: "submit", class: "jp-nbserve-primary" }, "Promote"),
        this.closeButton("Cancel"),
      ),
    );
    put(this.place, panel("Promote to an image", asked));
    inputs.tag.focus();
  }

  private closeButton(text: string): HTMLButtonElement {
    return h("button", { type: "button", onclick: () => put(this.place) }, text);
  }

  private act(action: string, params: Record<string, unknown>): void {
    const status = h("p", { role: "status" }, "asking the kernel …");
    const log = h("pre", { class: "jp-nbserve-log", role: "log", tabindex: 0, "aria-label": "progress", hidden: true });
    const bar = h("progress", { max: 1, "aria-label": action });
    const body = h("div", {}, bar, status, log);
    const title = { advise: "Advice", bench: "Bench", profile: "Profile", scale: "Scale", rollback: "Roll back", stop: "Stop" }[action];
    put(this.place, panel(title ?? "Promote to an image", body));
    const told: string[] = [];
    const job: Job = {
      accepted: () => say(status, "working …"),
      waits: () => say(status, WAITS),
      running: (text, done) => {
        say(status, text);
        if (done !== null) bar.value = done;
        if (action === "promote" && told[told.length - 1] !== text) {
          told.push(text);
          log.hidden = false;
          say(log, told.slice(-300).join("\n"));
          log.scrollTop = log.scrollHeight;
        }
      },
      done: (result) => put(body, ...resultParts(result), h("div", { class: "jp-nbserve-row" }, this.closeButton("Close"))),
      failed: (text, hint) => {
        const error = h("pre", { class: "jp-nbserve-error", role: "alert" }, hint ? `${text}\n→ ${hint}` : text);
        put(body, error, h("div", { class: "jp-nbserve-row" }, this.closeButton("Close")));
      },
    };
    this.jobs.start({ kind: "act", action, params }, job);
  }
}

function panel(title: string, ...body: HTMLElement[]): HTMLElement {
  return h("section", { class: "jp-nbserve-panel", "aria-label": title }, h("h4", {}, title), ...body);
}

function resultParts(result: Result): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (result.title) parts.push(h("p", { class: "jp-nbserve-verdict", role: "status" }, result.title));
  if (result.pictures?.length) {
    const pictures = result.pictures
      .filter(({ src }) => src.startsWith("data:image/"))
      .map(({ src, alt }) => h("img", { src, alt }));
    parts.push(h("div", { class: "jp-nbserve-pictures" }, ...pictures));
  }
  if (result.rows?.length) {
    const rows = result.rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)));
    parts.push(h("table", { class: "jp-nbserve-facts" }, h("tbody", {}, ...rows)));
  }
  if (result.layers?.length) parts.push(layerTable(result.layers));
  if (result.text) parts.push(h("details", {}, h("summary", {}, "Report as text"), h("pre", {}, result.text)));
  return parts;
}

function layerTable(layers: Layer[]): HTMLElement {
  const most = Math.max(...layers.map((layer) => layer.bytes));
  const rows = layers.map((layer) => {
    const meter = h("span", { class: "jp-nbserve-meter" }, h("span", {}));
    (meter.firstElementChild as HTMLElement).style.width = `${(layer.bytes / most) * 100}%`;
    return h("tr", {}, h("td", {}, bytes(layer.bytes)), h("td", {}, meter), h("td", { class: "jp-nbserve-step" }, layer.what));
  });
  return h("table", { class: "jp-nbserve-layers" }, h("caption", {}, "Layers"), h("tbody", {}, ...rows));
}
