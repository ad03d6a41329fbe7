// Above the timeline: search with its count, zoom and selection buttons, the download. Owned by view.ts.

import { element } from "./dom";

const TYPING_MS = 200;

export interface Commands {
  search(query: string): void;
  next(side: 1 | -1): void;
  all(): void;
  selectVisible(): void;
  clear(): void;
  /** null: there is nothing to download. */
  download: (() => void) | null;
}

export class Toolbar {
  readonly node: HTMLElement;
  private readonly input = element("input", {
    type: "search",
    placeholder: "Search names, request ids",
    "aria-label": "Search names and request ids",
  });
  private readonly count = element("span", { class: "jp-nbserve-trace-count", role: "status" });
  private readonly words = element("span", { class: "jp-nbserve-trace-note", role: "status" });
  private typing = 0;

  constructor(private readonly commands: Commands) {
    this.input.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = window.setTimeout(() => this.commands.search(this.input.value), TYPING_MS);
    });
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.node = element(
      "div",
      { class: "jp-nbserve-trace-toolbar", role: "toolbar", "aria-label": "Trace" },
      this.input,
      button("‹", "Previous found (P)", () => commands.next(-1)),
      button("›", "Next found (N)", () => commands.next(1)),
      this.count,
      element("span", { class: "jp-nbserve-trace-space" }),
      button("Show all", "Show the whole trace (0)", () => commands.all()),
      button("Select visible", "Select what is visible (M)", () => commands.selectVisible()),
      button("Clear", "Clear the selection (Escape)", () => commands.clear()),
      this.words,
    );
    if (commands.download) {
      this.node.append(button("Download for Perfetto", "The raw trace, for ui.perfetto.dev", commands.download));
    }
  }

  search(query: string): void {
    this.input.value = query;
    this.commands.search(query);
  }

  found(text: string): void {
    this.count.textContent = text;
  }

  status(text: string): void {
    this.words.textContent = text;
  }

  focus(): void {
    this.input.focus();
    this.input.select();
  }

  private key(event: KeyboardEvent): void {
    event.stopPropagation(); // the notebook has commands of its own on letters
    if (event.key === "Enter") {
      clearTimeout(this.typing);
      this.commands.search(this.input.value);
      this.commands.next(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") this.search("");
  }
}

function button(text: string, title: string, click: () => void): HTMLButtonElement {
  const made = element("button", { type: "button", text, title, click: () => click() });
  if (text.length === 1) made.setAttribute("aria-label", title);
  return made;
}
