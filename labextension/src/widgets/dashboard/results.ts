// What a button came to, as elements. Used by actions.ts.

import { copyButton } from "../copy";
import { h } from "../dom";
import { bytes } from "./format";
import type { Layer, Result } from "./types";

/** `views`: the places of the widgets that belong to it. */
export function resultParts(result: Result, views: HTMLElement[]): HTMLElement[] {
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
    parts.push(scrolled("facts", h("table", { class: "jp-nbserve-facts" }, h("tbody", {}, ...rows))));
  }
  parts.push(...views);
  for (const [name, text] of result.copies ?? []) parts.push(snippet(name, text));
  if (result.layers?.length) parts.push(scrolled("layers", layerTable(result.layers)));
  if (result.text) parts.push(h("details", {}, h("summary", {}, "Report as text"), readingText("report", result.text)));
  return parts;
}

/** A text with a button that copies it; `named`: it says what it is, too. */
export function snippet(name: string, text: string, named = true): HTMLElement {
  return h(
    "div",
    { class: "jp-nbserve-snippet" },
    named && h("span", { class: "jp-nbserve-snippetname" }, name),
    readingText(name, text),
    copyButton(text, name),
  );
}

/** Preformatted text that the keyboard reaches, to scroll it. */
export function readingText(name: string, text: string): HTMLElement {
  return h("pre", { tabindex: 0, role: "region", "aria-label": name }, text);
}

/** A table that may be wider than the page: it scrolls by itself, by keyboard, too. */
export function scrolled(name: string, table: HTMLElement): HTMLElement {
  return h("div", { class: "jp-nbserve-scrolled", tabindex: 0, role: "region", "aria-label": name }, table);
}

/** Without the checksums of what was copied: "COPY dir:0123… in /opt/venv". */
function stepOf(layer: Layer): string {
  return layer.what.replace(/\b(?:dir|file|multi):[0-9a-f]{64} in /, "→ ");
}

function layerTable(layers: Layer[]): HTMLElement {
  const most = Math.max(...layers.map((layer) => layer.bytes));
  const rows = layers.map((layer) => {
    const meter = h("span", { class: "jp-nbserve-meter", "aria-hidden": "true" }, h("span", {}));
    (meter.firstElementChild as HTMLElement).style.width = `${(layer.bytes / most) * 100}%`;
    return h("tr", {}, h("td", {}, bytes(layer.bytes)), h("td", {}, meter), h("td", { class: "jp-nbserve-step" }, stepOf(layer)));
  });
  const head = ["size", "", "step that made it"].map((text) => (text ? h("th", { scope: "col" }, text) : h("td", {})));
  return h(
    "table",
    { class: "jp-nbserve-layers" },
    h("caption", {}, "Layers of the image"),
    h("thead", {}, h("tr", {}, ...head)),
    h("tbody", {}, ...rows),
  );
}
