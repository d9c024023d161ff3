// What an MCP client keeps about its authorization, in memory. The interface is the same in both generations of the SDK.
// Keeping the result of discovery is optional; it is left out, so that each challenge of the gateway is followed anew.

import { randomUUID } from "node:crypto";

export class Provider {
  #client;
  #tokens;
  #verifier;

  /** The authorization requests that the SDK wanted a browser for. */
  requests = [];
  /** Everything that must not show in the log of the gateway. */
  secrets = [];
  /** What the SDK threw away, by the word that it uses. */
  invalidated = [];

  /**
   * @param {string} redirectUrl
   * @param {string} [clientMetadataUrl] the address of the client's own metadata document, if it has one
   */
  constructor(redirectUrl, clientMetadataUrl) {
    this.redirectUrl = redirectUrl;
    this.clientMetadataUrl = clientMetadataUrl;
    this.clientMetadata = {
      client_name: "Journey",
      redirect_uris: [redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    };
  }

  state() {
    return randomUUID();
  }

  clientInformation() {
    return this.#client;
  }

  saveClientInformation(information) {
    this.#client = information;
  }

  tokens() {
    return this.#tokens;
  }

  saveTokens(tokens) {
    this.#tokens = tokens;
    this.secrets.push(tokens.access_token, tokens.refresh_token);
  }

  codeVerifier() {
    return this.#verifier;
  }

  saveCodeVerifier(verifier) {
    this.#verifier = verifier;
  }

  redirectToAuthorization(url) {
    this.requests.push(url);
  }

  invalidateCredentials(which) {
    this.invalidated.push(which);
    if (which === "all" || which === "client") this.#client = undefined;
    if (which === "all" || which === "tokens") this.#tokens = undefined;
  }

  /** Damages the access token, as if it had expired. */
  spoilAccessToken() {
    this.#tokens = { ...this.#tokens, access_token: `${this.#tokens.access_token}x` };
  }
}
