// The buttons, and the place where their forms, progress and results are shown: one at a time.

import { h, OWN_KEYS, put, say } from "../dom";
import type { Model } from "../model";
import { Children } from "./children";
import { type Asked, type Go, profileForm, promoteForm, question, scaleForm } from "./forms";
import { type Jobs, WAITS } from "./jobs";
import { readingText, resultParts } from "./results";
import { Running } from "./running";
import type { Facts, Now, Traits } from "./types";

const TITLES: Record<string, string> = {
  advise: "Advice",
  bench: "Bench",
  profile: "Profile",
  scale: "Scale",
  rollback: "Roll back",
  stop: "Stop",
  promote: "Promote to an image",
};

export class Actions {
  readonly buttons: HTMLElement;
  readonly place = h("div", { class: "jp-nbserve-place", ...OWN_KEYS });
  private readonly rollback: HTMLButtonElement;
  private readonly profile: HTMLButtonElement;
  private readonly all: HTMLButtonElement[];
  private children: Children | null = null;
  /** The button that opened what is shown: it has the focus again when that is closed. */
  private opener: HTMLElement | null = null;
  private workers = 1;

  constructor(
    private readonly model: Model<Traits>,
    private readonly jobs: Jobs,
    private readonly facts: () => Facts,
  ) {
    const button = (text: string, title: string, press: () => void) => {
      const made = h("button", { type: "button", title }, text);
      made.addEventListener("click", () => {
        this.opener = made;
        press();
      });
      return made;
    };
    this.profile = button("Profile", "What the workers spend their time on: timeline, operators, flame graph", () => this.askProfile());
    this.rollback = button("Roll back", "Serve the version before this one again", () =>
      this.ask("rollback", `Serve version ${this.facts().kept[0]} again?`, (cancel, go) => question("Roll back", cancel, go)),
    );
    this.all = [
      button("Bench", "Measure it: ten seconds of load", () => this.act("bench", {})),
      this.profile,
      button("Advice", "What rules say of its counters", () => this.act("advise", {})),
      button("Scale", "Run more or fewer workers", () =>
        this.ask("scale", "How many workers?", (cancel, go) => scaleForm(this.workers, cancel, go)),
      ),
      this.rollback,
      button("Promote", "Make a container image of it, and prove it", () =>
        this.ask("promote", TITLES.promote!, (cancel, go) => promoteForm(this.facts(), cancel, go)),
      ),
      button("Stop", "Finish what is in hand, then stop serving", () =>
        this.ask("stop", `Stop ${this.facts().name}?`, (cancel, go) => question("Stop", cancel, go)),
      ),
    ];
    this.buttons = h("div", { class: "jp-nbserve-buttons", role: "group", "aria-label": "actions", ...OWN_KEYS }, ...this.all);
    this.place.addEventListener("keydown", (event) => {
      // Not from within a child: Escape means something else in the timeline.
      const inside = event.target instanceof Element && event.target.closest(".jp-nbserve-child");
      if (event.key === "Escape" && !inside && this.place.querySelector("form, .jp-nbserve-primary")) this.close();
    });
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

  destroy(): void {
    this.clear();
  }

  private ask(action: string, title: string, make: (cancel: HTMLElement, go: Go) => Asked): void {
    const asked = make(this.closeButton("Cancel"), (params) => this.act(action, params));
    this.show(title, asked.element);
    asked.first.focus();
    if (asked.first instanceof HTMLInputElement) asked.first.select();
  }

  private askProfile(): void {
    const kept = h("div", {});
    this.ask("profile", TITLES.profile!, (cancel, go) => profileForm(kept, cancel, go));
    this.jobs.start(
      { kind: "act", action: "profiles" },
      {
        done: ({ profiles }) => {
          if (!profiles?.length) return;
          const open = profiles.map(({ id, text }) =>
            h("button", { type: "button", onclick: () => this.act("profile", { show: id }) }, text),
          );
          put(kept, h("p", {}, "Or look into one that was made:"), h("div", { class: "jp-nbserve-row" }, ...open));
        },
        waits: () => put(kept, h("p", { class: "jp-nbserve-faint" }, WAITS)),
        failed: (text) => put(kept, h("p", { class: "jp-nbserve-bad" }, text)),
      },
    );
  }

  private act(action: string, params: Record<string, unknown>): void {
    const title = TITLES[action]!;
    const running = new Running(title, ...(action === "profile" && !params.show ? [this.endButton()] : []));
    const body = h("div", { tabindex: -1 }, running.element);
    this.show(title, body);
    body.focus(); // the button that was pressed is gone, or the reader would be at the page's beginning
    const close = () => h("div", { class: "jp-nbserve-row" }, this.closeButton("Close"));
    this.jobs.start(
      { kind: "act", action, params },
      {
        accepted: () => running.accepted(),
        waits: () => running.waits(),
        running: (progress) => running.hear(progress),
        done: (result) => {
          const children = body.isConnected ? new Children(this.model, result.views ?? []) : null;
          if (children) this.children = children;
          put(body, ...resultParts(result, children?.elements ?? []), ...running.record(false), close());
        },
        failed: (text, hint) => {
          const said = readingText("error", text);
          said.classList.add("jp-nbserve-error");
          const error = h("div", { role: "alert" }, said, hint && h("p", {}, `→ ${hint}`));
          put(body, error, ...running.record(!text.includes("\n")), close()); // many lines: they are the log's last ones
          said.scrollTop = said.scrollHeight;
        },
      },
    );
  }

  private endButton(): HTMLElement {
    const button = h("button", { type: "button" }, "End it now");
    button.addEventListener("click", () => {
      button.disabled = true;
      this.jobs.start({ kind: "act", action: "end_profile" }, { done: () => {}, failed: (text) => say(button, text) });
    });
    return button;
  }

  private show(title: string, body: HTMLElement): void {
    this.clear();
    put(this.place, h("section", { class: "jp-nbserve-panel", "aria-label": title }, h("h4", {}, title), body));
  }

  private clear(): void {
    if (this.children) this.model.send({ kind: "closed" });
    this.children?.remove();
    this.children = null;
    put(this.place);
  }

  private close(): void {
    this.clear();
    this.opener?.focus();
  }

  private closeButton(text: string): HTMLButtonElement {
    return h("button", { type: "button", onclick: () => this.close() }, text);
  }
}
