// What is asked before a button acts: how many workers, what to profile, what the image is to be. Each calls `go` with
// the parameters of its action. Used by actions.ts.

import { form, h } from "../dom";
import type { Facts } from "./types";

export type Go = (params: Record<string, unknown>) => void;

/** `first` gets the focus. */
export interface Asked {
  element: HTMLElement;
  first: HTMLElement;
}

const field = (text: string, input: HTMLElement) => h("label", { class: "jp-nbserve-field" }, h("span", {}, text), input);
const check = (text: string, input: HTMLElement) => h("label", { class: "jp-nbserve-check" }, input, text);
const submit = (text: string) => h("button", { type: "submit", class: "jp-nbserve-primary" }, text);
const word = (value: string) => h("input", { type: "text", value, spellcheck: "false", autocomplete: "off" });
const buttons = (...all: HTMLElement[]) => h("div", { class: "jp-nbserve-row" }, ...all);

export function question(verb: string, cancel: HTMLElement, go: Go): Asked {
  const yes = h("button", { type: "button", class: "jp-nbserve-primary", onclick: () => go({}) }, verb);
  return { element: buttons(yes, cancel), first: yes };
}

export function scaleForm(workers: number, cancel: HTMLElement, go: Go): Asked {
  const input = h("input", { type: "number", min: 1, max: 1024, value: workers, "aria-label": "workers" });
  const element = form({ class: "jp-nbserve-row" }, () => go({ workers: Number(input.value) }), input, submit("Scale"), cancel);
  return { element, first: input };
}

/** `kept`: the place for profiles that there are. */
export function profileForm(kept: HTMLElement, cancel: HTMLElement, go: Go): Asked {
  const seconds = h("input", { type: "number", min: 1, max: 300, value: 10 });
  const options = {
    shapes: "shapes of the inputs",
    memory: "what is allocated",
    stacks: "Python functions around operators (slower)",
    system: "gateway and workers themselves, by py-spy",
  };
  const boxes = Object.entries(options).map(([name, text]) => ({ name, text, box: h("input", { type: "checkbox" }) }));
  const ask = () =>
    go({ seconds: Number(seconds.value), ...Object.fromEntries(boxes.map(({ name, box }) => [name, box.checked])) });
  const element = form(
    { class: "jp-nbserve-form" },
    ask,
    field("Seconds", seconds),
    h(
      "fieldset",
      { class: "jp-nbserve-checks" },
      h("legend", {}, "Record, beside the operators"),
      ...boxes.map(({ text, box }) => check(text, box)),
    ),
    h(
      "p",
      { class: "jp-nbserve-faint jp-nbserve-wide" },
      "One worker is watched under its real traffic, the others serve on; where no request comes, the sample is sent.",
    ),
    buttons(submit("Profile"), cancel),
  );
  return { element: h("div", {}, element, kept), first: seconds };
}

export function promoteForm(facts: Facts, cancel: HTMLElement, go: Go): Asked {
  const { promote } = facts;
  const texts = { tag: word(promote.tag), base_image: word(promote.base_image), output: word(promote.output) };
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
  const ask = () => {
    const written = Object.fromEntries(Object.entries(texts).map(([name, input]) => [name, input.value]));
    go({ ...written, vendor: vendor.checked, build: build.checked, proof: proof.value });
  };
  const element = form(
    { class: "jp-nbserve-form" },
    ask,
    field("Tag", texts.tag),
    field("Base image", texts.base_image),
    field("Folder of the build context", texts.output),
    field("Proof: it must answer the sample as this does", proof),
    check("build the image, where docker or podman answers", build),
    check("put all wheels into the context: the build needs no index", vendor),
    buttons(submit("Promote"), cancel),
  );
  return { element, first: texts.tag };
}
