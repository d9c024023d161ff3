// The way of an MCP client from the first 401 to the end of its access. Each step prints one line of JSON, which the
// test reads; this program decides nothing.

import { listenForCallback } from "./callback.mjs";
import { Provider } from "./provider.mjs";
import { Recorder } from "./record.mjs";
import { Visitor } from "./visitor.mjs";

const search = { name: "search_bugs_by_keyword", arguments: { keyword: "memory leak", severity: "3", page_index: 1 } };

/**
 * Runs the journey with one generation of the SDK.
 *
 * @param {object} sdk
 * @param {() => object} sdk.newClient
 * @param {(url: URL, options: object) => object} sdk.newTransport
 * @param {(transport: object, callback: URLSearchParams) => Promise<void>} sdk.finish hands the callback to the SDK
 * @param {(client: object, transport: object) => string} sdk.protocolVersion what was negotiated
 */
export async function journey(sdk) {
  const server = new URL(process.env.MCP_SERVER);
  const callback = await listenForCallback();
  const provider = new Provider(callback.url, process.env.CLIENT_DOCUMENT);
  const visitor = new Visitor({ name: process.env.MCP_USER, password: process.env.MCP_PASSWORD });
  const recorder = new Recorder();
  const options = { authProvider: provider, fetch: recorder.fetch };
  const step = async (name, facts = {}) => {
    const requests = await recorder.take();
    console.log(JSON.stringify({ step: name, ...facts, requests, secrets: provider.secrets.splice(0) }));
  };

  // The first connection is refused, and the SDK discovers, registers and asks for a browser.
  let transport = sdk.newTransport(server, options);
  let client = sdk.newClient();
  const refused = await failure(client.connect(transport));
  const { client_id, client_secret, token_endpoint_auth_method } = provider.clientInformation() ?? {};
  const [request] = provider.requests;
  await step("discover", {
    error: refused, has_secret: Boolean(client_secret), auth_method: token_endpoint_auth_method,
    parameters: Object.fromEntries(request?.searchParams ?? []), authorize: request && request.origin + request.pathname,
  });

  // A person signs in and agrees; the browser comes back to the client.
  const answer = callback.next();
  await visitor.authorize(request.href);
  const { method, params } = await answer;
  provider.secrets.push(params.get("code"));
  await step("authorize", {
    titles: visitor.titles, method, iss: params.get("iss"),
    same_state: params.get("state") === request.searchParams.get("state"),
  });

  await sdk.finish(transport, params);
  const first = provider.tokens();
  await step("token", { scope: first.scope, token_type: first.token_type, expires_in: first.expires_in });

  // A transport is for one connection, so there is a new one.
  transport = sdk.newTransport(server, options);
  client = sdk.newClient();
  await client.connect(transport);
  await step("connect", { protocol: sdk.protocolVersion(client, transport), server: client.getServerVersion()?.name });

  const { tools } = await client.listTools();
  await step("tools/list", { tools: tools.map((tool) => tool.name) });
  await step("tools/call", bugs(await client.callTool(search)));

  provider.spoilAccessToken();
  const result = bugs(await client.callTool(search));
  const second = provider.tokens();
  await step("refresh", {
    ...result, new_access: second.access_token !== first.access_token, new_refresh: second.refresh_token !== first.refresh_token,
    expires_in: second.expires_in, scope: second.scope,
  });

  const revocation = new URLSearchParams({ token: second.refresh_token, token_type_hint: "refresh_token", client_id });
  const revoked = await fetch(new URL("/revoke", server), { method: "POST", body: revocation });
  await step("revoke", { status: revoked.status });

  const ended = await failure(client.callTool(search));
  await step("after", {
    error: ended, invalidated: provider.invalidated, asked: provider.requests.length,
    same_client: provider.requests.at(-1).searchParams.get("client_id") === client_id,
  });
  await client.close();
  callback.close();
}

/** The name of the error that a promise fails with, or "" for success. */
async function failure(promise) {
  try {
    await promise;
    return "";
  } catch (error) {
    return error.constructor.name;
  }
}

function bugs(result) {
  return { failed: Boolean(result.isError), bugs: result.structuredContent?.bugs?.length ?? 0 };
}
