// An OpenID provider, certified software, with a few people who need no password. It makes a new key with each start.
//
//   node openid-provider.mjs <port> <callback> [<seconds that access tokens are good for>]

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const [port, callback, seconds] = process.argv.slice(2);

const people = {
  carol: { email: "carol@example.com", email_verified: true, name: "Carol Danvers", groups: ["staff", "mcp-users"] },
  dave: { email: "dave@example.com", email_verified: false, name: "Dave" },
  mallory: { email: "mallory@evil.example", email_verified: true, name: "Mallory", groups: ["mcp-admins"] },
};

const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: "mcp", client_secret: "a secret of the tests", redirect_uris: [callback], grant_types: ["authorization_code", "refresh_token"] }],
  jwks: { keys: [{ ...key, alg: "RS256", use: "sig", kid: randomUUID() }] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
  cookies: { keys: [randomUUID()] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
  rotateRefreshToken: true,
  ttl: seconds ? { AccessToken: Number(seconds) } : {},
  loadExistingGrant: (ctx) => agree(ctx.oidc.client.clientId, ctx.oidc.session.accountId),
});

// Whoever signs in agrees to what is asked for.
async function agree(clientId, accountId) {
  const grant = new provider.Grant({ clientId, accountId });
  grant.addOIDCScope("openid profile email offline_access");
  await grant.save();
  return grant;
}

const page = `<!doctype html><title>Provider</title><form method="post"><input name="username"><button>Sign in</button></form>
<form method="post"><input type="hidden" name="cancel" value="1"><button>Cancel</button></form>`;

const answer = provider.callback();
createServer(async (req, res) => {
  if (!req.url.startsWith("/interaction/")) return answer(req, res);
  const { prompt, params, session } = await provider.interactionDetails(req, res);
  if (prompt.name === "consent") {
    const grant = await agree(params.client_id, session.accountId);
    return provider.interactionFinished(req, res, { consent: { grantId: grant.jti } });
  }
  if (req.method === "GET") return res.setHeader("Content-Type", "text/html").end(page);
  let body = "";
  for await (const chunk of req) body += chunk;
  const form = new URLSearchParams(body);
  const result = form.has("cancel") ? { error: "access_denied" } : { login: { accountId: form.get("username") } };
  await provider.interactionFinished(req, res, result);
}).listen(Number(port), "127.0.0.1", () => console.log("ready"));
