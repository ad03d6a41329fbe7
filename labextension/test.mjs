// Runs src/**/*.test.ts with node's own test runner: bundled into a temporary folder first, since node 20 reads no
// TypeScript.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const tests = readdirSync(join(here, "src"), { recursive: true })
  .filter((path) => path.endsWith(".test.ts"))
  .map((path) => join(here, "src", path));

const folder = mkdtempSync(join(here, "node_modules", ".tests-"));
let status = 1;
try {
  const { metafile } = await esbuild.build({
    entryPoints: tests,
    outdir: folder,
    outbase: join(here, "src"),
    outExtension: { ".js": ".mjs" },
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    sourcemap: "inline",
    loader: { ".css": "text", ".svg": "text" },
    metafile: true,
    absWorkingDir: here,
  });
  const built = Object.keys(metafile.outputs).map((path) => join(here, path));
  const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...built], { stdio: "inherit" });
  status = run.status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
