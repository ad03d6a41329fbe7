// Bundles src/widgets/NAME/index.ts into nbserve/static/NAME.js: one ES module a widget, with its CSS as text in it.
// `node build.mjs [--watch]`; called by hatch_build.py.

import { mkdirSync, readdirSync, readFileSync, existsSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const sources = join(here, "src", "widgets");
const target = join(here, "..", "nbserve", "static");

const entries = readdirSync(sources)
  .map((name) => join(sources, name, "index.ts"))
  .filter((path) => existsSync(path));

// Whole or not at all, and only where it differs: a running server may be reading it.
const replace = {
  name: "replace",
  setup(build) {
    build.onEnd((result) => {
      mkdirSync(target, { recursive: true });
      for (const file of result.outputFiles ?? []) {
        const path = join(target, `${basename(dirname(file.path))}.js`);
        if (existsSync(path) && readFileSync(path).equals(file.contents)) continue;
        writeFileSync(`${path}.${process.pid}`, file.contents);
        renameSync(`${path}.${process.pid}`, path);
        console.log(`${path}: ${file.contents.length} bytes`);
      }
    });
  },
};

const options = {
  entryPoints: entries,
  outdir: target,
  outbase: sources,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: !process.argv.includes("--watch"),
  legalComments: "inline",
  loader: { ".css": "text", ".svg": "text" },
  write: false,
  plugins: [replace],
  logLevel: "warning",
};

if (process.argv.includes("--watch")) {
  await (await esbuild.context(options)).watch();
} else {
  await esbuild.build(options);
}
