// Second factors without JavaScript, passkeys with it. The authenticator is Chromium's own virtual one.

import assert from "node:assert/strict";
import { App } from "../lib/app.mjs";
import { listenForCallback } from "../lib/callback.mjs";
import { totp } from "../lib/totp.mjs";
import { audit, withAxe } from "./audits.mjs";
import { allow, at, people, press, signIn } from "./people.mjs";

const { alice, bob } = people;
const carol = { ...bob, name: "carol" };
const scripted = { javaScriptEnabled: true };
const cursor = "cursor://anysphere.cursor-mcp/oauth/callback";

const link = (page, name) => page.getByRole("link", { name, exact: true });
const bobs = {}; // the key of the app that bob sets up for the audits
const setUp = (page) => link(page, "Second factor: Set up");

export const factors = {
  "a second factor without JavaScript": async ({ gateway, open }) => {
    const { page } = await open();
    await page.goto(`${gateway}/account`);
    await signIn(page, alice);
    const { key, recovery } = await enrol(page);
    await link(page, "I have saved them").click();
    await page.getByText("10 recovery codes left").waitFor();

    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    const other = await open();
    await other.page.goto(app.begin());
    await signIn(other.page, alice);
    await at(other.page, "Enter your code");
    const field = other.page.getByLabel("Code", { exact: true });
    assert.equal(await field.getAttribute("autocomplete"), "one-time-code");
    assert.equal(await field.getAttribute("inputmode"), "numeric");
    await giveCode(other.page, totp(key, -1));
    assert.match(await other.page.title(), /^Error: /);
    assert.match(await other.page.getByRole("alert").innerText(), /That code didn’t match/, "the one that set it up is used");
    await giveCode(other.page, totp(key));
    const { params } = await press(allow(other.page), callback);
    await app.redeem(params.get("code"));
    assert.equal(await app.call(), 200);

    const third = await open();
    await third.page.goto(`${gateway}/account`);
    await signIn(third.page, alice);
    await third.page.getByText("Use a recovery code instead").click();
    await third.page.getByLabel("Recovery code").fill(recovery[0].toUpperCase());
    await third.page.getByRole("button", { name: "Sign in" }).nth(1).click();
    await third.page.getByText("9 recovery codes left").waitFor();
  },

  "turning a second factor off": async ({ gateway, open }) => {
    const { page } = await open();
    await page.goto(`${gateway}/account`);
    await signIn(page, bob);
    const { key } = await enrol(page);
    await link(page, "I have saved them").click();
    await link(page, "Second factor: Change").click();
    await page.getByLabel("Code", { exact: true }).fill(totp(key));
    await page.getByRole("button", { name: "Turn off" }).first().click();
    assert.match(await page.getByRole("status").innerText(), /The second factor is off/);
    await setUp(page).waitFor();
  },

  "the sign-in page of a second factor leads back": async ({ gateway, open }) => {
    const app = await App.register(gateway, "Cursor", cursor);
    const { page } = await open();
    await page.goto(app.begin());
    await signIn(page, alice); // who has a second factor by now
    await link(page, "Back to sign-in").click();
    await at(page, "Sign in to connect “Cursor”");
    await signIn(page, carol);
    await at(page, "Connect “Cursor” to Cisco Support?");
  },

  "a passkey": async ({ gateway, open }) => {
    const { page, context } = await open(scripted);
    const device = await Device.plugIn(context, page);
    await page.goto(`${gateway}/account`);
    await signIn(page, carol);
    await link(page, "Add a passkey").click();
    await page.getByLabel("Name").fill("Laptop");
    await page.getByRole("button", { name: "Add a passkey" }).click();
    assert.match(await page.getByRole("status").innerText(), /Added Laptop/);
    const [kept] = await device.credentials();
    assert.ok(kept.isResidentCredential);
    assert.equal(kept.rpId, "localhost");
    assert.equal(Buffer.from(kept.userHandle, "base64").includes("carol"), false, "the handle tells no name");
    await page.getByRole("button", { name: "Sign out", exact: true }).click();

    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    await page.goto(app.begin());
    await link(page, "Use a passkey").click();
    assert.match(await page.locator("main").innerText(), /Unconfirmed app on this computer/, "who asks is said here, too");
    await page.getByRole("button", { name: "Use a passkey" }).click();
    await page.getByText("Signed in as carol").waitFor();
    const { params } = await press(allow(page), callback);
    await app.redeem(params.get("code"));
    assert.equal(await app.call(), 200);

    await page.goto(`${gateway}/account`);
    await page.getByText("last used just now").first().waitFor();
    await page.getByRole("button", { name: "Remove Laptop" }).click();
    assert.match(await page.getByRole("status").innerText(), /Removed Laptop/);
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await page.goto(`${gateway}/account`);
    await link(page, "Use a passkey").click();
    await page.getByRole("button", { name: "Use a passkey" }).click();
    await page.getByText("That passkey was not accepted").waitFor();
    await link(page, "Back to sign-in").click();
    await signIn(page, carol);
    await link(page, "Add a passkey").waitFor();
  },

  "a passkey that does not come": async ({ gateway, open }) => {
    const { page, context } = await open(scripted);
    const device = await Device.plugIn(context, page);
    await device.verifies(false);
    await page.goto(`${gateway}/account`);
    await link(page, "Use a passkey").click();
    await page.getByRole("button", { name: "Use a passkey" }).click();
    await page.getByText("No passkey came back").waitFor();
    assert.equal(new URL(page.url()).pathname, "/login/passkey", "nothing was sent");
  },

  "a browser without passkeys": async ({ gateway, open }) => {
    const { page, context } = await open(scripted);
    await context.addInitScript(() => { delete window.PublicKeyCredential; });
    await page.goto(`${gateway}/account`);
    await link(page, "Use a passkey").click();
    await page.getByText("This browser has no passkeys").waitFor();
    assert.equal(await page.getByRole("button", { name: "Use a passkey" }).count(), 0);
  },

  "the page for passkeys without JavaScript": async ({ gateway, open }) => {
    const app = await App.register(gateway, "Cursor", cursor);
    const { page } = await open();
    await page.goto(app.begin());
    await link(page, "Use a passkey").click();
    await page.getByText("Passkeys need JavaScript").waitFor();
    assert.equal(await page.getByRole("button").count(), 0);
    await link(page, "Back to sign-in").click();
    await signIn(page, carol);
    await at(page, "Connect “Cursor” to Cisco Support?");
  },

  "audit: setting a second factor up": async (stage) => {
    const { page } = await stage.open(withAxe);
    await page.goto(`${stage.gateway}/account`);
    await signIn(page, bob);
    await setUp(page).click();
    await page.getByText("Cannot scan it?").click();
    await audit(stage, page, "second-factor-set-up");
    bobs.key = (await confirm(page)).key;
    await audit(stage, page, "recovery-codes");
  },

  "audit: a second factor": async (stage) => {
    const { page } = await stage.open(withAxe);
    await page.goto(`${stage.gateway}/account`);
    await signIn(page, bob);
    await at(page, "Enter your code");
    await audit(stage, page, "code");
    await giveCode(page, totp(bobs.key));
    await at(page, "Connected apps");
    await audit(stage, page, "account-second-factor");
    await link(page, "Second factor: Change").click();
    await at(page, "Change your second factor");
    await audit(stage, page, "second-factor-change");
  },

  "audit: codes that are wrong": async (stage) => {
    const app = await App.register(stage.gateway, "Cursor", cursor);
    const { page } = await stage.open(withAxe);
    await page.goto(app.begin());
    await signIn(page, bob);
    await giveCode(page, "000");
    await page.getByText("That code didn’t match").waitFor();
    await audit(stage, page, "code-wrong");
    await page.getByText("Use a recovery code instead").click();
    await page.getByLabel("Recovery code").fill("aaaa");
    await page.getByRole("button", { name: "Sign in" }).nth(1).click();
    await page.getByText("That recovery code didn’t match").waitFor();
    await audit(stage, page, "code-wrong-recovery");
  },

  "audit: passkeys": async (stage) => {
    const { gateway } = stage;
    const { page, context } = await stage.open(withAxe);
    await Device.plugIn(context, page);
    await page.goto(`${gateway}/account`);
    await link(page, "Use a passkey").click();
    await audit(stage, page, "passkey");
    await link(page, "Back to sign-in").click();
    await signIn(page, carol);
    await link(page, "Add a passkey").click();
    await audit(stage, page, "passkey-new");
    await page.getByLabel("Name").fill("A laptop with a name that is so long that it has to wrap on most phones");
    await page.getByRole("button", { name: "Add a passkey" }).click();
    await page.getByRole("status").waitFor();
    await audit(stage, page, "account-passkey");
  },
};

/** Sets an app up for who is signed in, and returns its key and the recovery codes. */
async function enrol(page) {
  await setUp(page).click();
  await page.getByText("Cannot scan it?").click();
  return confirm(page);
}

/** Types the code on the page that shows the key. */
async function confirm(page) {
  const uri = new URL(await link(page, "Open it in an app on this device").getAttribute("href"));
  assert.equal(uri.protocol, "otpauth:");
  const key = uri.searchParams.get("secret");
  assert.equal((await page.locator(".url").first().innerText()).replaceAll(" ", ""), key);
  const box = await page.locator("svg.qr").boundingBox();
  assert.ok(box.width >= 150 && Math.abs(box.width - box.height) < 1, "the QR code can be scanned");
  await page.getByLabel("Code", { exact: true }).fill(totp(key, -1));
  await page.getByRole("button", { name: "Turn on" }).click();
  await at(page, "Save your recovery codes");
  const recovery = await page.locator(".codes code").allInnerTexts();
  assert.equal(new Set(recovery).size, 10);
  App.secrets.push(key, ...recovery);
  return { key, recovery };
}

async function giveCode(page, code) {
  await page.getByLabel("Code", { exact: true }).fill(code);
  await page.getByRole("button", { name: "Sign in" }).first().click();
  await page.waitForLoadState("load");
}

/** Chromium's virtual authenticator, which verifies its user by itself. */
class Device {
  static async plugIn(context, page) {
    const device = new Device();
    device.session = await context.newCDPSession(page);
    await device.session.send("WebAuthn.enable");
    const { authenticatorId } = await device.session.send("WebAuthn.addVirtualAuthenticator", {
      options: {
        protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
        automaticPresenceSimulation: true,
      },
    });
    device.authenticatorId = authenticatorId;
    return device;
  }

  async credentials() {
    return (await this.session.send("WebAuthn.getCredentials", { authenticatorId: this.authenticatorId })).credentials;
  }

  verifies(isUserVerified) {
    return this.session.send("WebAuthn.setUserVerified", { authenticatorId: this.authenticatorId, isUserVerified });
  }
}
