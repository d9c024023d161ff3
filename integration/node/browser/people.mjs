// What people do on the pages, by what they read there.

export const people = {
  alice: { name: "alice", password: process.env.MCP_PASSWORD },
  bob: { name: "bob", password: process.env.MCP_PASSWORD },
};

export async function signIn(page, { name, password }) {
  await page.getByLabel("User name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForLoadState("load"); // a click waits for the next page to begin only
}

export const allow = (page) => page.getByRole("button", { name: "Allow access" });
export const cancel = (page) => page.getByRole("button", { name: /^Cancel/ });
/** Waits for the page with that heading. */
export const at = (page, heading) => page.getByRole("heading", { level: 1, name: heading, exact: true }).waitFor();
export const heading = (page) => page.getByRole("heading", { level: 1 }).textContent();

/** Presses a button that ends at the callback of an app, and returns what the app got once the browser is there. */
export async function press(button, callback) {
  const answer = callback.next();
  await button.click();
  const page = button.page();
  await page.waitForURL((url) => url.href.startsWith(`${callback.end}?`));
  return answer;
}

/** Connects an app that listens for the callback: sign-in if there is a person, consent, and the code for tokens. */
export async function connect(page, app, callback, person) {
  await page.goto(app.begin());
  if (person) await signIn(page, person);
  const { params } = await press(allow(page), callback);
  await app.redeem(params.get("code"));
}
