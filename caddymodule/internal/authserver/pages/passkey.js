"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const bytes = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    buffer && btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

  element("scriptless").hidden = true;
  if (!window.PublicKeyCredential || !navigator.credentials) {
    element("unsupported").hidden = false;
    return;
  }
  const form = element("passkey");
  const { publicKey } = JSON.parse(form.dataset.options);
  publicKey.challenge = bytes(publicKey.challenge);
  if (publicKey.user) publicKey.user.id = bytes(publicKey.user.id);
  for (const known of publicKey.excludeCredentials ?? []) known.id = bytes(known.id);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    element("nothing").hidden = true;
    try {
      const { id, rawId, type, response } = publicKey.user
        ? await navigator.credentials.create({ publicKey })
        : await navigator.credentials.get({ publicKey });
      form.elements.answer.value = JSON.stringify({
        id, type, rawId: text(rawId), clientExtensionResults: {},
        response: {
          clientDataJSON: text(response.clientDataJSON),
          attestationObject: text(response.attestationObject),
          authenticatorData: text(response.authenticatorData),
          signature: text(response.signature),
          userHandle: text(response.userHandle) ?? undefined,
        },
      });
      form.submit();
    } catch {
      element("nothing").hidden = false;
    }
  });
  form.hidden = false;
})();
