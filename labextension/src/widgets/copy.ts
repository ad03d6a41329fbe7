// A button that copies a text, and says so. Used by every widget that has something to be pasted elsewhere.

import { h, say } from "./dom";

const TOLD_MS = 2000;

/** `text` is what is copied; `name` what a screen reader calls it. */
export function copyButton(text: string, name: string, label = "Copy"): HTMLButtonElement {
  const button = h("button", { type: "button", "aria-label": `${label}: ${name}`, title: name }, label);
  const told = (word: string) => {
    say(button, word);
    button.setAttribute("aria-label", `${word}: ${name}`);
  };
  button.addEventListener("click", () => {
    void copy(text).then((copied) => {
      told(copied ? "Copied" : "Not copied");
      window.setTimeout(() => told(label), TOLD_MS);
    });
  });
  return button;
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text); // pages that did not come over https have no clipboard, some frames may not use it
  }
}

function copySelected(text: string): boolean {
  const focused = document.activeElement as HTMLElement | null;
  const area = h("textarea", { readonly: true, style: "position: fixed; opacity: 0" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}
