// What the browser keeps other sites from doing, with JavaScript. Other sites are a server of our own under two names:
// one that the configuration lists in cors_origins, and a stranger.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { App } from "../lib/app.mjs";
import { connect, heading, people, signIn } from "./people.mjs";

const port = process.env.PAGES_PORT;
const listed = `http://127.0.0.1:${port}`;
const stranger = `http://localhost:${port}`;
const pages = ["/", "/account", "/authorize?client_id=nobody"];

const scripted = { javaScriptEnabled: true };

export const protections = {
  "documents for programs are open to every origin, without cookies": async ({ gateway, open }) => {
    await otherSites();
    const { page, complaints } = await open(scripted);
    await page.goto(stranger);
    for (const [path, init, status] of [
      ["/.well-known/oauth-protected-resource/mcp", {}, 200],
      ["/.well-known/oauth-authorization-server", { headers: { "MCP-Protocol-Version": "2025-11-25" } }, 200],
      ["/.well-known/openid-configuration", {}, 404],
      ["/jwks", {}, 200],
      ["/register", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }, 400],
      ["/token", { method: "POST", body: new URLSearchParams({ grant_type: "none" }).toString(), headers: form }, 400],
      ["/revoke", { method: "POST", body: "", headers: form }, 400],
      ["/mcp", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }, 401],
    ]) {
      const answer = await read(page, gateway + path, init);
      assert.equal(answer.status, status, `${path}: ${answer.error}`);
      if (status === 401) assert.match(answer.challenge, /^Bearer resource_metadata="/, "the challenge can be read");
      assert.ok((await read(page, gateway + path, { ...init, credentials: "include" })).error, `${path} with cookies`);
    }
    complaints.splice(0); // Chromium notes each refusal
  },

  "pages cannot be read by other origins": async ({ gateway, open }) => {
    await otherSites();
    const window = await open(scripted);
    await window.page.goto(`${gateway}/account`);
    await signIn(window.page, people.alice);
    for (const origin of [listed, stranger]) {
      await window.page.goto(origin);
      for (const path of [...pages, "/login", "/logout"]) {
        assert.ok((await read(window.page, gateway + path, {})).error, `${origin} reads ${path}`);
        assert.ok((await read(window.page, gateway + path, { credentials: "include" })).error, `${origin} reads ${path} with cookies`);
      }
    }
    window.complaints.splice(0); // Chromium notes each refusal
  },

  "the MCP endpoint is open to the origins of cors_origins only": async ({ gateway, open }) => {
    const site = await otherSites();
    const app = await App.register(gateway, "Journey", `${listed}/callback`);
    const window = await open(scripted);
    await connect(window.page, app, site, people.alice);
    const init = {
      method: "POST", body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" }),
      headers: {
        "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
        "Authorization": `Bearer ${app.tokens.access_token}`, "MCP-Protocol-Version": "2025-11-25", "Mcp-Method": "tools/list",
      },
    };
    await window.page.goto(listed);
    assert.equal((await read(window.page, `${gateway}/mcp`, init)).status, 200);
    await window.page.goto(stranger);
    assert.equal((await read(window.page, `${gateway}/mcp`, init)).status, 403, "a stranger learns that it may not, and nothing else");
  },

  "forms of other sites do nothing": async ({ gateway, open }) => {
    await otherSites();
    const { page } = await open(scripted);
    await page.goto(`${gateway}/account`);
    await signIn(page, people.alice);
    const token = await page.locator("input[name=token]").first().getAttribute("value");
    for (const path of ["/logout", "/account/revoke", "/authorize", "/login"]) {
      await page.goto(stranger);
      const [answer] = await Promise.all([
        page.waitForResponse((response) => response.url() === gateway + path),
        page.waitForURL(gateway + path),
        page.evaluate(([action, token]) => {
          const form = Object.assign(document.createElement("form"), { method: "post", action });
          form.append(Object.assign(document.createElement("input"), { name: "token", value: token }));
          document.body.append(form);
          form.submit();
        }, [gateway + path, token]),
      ]);
      assert.equal(answer.status(), 403, path);
      assert.ok(!(await answer.request().allHeaders()).cookie?.includes("mcp_session"), `${path} got the cookie of the session`);
    }
    await page.goto(stranger);
    await page.evaluate((address) => { location = address; }, `${gateway}/account`);
    await page.waitForURL(`${gateway}/account`);
    await page.getByText("Signed in as alice").waitFor();
  },

  "cookies are out of reach for scripts and for other hosts' pages": async ({ gateway, open }) => {
    await otherSites();
    const { page, context } = await open(scripted);
    await page.goto(`${gateway}/account`);
    await signIn(page, people.alice);
    assert.equal(await page.evaluate(() => document.cookie), "");
    const before = await context.cookies();
    await page.goto(stranger); // the same host by name, without TLS
    await page.evaluate(() => {
      for (const name of ["__Host-mcp_session", "__Host-mcp_browser"]) {
        document.cookie = `${name}=planted; path=/`;
        document.cookie = `${name}=planted; path=/; secure`;
      }
    });
    assert.deepEqual(await context.cookies(), before);
  },

  "the pages' policy forbids what they do not need": async ({ gateway, open }) => {
    const site = await otherSites();
    for (const path of pages) {
      const window = await open(scripted);
      await window.page.goto(gateway + path);
      const violations = await window.page.evaluate(async (other) => {
        const seen = [];
        addEventListener("securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
        const add = (tag, fields) => document.body.append(Object.assign(document.createElement(tag), fields));
        add("script", { textContent: "window.planted = true" });
        add("script", { src: `${other}/x.js` });
        add("img", { src: `${other}/x.png` });
        add("style", { textContent: "body { display: none }" });
        add("iframe", { src: other });
        document.head.append(Object.assign(document.createElement("base"), { href: other }));
        const form = Object.assign(document.createElement("form"), { method: "post", action: `${other}/stolen` });
        document.body.append(form);
        form.submit();
        for (let i = 0; i < 50 && new Set(seen).size < 6; i++) { // each is told in its own time
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
        return { seen: [...new Set(seen)].sort(), planted: window.planted ?? false };
      }, stranger);
      assert.deepEqual(violations, {
        seen: ["base-uri", "form-action", "frame-src", "img-src", "script-src-elem", "style-src-elem"], planted: false,
      }, path);
      assert.equal(await window.page.evaluate(() => document.featurePolicy?.allowsFeature("camera") ?? false), false);
      window.complaints.splice(0);
    }
    assert.deepEqual(site.seen.filter(({ url }) => /stolen|x\./.test(url)), [], "nothing was sent");
  },

  "no page can be framed": async ({ gateway, open }) => {
    await otherSites();
    for (const path of pages) {
      const window = await open(scripted);
      await window.page.goto(`${stranger}/frame?${encodeURIComponent(gateway + path)}`);
      const [, frame] = window.page.frames();
      for (let i = 0; i < 50 && frame.url() === ""; i++) { // it is there before what becomes of it
        await window.page.waitForTimeout(200);
      }
      assert.equal(frame.url(), "chrome-error://chromewebdata/", path);
      window.complaints.splice(0);
    }
  },

  "addresses of pages are told to nobody": async ({ gateway, open }) => {
    const site = await otherSites();
    const app = await App.register(gateway, "Journey", `${listed}/callback`);
    const { page } = await open(scripted);
    await connect(page, app, site, people.alice);
    const { headers } = site.seen.find(({ url }) => url.startsWith("/callback"));
    assert.equal(headers.referer, undefined);
  },

  "a window that opened a page": async ({ gateway, open }) => {
    await otherSites();
    const { page } = await open(scripted);
    await page.goto(`${gateway}/account`);
    await signIn(page, people.alice);
    await page.goto(stranger);
    const openerOf = async (path) => {
      const [popup] = await Promise.all([page.waitForEvent("popup"), page.evaluate((address) => { window.open(address); }, gateway + path)]);
      await popup.waitForURL(gateway + path);
      await heading(popup);
      const opener = await popup.evaluate(() => window.opener !== null);
      await popup.close();
      return opener;
    };
    assert.equal(await openerOf("/account"), false, "the account page is cut off");
    assert.equal(await openerOf("/"), false, "so is the landing page");
    assert.equal(await openerOf("/authorize?client_id=nobody"), true, "pages on the way of an authorization are not: the app waits for its callback");
  },
};

const form = { "Content-Type": "application/x-www-form-urlencoded" };

/** Fetches in the page, as a script of its origin. */
function read(page, address, init) {
  return page.evaluate(async ([address, init]) => {
    try {
      const response = await fetch(address, { redirect: "manual", ...init });
      if (response.type === "opaqueredirect") return { error: "opaque" };
      return { status: response.status, challenge: response.headers.get("WWW-Authenticate") };
    } catch (error) {
      return { error: String(error) };
    }
  }, [address, init]);
}

let running;

/** The pages of other sites, and those of an app that gets its callback there: one server for all scenarios. */
function otherSites() {
  return running ??= serve();
}

async function serve() {
  const seen = [];
  let waiting;
  const server = createServer((request, response) => {
    const { url, headers, method } = request;
    seen.push({ url, headers });
    const [path, query] = url.split("?", 2);
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    const frame = path === "/frame" ? `<iframe src="${decodeURIComponent(query).replaceAll("&", "&amp;")}"></iframe>` : "";
    response.end(`<!doctype html><html lang="en"><title>Elsewhere</title><link rel="icon" href="data:,">${frame}</html>`);
    if (path !== "/callback") return;
    waiting?.({ method, params: new URLSearchParams(query) });
    waiting = undefined;
  });
  await new Promise((resolve, reject) => server.on("error", reject).listen(port, "127.0.0.1", resolve));
  server.unref();
  return { seen, end: `${listed}/callback`, next: () => new Promise((resolve) => { waiting = resolve; }) };
}
