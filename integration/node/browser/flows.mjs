// The ways through the pages, without JavaScript.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { App } from "../lib/app.mjs";
import { listenForCallback } from "../lib/callback.mjs";
import { allow, at, cancel, connect, heading, people, press, signIn } from "./people.mjs";

const { alice, bob } = people;
const cursor = "cursor://anysphere.cursor-mcp/oauth/callback";

export const flows = {
  "sign-in, consent and the way back": async ({ gateway, open }) => {
    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    const { page, context } = await open();

    await page.goto(app.begin());
    assert.equal(await heading(page), "Sign in to connect “Journey”", "who asks is said before the password field");
    assert.match(await page.locator("main").innerText(), /Unconfirmed app on this computer/);
    await signIn(page, alice);
    assert.equal(await heading(page), "Connect “Journey” to Cisco Support?");
    assert.deepEqual(await context.cookies().then(nameless), await hostCookies(context));

    const { method, params } = await press(allow(page), callback);
    assert.equal(method, "GET");
    assert.deepEqual([...params.keys()].sort(), ["code", "iss", "state"]);
    assert.equal(params.get("state"), app.state);
    assert.equal(params.get("iss"), gateway);
    await app.redeem(params.get("code"));
    assert.equal(await app.call(), 200);

    await page.goto(app.begin());
    assert.equal(await heading(page), "Connect “Journey” to Cisco Support?", "the second time only consent is asked for");
  },

  "cancel before and after signing in": async ({ gateway, open }) => {
    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    const { page } = await open();
    for (const steps of [async () => {}, () => signIn(page, alice)]) {
      await page.goto(app.begin());
      await steps();
      const { method, params } = await press(cancel(page), callback);
      assert.equal(method, "GET");
      assert.equal(params.get("error"), "access_denied");
      assert.equal(params.get("state"), app.state);
      assert.equal(params.get("iss"), gateway);
      assert.equal(params.get("code"), null);
    }
  },

  "the keyboard is enough": async ({ gateway, open }) => {
    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    const { page } = await open();
    await page.goto(app.begin());
    await page.getByLabel("User name").focus();
    await page.keyboard.type(alice.name);
    await page.keyboard.press("Tab");
    await page.keyboard.type(alice.password);
    await page.keyboard.press("Enter");
    await allow(page).waitFor();
    const order = [];
    while (order.at(-1) !== "Allow access" && order.length < 20) {
      await page.keyboard.press("Tab");
      order.push(await page.locator(":focus").evaluate((e) => e.textContent || e.value));
    }
    assert.deepEqual(order, ["Use another account", "cases:write", "Cancel", "Allow access"]);
    const answer = callback.next();
    await page.keyboard.press("Enter");
    assert.ok((await answer).params.get("code"));
  },

  "a wrong password": async ({ gateway, open }) => {
    const app = await App.register(gateway, "Cursor", cursor);
    const { page } = await open();
    await page.goto(app.begin());
    await signIn(page, { ...alice, password: "wrong" });
    assert.match(await page.title(), /^Error: Sign in/);
    assert.match(await page.getByRole("alert").innerText(), /That didn’t match.*9 tries left/s);
    const password = page.getByLabel("Password");
    assert.equal(await page.getByLabel("User name").inputValue(), alice.name, "the name stays");
    assert.equal(await password.inputValue(), "", "the password does not");
    assert.equal(await password.getAttribute("aria-describedby"), await page.getByRole("alert").getAttribute("id"));
    assert.ok(await password.evaluate((e) => e === document.activeElement), "the password has the focus");
    await signIn(page, alice);
    assert.equal(await heading(page), "Connect “Cursor” to Cisco Support?");
  },

  "another account": async ({ gateway, open }) => {
    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    const { page } = await open();
    await page.goto(app.begin());
    await signIn(page, alice);
    await page.getByText("Signed in as alice").waitFor();
    await page.getByRole("button", { name: "Use another account" }).click();
    assert.equal(await heading(page), "Sign in to connect “Journey”");
    await signIn(page, bob);
    await page.getByText("Signed in as bob").waitFor();
    const { params } = await press(allow(page), callback);
    await app.redeem(params.get("code"));
    await page.goto(`${gateway}/account`);
    await page.getByText("Signed in as bob").waitFor();
    await page.getByRole("button", { name: "Remove “Journey”" }).waitFor();
  },

  "a double click does not allow": async ({ gateway, open }) => {
    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    const { page } = await open();
    const answers = [];
    page.on("request", (request) => {
      if (request.method() === "POST" && new URL(request.url()).pathname === "/authorize") answers.push(request);
    });
    await page.goto(app.begin());
    await signIn(page, alice);
    const box = await allow(page).boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    for (const time of [0, 350, 699]) {
      await moment(allow(page), time);
      await page.mouse.click(x, y);
      assert.equal(await hit(page, x, y), false, `a click after ${time} ms does not reach the button`);
    }
    await moment(allow(page), 700);
    assert.ok(await hit(page, x, y), "a click after 700 ms does");
    assert.deepEqual(answers, []);
    const answer = callback.next();
    const told = page.waitForRequest((request) => request.method() === "POST"); // the app may hear of it before us
    await page.mouse.click(x, y);
    assert.ok((await answer).params.get("code"));
    await told;
    assert.equal(answers.length, 1);
  },

  "removing an app": async ({ gateway, open }) => {
    const callback = await listenForCallback();
    const [keep, remove] = [await App.register(gateway, "Keeper", callback.url), await App.register(gateway, "Goner", callback.url)];
    const { page } = await open();
    await connect(page, keep, callback, alice);
    await connect(page, remove, callback);
    await page.goto(`${gateway}/account`);
    await page.getByRole("button", { name: "Remove “Goner”" }).click();
    assert.match(await page.getByRole("status").innerText(), /Removed “Goner”/);
    assert.equal(await page.getByRole("button", { name: "Remove “Goner”" }).count(), 0);
    assert.equal(await page.getByRole("button", { name: "Remove “Keeper”" }).count(), 1);
    assert.equal(await remove.call(), 401);
    assert.equal(await remove.refresh(), 400);
    assert.equal(await keep.call(), 200);
  },

  "signing out, here and everywhere": async ({ gateway, open }) => {
    const [here, there] = [await open(), await open()];
    const account = async ({ page }) => {
      await page.goto(`${gateway}/account`);
      return heading(page);
    };
    const sessions = async () => [await account(here), await account(there)];
    for (const window of [here, there]) {
      assert.equal(await account(window), "Sign in");
      await signIn(window.page, bob);
    }
    const [signedIn] = await sessions();
    assert.deepEqual(await sessions(), [signedIn, signedIn]);

    await here.page.getByRole("button", { name: "Sign out", exact: true }).click();
    assert.equal(await heading(here.page), "You are signed out");
    assert.ok(!(await here.context.cookies()).some((cookie) => cookie.name.includes("session")), "the cookie is gone");
    assert.deepEqual(await sessions(), ["Sign in", signedIn]);

    await signIn(here.page, bob);
    await here.page.getByRole("button", { name: "Sign out everywhere" }).click();
    assert.equal(await heading(here.page), "You are signed out everywhere");
    assert.deepEqual(await sessions(), ["Sign in", "Sign in"]);
  },

  "letting a device in": async ({ gateway, open }) => {
    const app = await App.onDevice(gateway, "Headless");
    const { page } = await open();
    await page.goto(app.codes.verification_uri);
    await page.getByLabel("Code").fill("bbbb bbbb");
    await page.getByRole("button", { name: "Continue" }).click();
    assert.match(await page.getByRole("alert").innerText(), /No device is waiting with this code/);
    await page.getByLabel("Code").fill(app.codes.user_code.toLowerCase().replace("-", " "));
    await page.keyboard.press("Enter");
    await at(page, "Sign in to connect “Headless”");
    await signIn(page, alice);
    assert.equal(await heading(page), "Connect “Headless” to Cisco Support?");
    assert.match(await page.locator("main").innerText(), new RegExp(`Continue only if your device shows ${app.codes.user_code}`));
    await allow(page).click();
    assert.equal(await heading(page), "Allowed. Go back to your device");
    assert.equal(await app.poll(), undefined);
    assert.equal(await app.call(), 200);
    await page.goto(`${gateway}/account`);
    await page.getByRole("button", { name: "Remove “Headless”" }).click();
    assert.equal(await app.call(), 401);
  },

  "refusing a device, before and after signing in": async ({ gateway, open }) => {
    const { page } = await open();
    for (const steps of [async () => {}, () => signIn(page, alice)]) {
      const app = await App.onDevice(gateway, "Headless");
      await page.goto(app.codes.verification_uri_complete);
      assert.match(await page.locator("main").innerText(), /Is this the code that your device shows\?/);
      assert.equal(await page.getByLabel("Code").inputValue(), app.codes.user_code);
      await page.getByRole("button", { name: "Continue" }).click();
      await steps();
      await cancel(page).click();
      assert.equal(await heading(page), "Cancelled. Your device gets no access");
      assert.equal(await app.poll(), "access_denied");
    }
  },

  "the landing page": async ({ gateway, open }) => {
    const { page } = await open();
    await page.goto(gateway);
    assert.equal(await heading(page), "Cisco Support");
    const text = await page.locator("main").innerText();
    for (const part of [`${gateway}/mcp`, `claude mcp add --transport http`, "mcpServers"]) {
      assert.ok(text.includes(part), `the page says ${part}`);
    }
  },

  "an app that is not known, and an address that is not the app's": async ({ gateway, open }) => {
    const { page } = await open();
    const callback = await listenForCallback();
    const app = await App.register(gateway, "Journey", callback.url);
    for (const [mistake, title] of [
      [{ client_id: "mcp_nobody" }, "This server does not know the app"],
      [{ redirect_uri: "https://attacker.example/callback" }, "The app asks for an address it did not register"],
    ]) {
      const url = new URL(app.begin());
      for (const [name, value] of Object.entries(mistake)) url.searchParams.set(name, value);
      const response = await page.goto(url.href);
      assert.equal(response.status(), 400);
      assert.equal(await heading(page), title);
      assert.equal(page.url(), url.href, "nobody is sent anywhere");
    }
  },

  "an app with a scheme of its own": async ({ gateway, open }) => {
    const app = await App.register(gateway, "Cursor", cursor);
    const { page } = await open();
    await page.goto(app.begin());
    await signIn(page, alice);
    assert.match(await page.locator("main").innerText(), /opens cursor: links/);
    const opened = page.waitForRequest((request) => request.url().startsWith("cursor:"));
    await allow(page).click();
    const request = await opened;
    assert.equal(request.method(), "GET", "the browser tries by itself");
    const link = page.getByRole("link", { name: "Go back to the app" });
    assert.equal(await link.getAttribute("href"), request.url());
    assert.equal(request.url().split("?")[0], cursor);
    const params = new URL(request.url()).searchParams;
    assert.equal(params.get("state"), app.state);
    await app.redeem(params.get("code"));
  },

  "a callback that goes on to another host": async ({ gateway, open }) => {
    const elsewhere = await listenForCallback();
    const callback = await listenForCallback(elsewhere.url);
    const app = await App.register(gateway, "Journey", callback.url);
    const { page } = await open();
    await page.goto(app.begin());
    await signIn(page, alice);
    const last = elsewhere.next();
    await press(allow(page), callback);
    const { method, params } = await last;
    assert.equal(method, "GET", "307 repeats the method, which has to be GET by then");
    await app.redeem(params.get("code"));
  },

  "no page in a frame": async ({ gateway, open }) => {
    const app = await App.register(gateway, "Cursor", cursor);
    const window = await open();
    const html = `<title>Frame</title><iframe src="${app.begin().replaceAll("&", "&amp;")}"></iframe>`;
    const server = createServer((_, response) => response.setHeader("Content-Type", "text/html").end(html));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    server.unref();
    await window.page.goto(`http://127.0.0.1:${server.address().port}/`);
    const [, frame] = window.page.frames();
    assert.equal(await frame.getByLabel("Password").count(), 0);
    assert.match(window.complaints.splice(0).join("\n"), /frame-ancestors 'none'/);
    server.close();
  },

  "the language of the browser": async ({ gateway, open }) => {
    const app = await App.register(gateway, "Cursor", cursor);
    const { page } = await open({ locale: "de-AT" });
    await page.goto(app.begin());
    assert.equal(await page.locator("html").getAttribute("lang"), "de");
    await page.getByLabel("Passwort").waitFor();
  },
};

/** Stops the animation that keeps the button from being clicked, at a time after the page was shown. */
function moment(button, time) {
  return button.evaluate((element, time) => {
    const [animation] = element.getAnimations();
    animation.pause();
    animation.currentTime = time;
  }, time);
}

/** Whether a click at that place goes to a button. */
function hit(page, x, y) {
  return page.evaluate(([x, y]) => document.elementFromPoint(x, y).closest("button") !== null, [x, y]);
}

const nameless = (cookies) => cookies.map(({ value, expires, ...rest }) => rest);

/** The cookies as they have to be: bound to the host, unreadable for scripts, and not sent with forms of other sites. */
async function hostCookies(context) {
  const names = (await context.cookies()).map(({ name }) => name);
  assert.deepEqual(names.sort(), ["__Host-mcp_browser", "__Host-mcp_session"]);
  return names.map((name) => ({ name, domain: "localhost", path: "/", httpOnly: true, secure: true, sameSite: "Lax" }));
}
