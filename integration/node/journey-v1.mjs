// The journey with the first generation of the TypeScript SDK.
//
//   node journey-v1.mjs http|sse

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { journey } from "./lib/journey.mjs";

const Transport = { http: StreamableHTTPClientTransport, sse: SSEClientTransport }[process.argv[2]];
const versions = new WeakMap();

await journey({
  newClient: () => new Client({ name: "journey-v1", version: "1.0.0" }),
  newTransport: (url, options) => {
    // This generation tells only the transport which version was negotiated.
    const transport = new Transport(url, options);
    const set = transport.setProtocolVersion.bind(transport);
    transport.setProtocolVersion = (version) => {
      versions.set(transport, version);
      set(version);
    };
    return transport;
  },
  finish: (transport, params) => transport.finishAuth(params.get("code")),
  protocolVersion: (_, transport) => versions.get(transport),
});
