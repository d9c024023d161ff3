// Chromium, watched: whatever a page does that its policy forbids is taken down, and so is every request that leaves the
// computer.

import { chromium } from "playwright-core";

const flags = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
];

const patience = 15_000; // milliseconds; whatever takes that long hangs

export function launch(executablePath) {
  return chromium.launch({ executablePath, args: flags, headless: true, timeout: patience });
}

/** A window of somebody who has no cookies yet. */
export class Window {
  /** What should not have happened, in words. */
  complaints = [];

  /** @param {import("playwright-core").BrowserContextOptions} [options] */
  static async open(browser, options) {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-US", javaScriptEnabled: false, ...options });
    context.setDefaultTimeout(patience);
    const window = new Window(context);
    await window.#watch();
    window.page = await context.newPage();
    return window;
  }

  constructor(context) {
    this.context = context;
  }

  async #watch() {
    this.context.on("console", (message) => {
      // Chromium notes refusals such as 403 as errors, too. They are meant.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource: the server responded")) {
        this.complaints.push(`console: ${message.text()}`);
      }
    });
    this.context.on("weberror", (error) => this.complaints.push(`script: ${error.error()}`));
    this.context.on("request", (request) => {
      const { protocol, hostname } = new URL(request.url());
      if (protocol.startsWith("http") && !["localhost", "127.0.0.1"].includes(hostname)) {
        this.complaints.push(`request to ${hostname}`);
      }
    });
    await this.context.exposeBinding("complain", (_, text) => this.complaints.push(text));
    await this.context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (e) => complain(`policy: ${e.effectiveDirective} forbids ${e.blockedURI}`));
    });
  }
}
