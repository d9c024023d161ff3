// Every kind of page, looked at by axe: in light and in dark, on a desk and on a small phone. The pictures are kept.

import assert from "node:assert/strict";
import { join } from "node:path";
import axe from "axe-core";
import { App } from "../lib/app.mjs";
import { listenForCallback } from "../lib/callback.mjs";
import { allow, cancel, connect, heading, people, press, signIn } from "./people.mjs";

const { alice, bob } = people;
const cursor = "cursor://anysphere.cursor-mcp/oauth/callback";

// The pages forbid scripts, and axe is one.
export const withAxe = { javaScriptEnabled: true, bypassCSP: true };

export const audits = {
  "audit: pages for visitors": async (stage) => {
    const { gateway } = stage;
    const { page } = await stage.open(withAxe);
    await page.goto(gateway);
    await audit(stage, page, "landing");
    await page.goto(`${gateway}/account`);
    await audit(stage, page, "account-sign-in");
    const app = await App.register(gateway, "Cursor", cursor);
    const url = new URL(app.begin());
    await page.goto(url.href);
    await audit(stage, page, "sign-in");
    url.searchParams.set("client_id", "mcp_nobody");
    await page.goto(url.href);
    await audit(stage, page, "error-unknown-client");
  },

  "audit: connecting an app": async (stage) => {
    const app = await App.register(stage.gateway, "Cursor", cursor);
    const { page } = await stage.open(withAxe);
    await page.goto(app.begin());
    await signIn(page, { ...alice, password: "wrong" });
    await page.getByRole("alert").waitFor();
    await audit(stage, page, "sign-in-wrong");
    await signIn(page, alice);
    await allow(page).waitFor();
    await audit(stage, page, "consent-app");
    await allow(page).click();
    await page.getByRole("link", { name: "Go back to the app" }).waitFor();
    await audit(stage, page, "hand-off");
  },

  "audit: cancelling": async (stage) => {
    const app = await App.register(stage.gateway, "Cursor", cursor);
    const { page } = await stage.open(withAxe);
    await page.goto(app.begin());
    await cancel(page).click();
    await page.getByRole("link", { name: "Go back to the app" }).waitFor();
    await audit(stage, page, "hand-off-cancelled");
  },

  "audit: who asks for consent": async (stage) => {
    const { gateway } = stage;
    const website = await App.register(gateway, "A website with quite a long name that has to wrap", "https://app.example/callback");
    const configured = new App(gateway, "Nightly report", "nightly-report", "https://report.example/callback");
    const { page } = await stage.open(withAxe);
    await page.goto(website.begin());
    await signIn(page, alice);
    await page.getByText("Unconfirmed website").waitFor();
    await audit(stage, page, "consent-website");
    await page.goto(configured.begin());
    await page.getByText("Added by whoever runs this server.").waitFor();
    await audit(stage, page, "consent-configured");
  },

  "audit: a device": async (stage) => {
    const [app, other] = [await App.onDevice(stage.gateway, "Headless"), await App.onDevice(stage.gateway, "Headless")];
    const { page } = await stage.open(withAxe);
    await page.goto(app.codes.verification_uri_complete);
    await audit(stage, page, "device-compare");
    await page.goto(app.codes.verification_uri);
    await audit(stage, page, "device");
    await page.getByLabel("Code").fill("BBBB-BBBB");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("alert").waitFor();
    await audit(stage, page, "device-unknown");
    for (const [{ codes }, button, name] of [[app, allow, "allowed"], [other, cancel, "cancelled"]]) {
      await page.goto(codes.verification_uri_complete);
      await page.getByRole("button", { name: "Continue" }).click();
      if (name === "allowed") {
        await page.getByLabel("Password").waitFor();
        await audit(stage, page, "device-sign-in");
        await signIn(page, alice);
      }
      await allow(page).waitFor();
      await audit(stage, page, `consent-device-${name}`);
      await button(page).click();
      await page.getByText("You can close this page.").waitFor();
      await audit(stage, page, `device-${name}`);
    }
  },

  "audit: the account": async (stage) => {
    const { gateway } = stage;
    const callback = await listenForCallback();
    const { page } = await stage.open(withAxe);
    await page.goto(`${gateway}/account`);
    await signIn(page, { ...bob, name: "carol" });
    await page.getByText("No app is connected").waitFor();
    await audit(stage, page, "account-empty");
    for (const name of ["Journey", "An app with a long name, as some have", "Goner"]) {
      await connect(page, await App.register(gateway, name, callback.url), callback);
    }
    await page.goto(`${gateway}/account`);
    await audit(stage, page, "account");
    await page.getByRole("button", { name: "Remove “Goner”" }).click();
    await page.getByRole("status").waitFor();
    await audit(stage, page, "account-removed");
    await page.getByRole("button", { name: "Sign out everywhere" }).click();
    assert.equal(await heading(page), "You are signed out everywhere");
    await audit(stage, page, "signed-out");
  },

  "no page breaks its own policy": async ({ gateway, open }) => {
    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    const { page } = await open({ javaScriptEnabled: true });
    await page.goto(gateway);
    await page.goto(app.begin());
    await signIn(page, { ...alice, password: "wrong" });
    await signIn(page, alice);
    const { params } = await press(allow(page), callback);
    await app.redeem(params.get("code"));
    await page.goto(`${gateway}/account`);
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await page.goto(`${gateway}/authorize`);
    await page.getByRole("heading", { name: "This link is not complete" }).waitFor();
  },

  "a page that breaks its policy is noticed": async ({ gateway, open }) => {
    const window = await open({ javaScriptEnabled: true });
    await window.page.route(`${gateway}/`, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: (await response.text()).replace("</body>", "<script>1</script></body>") });
    });
    await window.page.goto(gateway);
    await window.page.waitForFunction(() => document.readyState === "complete");
    assert.match(window.complaints.splice(0).join("\n"), /script-src|default-src/);
  },

  // The last one, because it leaves this address without tries for a while.
  "audit: too many tries": async (stage) => {
    const { page } = await stage.open(withAxe);
    await page.goto(`${stage.gateway}/account`);
    for (let tries = 0; tries < 15 && (await page.getByText("Too many tries").count()) === 0; tries++) {
      await signIn(page, { ...alice, password: "wrong" });
      await page.getByRole("alert").waitFor();
    }
    assert.match(await page.getByRole("alert").innerText(), /Wait \d+ seconds?, then try again/);
    await audit(stage, page, "sign-in-paused");
  },
};

/** Looks at a page in all its forms. */
export async function audit({ artifacts }, page, name) {
  await page.waitForLoadState("load");
  await page.evaluate(axe.source);
  const problems = [];
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 320]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      const form = `${name}-${colorScheme}-${width}`;
      const { violations, passes } = await page.evaluate(() => axe.run({ rules: { "target-size": { enabled: true } } }));
      problems.push(...violations.flatMap((v) => v.nodes.map((n) => `${form}: ${v.id}: ${n.target}: ${n.failureSummary}`)));
      assert.ok(passes.some((rule) => rule.id === "color-contrast"), `${form}: axe has measured the contrast`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (overflow > 0) problems.push(`${form}: ${overflow} px are beyond the right edge`);
      await page.screenshot({ path: join(artifacts, `${form}.png`), fullPage: true });
    }
  }
  assert.deepEqual(problems, []);
}
