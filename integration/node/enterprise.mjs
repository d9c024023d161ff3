// An agent that a company's provider vouches for: it trades the ID token of a person for an assertion there, and that for an
// access token of the MCP server, with no browser (Enterprise-Managed Authorization).
//
//   MCP_SERVER=… IDP=… ID_TOKEN=… CLIENT_ID=… CLIENT_SECRET=… node enterprise.mjs

import { Client, CrossAppAccessProvider, StreamableHTTPClientTransport, discoverAndRequestJwtAuthGrant } from "@modelcontextprotocol/client";

const server = new URL(process.env.MCP_SERVER);
const secrets = [];
const authProvider = new CrossAppAccessProvider({
  clientId: process.env.CLIENT_ID, clientSecret: process.env.CLIENT_SECRET, expectedIssuer: server.origin,
  assertion: async ({ authorizationServerUrl, resourceUrl, scope, fetchFn }) => {
    const { jwtAuthGrant } = await discoverAndRequestJwtAuthGrant({
      idpUrl: process.env.IDP, audience: authorizationServerUrl, resource: resourceUrl, scope,
      idToken: process.env.ID_TOKEN, clientId: "agent-at-acme", clientSecret: "a secret of the provider", fetchFn,
    });
    secrets.push(jwtAuthGrant);
    return jwtAuthGrant;
  },
});
const client = new Client({ name: "enterprise", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(server, { authProvider }));
const result = await client.callTool({ name: "search_bugs_by_keyword", arguments: { keyword: "memory leak" } });
const tokens = authProvider.tokens();
secrets.push(tokens.access_token);
console.log(JSON.stringify({
  bugs: result.structuredContent?.bugs?.length ?? 0, scope: tokens.scope, refresh: Boolean(tokens.refresh_token), secrets,
}));
await client.close();
