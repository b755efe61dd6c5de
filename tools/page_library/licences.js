// Prints a comment with the packages that a bundle has code of, their versions and their licences.
import { readFileSync, readdirSync } from "node:fs";

const meta = JSON.parse(readFileSync(process.argv[2], "utf8"));
const inputs = Object.values(meta.outputs)[0].inputs;
const used = Object.entries(inputs).filter(([, input]) => input.bytesInOutput > 0);
const folders = used
  .map(([path]) => path.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1])
  .filter(Boolean);

const byText = new Map();
for (const folder of [...new Set(folders)].sort()) {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
  if (!file) throw new Error(`${name} has no licence file`);
  const text = readFileSync(`${folder}/${file}`, "utf8").trim().replaceAll("*/", "* /");
  byText.set(text, [...(byText.get(text) ?? []), `${name} ${version} (${license})`]);
}

console.log("/*! Built by tools/page_library/build from:");
for (const [text, packages] of byText) {
  console.log(`\n${packages.join(", ")}\n\n${text}`);
}
console.log("*/");
