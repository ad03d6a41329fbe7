// The try-it box: send JSON, text or a file to the endpoint, see the answer and where its milliseconds went.

import { form, h, OWN_KEYS, put, say } from "../dom";
import { duration } from "./format";
import { type Jobs, WAITS } from "./jobs";
import { stageBar } from "./panels";
import type { Facts, Result } from "./types";

const TYPES = ["application/json", "text/plain"];

export class TryIt {
  readonly element: HTMLElement;
  private readonly text = h("textarea", { rows: 4, spellcheck: "false", "aria-label": "request body" });
  private readonly type = h("select", { "aria-label": "content type" }, ...TYPES.map((type) => h("option", {}, type)));
  private readonly file = h("input", { type: "file", class: "jp-nbserve-file", "aria-label": "a file to send" });
  private readonly send = h("button", { type: "submit", class: "jp-nbserve-primary" }, "Send");
  private readonly sample = h("button", { type: "button" }, "Send the sample");
  private readonly answer = h("div", { class: "jp-nbserve-answer", "aria-live": "polite" });
  private filled = false;
  private preview = "";

  constructor(private readonly jobs: Jobs) {
    const choose = h("label", { class: "jp-nbserve-drop" }, "or drop an image or file here: ", this.file);
    const box = form(
      {},
      () => this.ask(this.type.value, new TextEncoder().encode(this.text.value).buffer as ArrayBuffer),
      this.text,
      h("div", { class: "jp-nbserve-row" }, this.type, this.send, this.sample, choose),
    );
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) box.requestSubmit();
    });
    this.sample.addEventListener("click", () => this.ask("", new ArrayBuffer(0), true));
    this.file.addEventListener("change", () => this.sendFile(this.file.files?.[0]));
    box.addEventListener("dragover", (event) => {
      event.preventDefault();
      box.classList.add("jp-nbserve-over");
    });
    box.addEventListener("dragleave", () => box.classList.remove("jp-nbserve-over"));
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      box.classList.remove("jp-nbserve-over");
      this.sendFile(event.dataTransfer?.files[0]);
    });
    this.element = h("div", { ...OWN_KEYS }, box, this.answer);
  }

  update(facts: Facts): void {
    const { sample } = facts;
    this.sample.hidden = !sample || sample.text !== null;
    if (this.filled || !sample || sample.text === null) return;
    this.filled = true;
    this.text.value = sample.text;
    if (!TYPES.includes(sample.content_type)) this.type.append(h("option", {}, sample.content_type));
    this.type.value = sample.content_type;
  }

  destroy(): void {
    if (this.preview) URL.revokeObjectURL(this.preview);
  }

  private async sendFile(file: File | undefined): Promise<void> {
    if (!file) return;
    const body = await file.arrayBuffer();
    this.ask(file.type || "application/octet-stream", body, false, file);
  }

  private ask(content_type: string, body: ArrayBuffer, sample = false, file?: File): void {
    const status = h("p", { class: "jp-nbserve-faint" }, file ? `sending ${file.name} …` : "sending …");
    put(this.answer, status);
    this.jobs.start(
      { kind: "try", content_type, sample },
      {
        waits: () => say(status, WAITS),
        done: (result) => put(this.answer, ...this.shown(result, file)),
        failed: (text, hint) => put(this.answer, h("pre", { class: "jp-nbserve-error" }, hint ? `${text}\n→ ${hint}` : text)),
      },
      [body],
    );
  }

  private shown(result: Result, file: File | undefined): HTMLElement[] {
    const [head, ...rest] = answerParts(result);
    return [head!, ...this.picture(file), ...rest];
  }

  private picture(file: File | undefined): HTMLElement[] {
    if (this.preview) URL.revokeObjectURL(this.preview);
    this.preview = file?.type.startsWith("image/") ? URL.createObjectURL(file) : "";
    return this.preview ? [h("img", { class: "jp-nbserve-preview", src: this.preview, alt: `the image sent: ${file?.name}` })] : [];
  }
}

/** An answer: its status, its text, and where its milliseconds went. */
export function answerParts(result: Result): HTMLElement[] {
  const status = result.status ?? 0;
  const kind = status >= 500 ? "bad" : status >= 400 ? "poor" : "good";
  const head = h(
    "p",
    {},
    h("span", { class: `jp-nbserve-state jp-nbserve-state-${kind}` }, String(status)),
    ` ${duration(result.total_ms ?? 0)} · ${result.content_type ?? ""}`,
    h("span", { class: "jp-nbserve-faint" }, ` · request ${result.request_id ?? ""}`),
  );
  const answer = h("pre", { tabindex: 0, "aria-label": "answer" }, result.text ?? "");
  return [head, answer, stageBar(result.stages_ms ?? {}, "for this request, as the kernel saw it")];
}
