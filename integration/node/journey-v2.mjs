// The journey with the second generation of the TypeScript SDK.
//
//   node journey-v2.mjs http|sse legacy|auto|modern

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { journey } from "./lib/journey.mjs";

const Transport = { http: StreamableHTTPClientTransport, sse: SSEClientTransport }[process.argv[2]];
const mode = process.argv[3] === "modern" ? { pin: "2026-07-28" } : process.argv[3];

await journey({
  newClient: () => new Client({ name: "journey-v2", version: "1.0.0" }, { versionNegotiation: { mode } }),
  newTransport: (url, options) => new Transport(url, options),
  finish: (transport, params) => transport.finishAuth(params),
  protocolVersion: (client) => client.getNegotiatedProtocolVersion(),
});
