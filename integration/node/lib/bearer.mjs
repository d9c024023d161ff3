// Loaded before the conformance suite, which has no option for it, this adds a token to every request that the suite
// sends. Nothing stands between the suite and the gateway then: what arrives is byte by byte what the suite has written,
// odd headers included. The suite sends with fetch, with undici and with node:http.

import http from "node:http";
import { getGlobalDispatcher, setGlobalDispatcher } from "undici";

const authorization = `Bearer ${process.env.MCP_TOKEN}`;

setGlobalDispatcher(getGlobalDispatcher().compose((dispatch) => ({ headers, ...options }, handler) => {
  const all = Array.isArray(headers) ? [...headers, "authorization", authorization] : { ...headers, authorization };
  return dispatch({ ...options, headers: all }, handler);
}));

const { request } = http;
http.request = ({ headers, ...options }, ...rest) => request({ ...options, headers: { ...headers, authorization } }, ...rest);
