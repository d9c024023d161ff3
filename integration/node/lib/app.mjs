// The side of an app that people connect in a browser: it registers, makes authorization requests and uses the tokens.

import { createHash, randomBytes } from "node:crypto";

export class App {
  #gateway;
  #redirect;

  /** The codes and tokens of all apps, which must not show in the log of the gateway. */
  static secrets = [];

  /** Registers an app. */
  static async register(gateway, name, redirect) {
    const body = JSON.stringify({ client_name: name, redirect_uris: [redirect], token_endpoint_auth_method: "none" });
    const { status, text } = await post(`${gateway}/register`, body, { "Content-Type": "application/json" });
    if (status !== 201) throw new Error(`registering answers ${status}`);
    return new App(gateway, name, JSON.parse(text).client_id, redirect);
  }

  /** An app that the gateway knows already. */
  constructor(gateway, name, id, redirect) {
    this.#gateway = gateway;
    this.#redirect = redirect;
    Object.assign(this, { name, id });
  }

  /** Begins an authorization and returns the address for the browser. The state has characters that need escaping. */
  begin() {
    this.verifier = randomBytes(32).toString("base64url");
    this.state = `a b+c&ü ${randomBytes(8).toString("hex")}`;
    const url = new URL(`${this.#gateway}/authorize`);
    url.search = new URLSearchParams({
      response_type: "code", client_id: this.id, redirect_uri: this.#redirect, state: this.state,
      code_challenge: createHash("sha256").update(this.verifier).digest("base64url"), code_challenge_method: "S256",
    });
    return url.href;
  }

  /** Registers an app on a device without a browser, and asks for the codes of a request. */
  static async onDevice(gateway, name) {
    const grant_types = ["urn:ietf:params:oauth:grant-type:device_code"];
    const registered = await post(`${gateway}/register`, JSON.stringify({ client_name: name, grant_types }), { "Content-Type": "application/json" });
    if (registered.status !== 201) throw new Error(`registering answers ${registered.status}`);
    const app = new App(gateway, name, JSON.parse(registered.text).client_id);
    const { status, text } = await post(`${gateway}/device_authorization`, new URLSearchParams({ client_id: app.id }));
    if (status !== 200) throw new Error(`asking for codes answers ${status}`);
    app.codes = JSON.parse(text);
    App.secrets.push(app.codes.device_code);
    return app;
  }

  /** Polls once for the tokens of a device. Returns the error, or nothing when there are some. */
  async poll() {
    const { text } = await this.#token({ grant_type: "urn:ietf:params:oauth:grant-type:device_code", device_code: this.codes.device_code });
    this.tokens = JSON.parse(text);
    App.secrets.push(...[this.tokens.access_token, this.tokens.refresh_token].filter(Boolean));
    return this.tokens.error;
  }

  /** Redeems a code. */
  async redeem(code) {
    App.secrets.push(code);
    const { status, text } = await this.#token({
      grant_type: "authorization_code", code, redirect_uri: this.#redirect, code_verifier: this.verifier,
    });
    if (status !== 200) throw new Error(`redeeming the code answers ${status}`);
    this.tokens = JSON.parse(text);
    App.secrets.push(this.tokens.access_token, this.tokens.refresh_token);
  }

  /** The status of a refresh. The tokens that it brings are not kept. */
  async refresh() {
    return (await this.#token({ grant_type: "refresh_token", refresh_token: this.tokens.refresh_token })).status;
  }

  /** The status of a call with the access token. */
  async call() {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });
    const headers = {
      "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
      "Authorization": `Bearer ${this.tokens.access_token}`,
    };
    return (await post(`${this.#gateway}/mcp`, body, headers)).status;
  }

  #token(fields) {
    return post(`${this.#gateway}/token`, new URLSearchParams({ ...fields, client_id: this.id }));
  }
}

/** Posts and reads the whole answer: one that is not read keeps its connection, and Node running. */
async function post(url, body, headers) {
  const response = await fetch(url, { method: "POST", headers, body });
  return { status: response.status, text: await response.text() };
}
