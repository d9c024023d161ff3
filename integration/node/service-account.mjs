// A machine that calls the MCP server with nobody there, and proves who it is with a private key.
//
//   MCP_SERVER=… CLIENT_ID=… PRIVATE_KEY=… node service-account.mjs v1|v2

const modules = {
  v1: ["@modelcontextprotocol/sdk/client/index.js", "@modelcontextprotocol/sdk/client/streamableHttp.js", "@modelcontextprotocol/sdk/client/auth-extensions.js"],
  v2: ["@modelcontextprotocol/client"],
}[process.argv[2]];
const { Client, StreamableHTTPClientTransport, PrivateKeyJwtProvider } =
  Object.assign({}, ...(await Promise.all(modules.map((name) => import(name)))));

const server = new URL(process.env.MCP_SERVER);
const authProvider = new PrivateKeyJwtProvider({
  clientId: process.env.CLIENT_ID, privateKey: process.env.PRIVATE_KEY, algorithm: "ES256", expectedIssuer: server.origin,
});
const client = new Client({ name: "service-account", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(server, { authProvider }));
const result = await client.callTool({ name: "search_bugs_by_keyword", arguments: { keyword: "memory leak" } });
const tokens = authProvider.tokens();
console.log(JSON.stringify({
  bugs: result.structuredContent?.bugs?.length ?? 0, scope: tokens.scope, refresh: Boolean(tokens.refresh_token), secrets: [tokens.access_token],
}));
await client.close();
