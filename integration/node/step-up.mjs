// A client that is allowed the least, calls a tool that needs more, and asks its user for it. Each step prints one line of
// JSON, which the test reads; this program decides nothing.
//
//   MCP_SERVER=… MCP_USER=… MCP_PASSWORD=… node step-up.mjs v1|v2 [legacy|modern]

import { listenForCallback } from "./lib/callback.mjs";
import { Provider } from "./lib/provider.mjs";
import { Recorder } from "./lib/record.mjs";
import { Visitor } from "./lib/visitor.mjs";

const [generation, mode] = process.argv.slice(2);
const modules = {
  v1: ["@modelcontextprotocol/sdk/client/index.js", "@modelcontextprotocol/sdk/client/streamableHttp.js"],
  v2: ["@modelcontextprotocol/client"],
}[generation];
const { Client, StreamableHTTPClientTransport } = Object.assign({}, ...(await Promise.all(modules.map((name) => import(name)))));
const options = mode === "modern" ? { versionNegotiation: { mode: { pin: "2026-07-28" } } } : {};

const server = new URL(process.env.MCP_SERVER);
const callback = await listenForCallback();
const provider = new Provider(callback.url);
const visitor = new Visitor({ name: process.env.MCP_USER, password: process.env.MCP_PASSWORD });
const recorder = new Recorder();
let transport, client;

async function connect() {
  transport = new StreamableHTTPClientTransport(server, { authProvider: provider, fetch: recorder.fetch });
  client = new Client({ name: "step-up", version: "1.0.0" }, options);
  await client.connect(transport);
}

/** The person agrees to what the client asks for last, and the client takes the answer. */
async function agree() {
  const request = provider.requests.at(-1);
  const answer = callback.next();
  await visitor.authorize(request.href);
  const { params } = await answer;
  provider.secrets.push(params.get("code"));
  await transport.finishAuth(generation === "v1" ? params.get("code") : params);
  return request.searchParams.get("scope");
}

async function call(name, args) {
  try {
    const result = await client.callTool({ name, arguments: args });
    return { failed: Boolean(result.isError), text: result.content?.[0]?.text ?? "" };
  } catch (error) {
    return { error: error.constructor.name, code: error.code, text: error.message };
  }
}

async function step(name, facts) {
  const requests = await recorder.take();
  console.log(JSON.stringify({ step: name, ...facts, asked: provider.requests.length, scope: provider.tokens()?.scope, requests, secrets: provider.secrets.splice(0) }));
}

await connect().catch(() => {});
await step("connect", { wanted: await agree() });
await connect();
await step("list", { tools: (await client.listTools()).tools.map((tool) => tool.name) });
await step("search", await call("search_bugs_by_keyword", { keyword: "memory leak" }));
await step("refused", await call("create_case", { title: "It broke", description: "all of it" }));
await step("agreed", { wanted: await agree() });
await step("created", await call("create_case", { title: "It broke", description: "all of it" }));
await step("nobody", await call("update_case", { case_id: "600000001", note: "x" }));
await step("after", await call("search_bugs_by_keyword", { keyword: "memory leak" }));
await client.close();
callback.close();
