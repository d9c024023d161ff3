// The listener that apps on a computer open for the answer to their authorization request.

import { createServer } from "node:http";

/**
 * Listens on a free port. `next()` waits for the next answer; it has to be called before the answer comes.
 *
 * @param {string} [onward] where the callback sends the browser next, with 307 as some apps do; by default nowhere
 */
export async function listenForCallback(onward) {
  let waiting;
  const server = createServer((request, response) => {
    const url = new URL(request.url, `http://${request.headers.host}`);
    if (url.pathname !== "/callback") {
      response.writeHead(404).end();
      return;
    }
    if (onward) response.writeHead(307, { Location: onward + url.search }).end();
    else response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end("<title>Back in the app</title>");
    waiting?.({ method: request.method, params: url.searchParams });
    waiting = undefined;
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  const url = `http://127.0.0.1:${server.address().port}/callback`;
  return {
    url,
    end: onward ?? url, // where the browser is in the end
    next: () => new Promise((resolve) => { waiting = resolve; }),
    close: () => server.close(),
  };
}
