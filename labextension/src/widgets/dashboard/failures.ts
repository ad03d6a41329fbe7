// The failed requests that the gateway remembers: asked for when the reader opens the list, sent again at a press.

import { copyButton } from "../copy";
import { h, OWN_KEYS, put, say } from "../dom";
import { clock } from "./format";
import { type Jobs, WAITS } from "./jobs";
import { scrolled } from "./results";
import { answerParts } from "./tryit";
import type { Failure, Now, Result } from "./types";

export class Failures {
  readonly element: HTMLDetailsElement;
  private readonly summary = h("summary", {}, "Failed requests");
  private readonly body = h("div", { ...OWN_KEYS });
  private failed = 0;
  private shown = 0;

  constructor(private readonly jobs: Jobs) {
    this.element = h("details", { hidden: true }, this.summary, this.body);
    this.element.addEventListener("toggle", () => {
      if (this.element.open) this.ask();
    });
  }

  update(now: Now): void {
    this.failed = Object.entries(now.requests).reduce((sum, [status, n]) => sum + (Number(status) >= 400 ? n : 0), 0);
    this.element.hidden = this.failed === 0;
    const late = this.element.open && this.failed > this.shown ? `, ${this.failed - this.shown} new: open again` : "";
    say(this.summary, `Failed requests${late}`);
  }

  private ask(): void {
    const asked = this.failed;
    const status = h("p", { class: "jp-nbserve-faint" }, "asking the kernel …");
    put(this.body, status);
    this.jobs.start(
      { kind: "act", action: "failures" },
      {
        waits: () => say(status, WAITS),
        done: (result) => {
          this.shown = asked;
          put(this.body, ...this.table(result));
        },
        failed: (text) => say(status, text),
      },
    );
  }

  private table(result: Result): HTMLElement[] {
    const failures = result.failures ?? [];
    if (!failures.length) return [h("p", { class: "jp-nbserve-faint" }, "None is kept: refusals are not.")];
    const head = ["id", "at", "status", "error", "where", "again"].map((text) => h("th", { scope: "col" }, text));
    const answer = h("div", { "aria-live": "polite" });
    const rows = failures.map((failure) => this.row(failure, answer));
    const left = result.left_out ? h("p", { class: "jp-nbserve-faint" }, `${result.left_out} more: endpoint.failures`) : null;
    const table = h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows));
    return [scrolled("failed requests", table), ...(left ? [left] : []), answer];
  }

  private row(failure: Failure, answer: HTMLElement): HTMLElement {
    const replay = `%nbserve replay ${failure.id}`;
    const again = h("button", { type: "button", title: "The same bytes to the endpoint" }, "Send");
    again.setAttribute("aria-label", `Send again: ${failure.id}`);
    again.addEventListener("click", () => this.send(failure, answer));
    const copied = copyButton(replay, `${replay}, which runs it here, to be debugged`, "Copy replay");
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, failure.id),
      h("td", {}, clock(failure.at)),
      h("td", {}, String(failure.status)),
      h("td", { class: "jp-nbserve-step" }, failure.error),
      h("td", {}, failure.where),
      h("td", {}, h("span", { class: "jp-nbserve-buttons" }, again, copied)),
    );
  }

  private send(failure: Failure, answer: HTMLElement): void {
    const status = h("p", { class: "jp-nbserve-faint" }, `sending ${failure.id} again …`);
    put(answer, status);
    this.jobs.start(
      { kind: "act", action: "resend", params: { id: failure.id } },
      {
        waits: () => say(status, WAITS),
        done: (result) => put(answer, ...answerParts(result)),
        failed: (text) => put(answer, h("pre", { class: "jp-nbserve-error" }, text)),
      },
    );
  }
}
