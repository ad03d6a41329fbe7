// Colours: a categorical palette by name, and the theme of the page, read when something is drawn. Used by all drawing.

export type Rgb = readonly [number, number, number];

/** Paul Tol's "light" scheme (personal.sron.nl/~pault): told apart with any colour vision; dark text reads on each. */
const HUES: readonly Rgb[] = [
  [0x77, 0xaa, 0xdd],
  [0xee, 0x88, 0x66],
  [0x44, 0xbb, 0x99],
  [0xee, 0xdd, 0x88],
  [0xff, 0xaa, 0xbb],
  [0xbb, 0xcc, 0x33],
  [0x99, 0xdd, 0xff],
  [0xaa, 0xaa, 0x00],
];

const WHITE: Rgb = [255, 255, 255];
const BLACK: Rgb = [0, 0, 0];

/** Each hue as it is, paler and darker, so that fewer names share a colour. */
export const PALETTE: readonly Rgb[] = [
  ...HUES,
  ...HUES.map((hue) => mix(WHITE, hue, 0.35)),
  ...HUES.map((hue) => mix(BLACK, hue, 0.15)),
];

/** On spans of the palette. */
export const INK = "#111";

/**
 * A colour of the palette for each name: by its hash (FNV-1a), so that it is mostly the same in every trace; where a
 * name before it has that one, the next that is free. `order`: names that matter most first.
 */
export function colours(names: string[], order: number[]): Uint8Array {
  const chosen = new Uint8Array(names.length);
  const taken = new Set<number>();
  for (const name of order) {
    if (taken.size === PALETTE.length) taken.clear();
    let colour = hash(names[name]!) % PALETTE.length;
    while (taken.has(colour)) colour = (colour + 1) % PALETTE.length;
    taken.add(colour);
    chosen[name] = colour;
  }
  return chosen;
}

function hash(name: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) value = Math.imul(value ^ name.charCodeAt(i), 0x01000193);
  return (value ^ (value >>> 15)) >>> 0;
}

/** `share` of one colour over another. */
export function mix(over: Rgb, under: Rgb, share: number): Rgb {
  const [a, b, c] = [0, 1, 2].map((k) => Math.round(under[k]! + (over[k]! - under[k]!) * share));
  return [a!, b!, c!];
}

/** As a pixel of an ImageData on a little-endian machine. */
export function packed([r, g, b]: Rgb): number {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

export function css([r, g, b]: Rgb, alpha = 1): string {
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

export interface Theme {
  background: Rgb;
  /** Behind the rows of a group's header. */
  raised: Rgb;
  border: Rgb;
  text: Rgb;
  muted: Rgb;
  brand: Rgb;
  warn: Rgb;
  font: string;
}

/** The colours of the page around an element: Jupyter's variables, else what suits the reader's scheme. */
export function readTheme(element: Element): Theme {
  const style = getComputedStyle(element);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const read = (name: string, light: string, darker: string): Rgb => {
    return parse(style.getPropertyValue(name).trim()) ?? parse(dark ? darker : light)!;
  };
  const background = read("--jp-layout-color1", "#ffffff", "#111111");
  const text = parse(style.getPropertyValue("--jp-ui-font-color0").trim());
  return {
    background,
    raised: read("--jp-layout-color2", "#eeeeee", "#212121"),
    border: read("--jp-border-color2", "#e0e0e0", "#424242"),
    text: text ? mix(text, background, 0.9) : read("--jp-ui-font-color1", "#222222", "#dddddd"),
    muted: mix(text ?? (dark ? [255, 255, 255] : [0, 0, 0]), background, 0.65),
    brand: read("--jp-brand-color1", "#1976d2", "#64b5f6"),
    warn: read("--jp-warn-color1", "#f57c00", "#ffb74d"),
    font: style.getPropertyValue("--jp-ui-font-family").trim() || "sans-serif",
  };
}

/** Calls back when the theme of the page changes; the result ends that. */
export function watchTheme(changed: () => void): () => void {
  const observer = new MutationObserver(changed);
  observer.observe(document.body, {
    attributes: true,
    attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"],
  });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    scheme.removeEventListener("change", changed);
  };
}

let probe: CanvasRenderingContext2D | null = null;

/** Any CSS colour; undefined where it is none, or can be seen through entirely. */
function parse(colour: string): Rgb | undefined {
  if (!colour || !CSS.supports("color", colour)) return undefined;
  probe ??= Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", {
    willReadFrequently: true,
  })!;
  probe.clearRect(0, 0, 1, 1);
  probe.fillStyle = colour;
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
  return a ? [r!, g!, b!] : undefined;
}
