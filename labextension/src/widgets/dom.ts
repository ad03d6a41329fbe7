// Elements with text in them. Strings become text nodes and attributes, never HTML: names, logs and answers come from
// outside. Used by every widget.

type Child = Node | string | null | undefined | false;
type Props = Record<string, string | number | boolean | EventListener | undefined>;

/** For elements in which keys are the reader's: JupyterLab's shortcuts (Enter, A, B, D ...) do not apply there. */
export const OWN_KEYS = { "data-lm-suppress-shortcuts": true };

/** An element: `on…` props are listeners, booleans switch an attribute on or off, the rest are attributes. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

/** A form that Enter in one of its fields submits: in JupyterLab's notebook the browser's own way does not arrive. */
export function form(props: Props, submit: () => void, ...children: Child[]): HTMLFormElement {
  const element = h("form", props, ...children);
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.target instanceof HTMLInputElement)) return;
    event.preventDefault();
    element.requestSubmit();
  });
  return element;
}

/** Replace what is in an element. */
export function put(element: Element, ...children: Child[]): void {
  element.replaceChildren(...children.filter((child): child is Node | string => !!child || child === ""));
}

/** Set the text of an element, where it differs: screen readers announce every change of a live region. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

function fill<E extends Element>(element: E, props: Props, children: Child[]): E {
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value));
  }
  put(element, ...children);
  return element;
}
