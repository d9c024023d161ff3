// Takes down what a client sends, one line for each request: method, path, what it is about, and the status.

export class Recorder {
  #lines = [];
  #pending = new Set();

  /** A fetch that is recorded, in the order in which the requests start. */
  fetch = async (input, init) => {
    const { pathname } = new URL(input instanceof Request ? input.url : input);
    const line = [init?.method ?? "GET", pathname, subject(init?.body)].filter(Boolean);
    this.#lines.push(line);
    const response = fetch(input, init);
    this.#pending.add(response);
    try {
      line.push((await response).status);
      return await response;
    } finally {
      this.#pending.delete(response);
    }
  };

  /** The requests since the last call. It waits until all of them are answered. */
  async take() {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
    return this.#lines.splice(0).map((line) => line.join(" "));
  }
}

/** The grant type of a token request, or the method of a JSON-RPC message. */
function subject(body) {
  if (body instanceof URLSearchParams) return body.get("grant_type");
  if (typeof body !== "string" || !body.startsWith("{")) return undefined;
  return JSON.parse(body).method;
}
