// What people do and see on the pages of the gateway, in Chromium. Each scenario prints one line of JSON: its name, how
// long it took, the error if there is one, and the secrets that were in use. The last line says how many there were.
//
//   GATEWAY=https://localhost:8443 CHROMIUM=/usr/bin/chromium ARTIFACTS=dir node browser.mjs flows|audits|protections|factors

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { audits } from "./browser/audits.mjs";
import { factors } from "./browser/factors.mjs";
import { flows } from "./browser/flows.mjs";
import { protections } from "./browser/protections.mjs";
import { App } from "./lib/app.mjs";
import { launch, Window } from "./lib/chromium.mjs";

const limit = 40_000; // milliseconds for one scenario
const artifacts = process.env.ARTIFACTS;
const scenarios = { flows, audits, protections, factors }[process.argv[2]];

await mkdir(artifacts, { recursive: true });
const browser = await launch(process.env.CHROMIUM);
let count = 0;
for (const [name, scenario] of Object.entries(scenarios)) {
  console.log(JSON.stringify({ name, ...(await run(name, scenario)), secrets: App.secrets.splice(0) }));
  count++;
}
console.log(JSON.stringify({ done: count }));
await browser.close();

/** Runs a scenario with windows of its own, and wants none of them to complain. */
async function run(name, scenario) {
  const windows = [];
  const stage = {
    gateway: process.env.GATEWAY,
    artifacts,
    open: async (options) => {
      windows.push(await Window.open(browser, options));
      return windows.at(-1);
    },
  };
  const begin = Date.now();
  let error;
  let timer;
  try {
    const late = new Promise((_, reject) => { timer = setTimeout(reject, limit, new Error(`not done after ${limit} ms`)); });
    await Promise.race([scenario(stage), late]);
    const complaints = windows.flatMap((window) => window.complaints);
    if (complaints.length > 0) throw new Error(complaints.join("\n"));
  } catch (failure) {
    error = failure.stack;
    await picture(windows.at(-1), name);
  }
  clearTimeout(timer);
  for (const window of windows) await window.context.close();
  return { ms: Date.now() - begin, error };
}

/** Keeps what was to be seen when a scenario failed, if there is anything. */
async function picture(window, name) {
  const path = join(artifacts, `failed-${name.replace(/\W+/g, "-")}.png`);
  await window?.page.screenshot({ path, fullPage: true }).catch(() => {});
}
