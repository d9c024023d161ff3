// A person at a browser without JavaScript, as far as the pages of the gateway need one: it keeps cookies, follows
// redirects, fills in forms, and goes where the refresh of the last page leads.

const maxSteps = 10;

export class Visitor {
  #cookies = new Map();
  #user;

  /** The titles of the pages that were shown. */
  titles = [];

  /** @param {{name: string, password: string}} user */
  constructor(user) {
    this.#user = user;
  }

  /** Signs in, agrees, and visits the client's callback, which is where the page after consent leads. */
  async authorize(address) {
    let page = await this.#open(address);
    if (page.form("password")) {
      page = await this.#submit(page.form("password"), { username: this.#user.name, password: this.#user.password });
    }
    page = await this.#submit(page.form("decision"), { decision: "allow" });
    const back = await fetch(page.refresh(), { redirect: "manual" });
    if (!back.ok) throw new Error(`the client answers its callback with ${back.status}`);
    await back.text();
  }

  async #submit(form, values) {
    const body = new URLSearchParams({ ...form.hidden, ...values });
    return this.#open(form.action, { method: "POST", body, headers: { Origin: "null", "Sec-Fetch-Site": "same-origin" } });
  }

  async #open(address, init = {}) {
    for (let step = 0; step < maxSteps; step++) {
      const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
      const headers = { Accept: "text/html", "Accept-Language": "en", ...init.headers, ...(cookie && { Cookie: cookie }) };
      const response = await fetch(address, { ...init, headers, redirect: "manual" });
      this.#keep(response.headers.getSetCookie());
      const text = await response.text();
      const location = response.headers.get("Location");
      if (!location) {
        const page = new Page(address, response.status, text);
        this.titles.push(page.title);
        return page;
      }
      [address, init] = [new URL(location, address).href, {}];
    }
    throw new Error(`more than ${maxSteps} redirects`);
  }

  #keep(lines) {
    for (const line of lines) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value && !/;\s*max-age=(0|-)/i.test(line)) this.#cookies.set(name, value);
      else this.#cookies.delete(name);
    }
  }
}

// The pages are ours, so a few patterns do for a parser. They stop with an error when the markup is another.
class Page {
  constructor(address, status, text) {
    Object.assign(this, { address, status, text });
    this.title = unescape(/<title>([^<]*)<\/title>/.exec(text)?.[1] ?? "");
  }

  /** The form that has a field or button of that name. */
  form(name) {
    for (const [, attributes, inside] of this.text.matchAll(/<form\b([^>]*)>(.*?)<\/form>/gs)) {
      if (!inside.includes(` name="${name}"`)) continue;
      const hidden = {};
      for (const [, field, value] of inside.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)) {
        hidden[field] = unescape(value);
      }
      const action = unescape(/ action="([^"]*)"/.exec(attributes)[1]);
      return { action: new URL(action, this.address).href, hidden };
    }
    if (name === "decision") throw new Error(`no consent form on the page “${this.title}” (${this.status})`);
    return undefined;
  }

  /** Where the page leads by itself. */
  refresh() {
    const found = /<meta http-equiv="refresh" content="0;url=([^"]*)">/.exec(this.text);
    if (!found) throw new Error(`the page “${this.title}” (${this.status}) leads nowhere`);
    return unescape(found[1]);
  }
}

function unescape(text) {
  const named = { amp: "&", lt: "<", gt: ">", quot: '"' };
  return text.replace(/&(?:#(\d+)|#x([\da-f]+)|(amp|lt|gt|quot));/gi, (_, decimal, hex, name) =>
    name ? named[name] : String.fromCodePoint(decimal ? Number(decimal) : parseInt(hex, 16)));
}
