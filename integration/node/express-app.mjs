// A web app that lets its users connect to an MCP server, as the guide that the product started from shows it, line by
// line. Only the addresses come from the environment, and fetch from Node.
//
//   MCP_SERVER=https://localhost:8443 PORT=3001 node express-app.mjs

import crypto from "node:crypto";
import express from "express";
import session from "express-session";

const app = express();
const MCP_SERVER = process.env.MCP_SERVER;
const PORT = process.env.PORT;

app.use(session({
  secret: "your-session-secret",
  resave: false,
  saveUninitialized: true,
}));

// Home page - start OAuth flow
app.get("/", (req, res) => {
  if (req.session.accessToken) {
    res.send(`
      <h1>Connected to MCP Server</h1>
      <p>Access Token: ${req.session.accessToken.substring(0, 20)}...</p>
      <a href="/search">Search Bugs</a> |
      <a href="/logout">Logout</a>
    `);
  } else {
    res.send(`
      <h1>MCP Client Example</h1>
      <a href="/login">Connect to MCP Server</a>
    `);
  }
});

// Step 1: Register client (do this once, store credentials)
let CLIENT_ID = process.env.MCP_CLIENT_ID;
let CLIENT_SECRET = process.env.MCP_CLIENT_SECRET;

if (!CLIENT_ID) {
  // Register client
  fetch(`${MCP_SERVER}/register`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      redirect_uris: [`http://localhost:${PORT}/callback`],
      client_name: "My Web App",
      grant_types: ["authorization_code", "refresh_token"],
    }),
  })
    .then((res) => res.json())
    .then((data) => {
      CLIENT_ID = data.client_id;
      CLIENT_SECRET = data.client_secret;
      console.log("Client registered:", CLIENT_ID);
    });
}

// Step 2 & 3: Generate PKCE and redirect to authorization
app.get("/login", (req, res) => {
  // Generate PKCE parameters
  const codeVerifier = crypto.randomBytes(32).toString("base64url");
  const codeChallenge = crypto
    .createHash("sha256")
    .update(codeVerifier)
    .digest("base64url");

  // Generate state for CSRF protection
  const state = crypto.randomBytes(16).toString("hex");

  // Store in session
  req.session.codeVerifier = codeVerifier;
  req.session.state = state;

  // Redirect to authorization endpoint
  const authUrl = new URL(`${MCP_SERVER}/authorize`);
  authUrl.searchParams.set("response_type", "code");
  authUrl.searchParams.set("client_id", CLIENT_ID);
  authUrl.searchParams.set("redirect_uri", `http://localhost:${PORT}/callback`);
  authUrl.searchParams.set("code_challenge", codeChallenge);
  authUrl.searchParams.set("code_challenge_method", "S256");
  authUrl.searchParams.set("state", state);
  authUrl.searchParams.set("scope", "mcp");
  res.redirect(authUrl.toString());
});

// Step 5 & 6: Handle callback and exchange code for token
app.get("/callback", async (req, res) => {
  const { code, state } = req.query;

  // Validate state
  if (state !== req.session.state) {
    return res.status(400).send("Invalid state parameter");
  }

  // Exchange code for access token
  const tokenResponse = await fetch(`${MCP_SERVER}/token`, {
    method: "POST",
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: code,
      redirect_uri: `http://localhost:${PORT}/callback`,
      client_id: CLIENT_ID,
      code_verifier: req.session.codeVerifier,
    }),
  });
  const tokens = await tokenResponse.json();

  // Store tokens in session
  req.session.accessToken = tokens.access_token;
  req.session.refreshToken = tokens.refresh_token;
  req.session.tokenExpiry = Date.now() + (tokens.expires_in * 1000);

  // Clear PKCE parameters
  delete req.session.codeVerifier;
  delete req.session.state;

  res.redirect("/");
});

// Step 7: Use access token for MCP requests
app.get("/search", async (req, res) => {
  if (!req.session.accessToken) {
    return res.redirect("/login");
  }

  // Check if token expired, refresh if needed
  if (Date.now() > req.session.tokenExpiry) {
    const refreshResponse = await fetch(`${MCP_SERVER}/token`, {
      method: "POST",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "refresh_token",
        refresh_token: req.session.refreshToken,
      }),
    });
    const tokens = await refreshResponse.json();
    req.session.accessToken = tokens.access_token;
    req.session.refreshToken = tokens.refresh_token;
    req.session.tokenExpiry = Date.now() + (tokens.expires_in * 1000);
  }

  // Make MCP request
  const mcpResponse = await fetch(`${MCP_SERVER}/mcp`, {
    method: "POST",
    headers: {
      "Authorization": `Bearer ${req.session.accessToken}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({
      jsonrpc: "2.0",
      method: "tools/call",
      params: {
        name: "search_bugs_by_keyword",
        arguments: { keyword: "memory leak", severity: "3", page_index: 1 },
      },
      id: 1,
    }),
  });
  const result = await mcpResponse.json();
  res.json(result);
});

// Logout
app.get("/logout", (req, res) => {
  req.session.destroy();
  res.redirect("/");
});

app.listen(PORT, () => {
  console.log(`Client app running on http://localhost:${PORT}`);
});
