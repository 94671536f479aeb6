// The matrix's checks with the official TypeScript SDK's client: `node typescript_sdk.mjs 1|2 SPEC`, where 1 is
// the package of its version 1 and 2 are those of version 2. SPEC and what comes out are those of python_sdk.py.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";

const [generation, text] = process.argv.slice(2);
const spec = JSON.parse(text);
const dual = spec.server === "dual";
const load = createRequire(join(process.env.E2E_NODE, "package.json"));
const LONG_OPERATION = "trigger-long-running-operation";
const MAX_BUFFER = 64 << 20;

function packages() {
  if (generation === "2") {
    const client = load("@modelcontextprotocol/client");
    return { ...client, ...load("@modelcontextprotocol/client/stdio"), key: (method) => method };
  }
  const sdk = "@modelcontextprotocol/sdk";
  const types = load(`${sdk}/types.js`);
  const schemas = {
    "sampling/createMessage": types.CreateMessageRequestSchema,
    "elicitation/create": types.ElicitRequestSchema,
    "roots/list": types.ListRootsRequestSchema,
    "notifications/message": types.LoggingMessageNotificationSchema,
    "notifications/resources/updated": types.ResourceUpdatedNotificationSchema,
  };
  return {
    ...load(`${sdk}/client/index.js`),
    ...load(`${sdk}/client/stdio.js`),
    ...load(`${sdk}/client/streamableHttp.js`),
    ...load(`${sdk}/client/sse.js`),
    key: (method) => schemas[method],
  };
}

const sdk = packages();

function transport() {
  const { command, http, sse } = spec.reach;
  if (command) {
    const [program, ...args] = command;
    const options = { command: program, args, env: spec.environment, maxBufferSize: MAX_BUFFER };
    return new sdk.StdioClientTransport(options);
  }
  return sse
    ? new sdk.SSEClientTransport(new URL(sse))
    : new sdk.StreamableHTTPClientTransport(new URL(http));
}

/** One open session and what the server said in it without being asked. */
class Live {
  prompts = [];
  questions = [];
  logged = [];
  progress = [];
  #updates = new Map();
  #told = [];

  async open() {
    const capabilities = { sampling: {}, elicitation: {}, roots: {} };
    const mode = ["legacy", "auto"].includes(spec.mode) ? spec.mode : { pin: spec.mode };
    this.client = new sdk.Client({ name: "matrix", version: "1" }, { capabilities, versionNegotiation: { mode } });
    const answer = (method, body) => this.client.setRequestHandler(sdk.key(method), body);
    const hear = (method, body) => this.client.setNotificationHandler(sdk.key(method), body);
    answer("sampling/createMessage", (request) => this.#sample(request.params));
    answer("elicitation/create", (request) => this.#elicit(request.params));
    answer("roots/list", () => ({ roots: [] }));
    hear("notifications/message", ({ params }) => {
      this.logged.push([params.level, params.data]);
      this.#told.splice(0).forEach((wake) => wake());
    });
    hear("notifications/resources/updated", ({ params }) => this.#update(params.uri).resolve());
    this.transport = transport();
    await this.client.connect(this.transport, this.options);
    this.#listenIn();
    return this;
  }

  async close() {
    // Without it a server never learns that a session over HTTP has ended.
    if (spec.reach.http) await this.transport.terminateSession?.();
    await this.client.close();
  }

  get modern() {
    return (this.client.getNegotiatedProtocolVersion?.() ?? "") >= "2026-07-28";
  }

  get options() {
    return { timeout: spec.patience * 1000 };
  }

  // What arrives, in order: the SDK forgets a call's progress handler as soon as its answer is there, also while
  // progress that came before the answer waits for its turn.
  #listenIn() {
    const deliver = this.transport.onmessage;
    this.transport.onmessage = (message, extra) => {
      if (message.method === "notifications/progress") this.progress.push(message.params.progress);
      if ("result" in message) this.progress.push("result");
      return deliver(message, extra);
    };
  }

  #sample(params) {
    this.prompts.push(params.messages[0].content.text);
    const content = { type: "text", text: spec.hostile };
    return { role: "assistant", model: "a model", content, stopReason: "endTurn" };
  }

  #elicit(params) {
    this.questions.push(params.message);
    if (this.questions.length > 1) return { action: "decline" };
    return { action: "accept", content: { name: spec.hostile, check: true } };
  }

  #update(uri) {
    if (!this.#updates.has(uri)) this.#updates.set(uri, Promise.withResolvers());
    return this.#updates.get(uri);
  }

  updateOf(uri) {
    return this.#update(uri).promise;
  }

  /** When the next log message has come. */
  nextLog() {
    const { promise, resolve } = Promise.withResolvers();
    this.#told.push(resolve);
    return promise;
  }

  result(name, args = {}, options = {}) {
    const params = { name, arguments: args, ...(options.meta && { _meta: options.meta }) };
    const merged = { ...this.options, ...options };
    return generation === "2" ? this.client.callTool(params, merged) : this.client.callTool(params, undefined, merged);
  }

  async call(name, args, options) {
    const result = await this.result(name, args, options);
    assert(!result.isError, `${name} failed: ${JSON.stringify(result).slice(0, 300)}`);
    return result.content.at(-1).text;
  }

  async echo(message, what) {
    const got = await this.call("echo", { message });
    const want = dual ? message : `Echo: ${message}`;
    if (got === want) return;
    let at = 0;
    while (got[at] === want[at]) at += 1;
    const near = (words) => JSON.stringify(words.slice(Math.max(0, at - 20), at + 20));
    assert.fail(`${what}: ${want.length} sent, ${got.length} came back, different from ${at}: want ${near(want)}, got ${near(got)}`);
  }
}

/** A text of about `size` bytes. */
function filled(size, unit) {
  return unit.repeat(Math.floor(size / Buffer.byteLength(unit)));
}

function filledTo(size) {
  return filled(size, "plain text, some of it é and 😈. ");
}

const CHECKS = {
  open: async ({ client }) => {
    const version = client.getNegotiatedProtocolVersion?.() ?? null;
    return [version, client.getServerVersion(), client.getServerCapabilities()];
  },

  lists: async (live) => {
    const { client, options } = live;
    const tools = await client.listTools({}, options);
    assert(tools.tools.some((tool) => tool.name === "echo"), "there is no echo tool");
    const more = [client.listResources({}, options), client.listResourceTemplates({}, options)];
    return [tools, ...(await Promise.all([...more, client.listPrompts({}, options)]))];
  },

  echo: async (live) => {
    for (const [name, words] of Object.entries(spec.texts)) await live.echo(words, name);
  },

  "tool error": async (live) => {
    const [name, args] = dual ? ["fail", { message: spec.hostile }] : ["get-sum", { a: "x" }];
    const result = await live.result(name, args);
    assert(result.isError, `no error: ${JSON.stringify(result).slice(0, 300)}`);
    const words = result.content[0].text;
    assert(!dual || words.includes(spec.hostile), `the message is not in the error: ${words.slice(0, 300)}`);
    return words;
  },

  progress: async (live) => {
    const count = dual ? 100 : 10;
    const [name, args] = dual ? ["steps", { count }] : [LONG_OPERATION, { duration: 0.2, steps: count }];
    live.progress = [];
    await live.call(name, args, { onprogress: () => {} });
    assert.deepEqual(live.progress, [...Array.from({ length: count }, (_, index) => index + 1), "result"]);
  },

  sampling: async (live) => {
    const prompt = spec.hostile;
    const [name, args] = dual ? ["ask_model", { prompt }] : ["trigger-sampling-request", { prompt, maxTokens: 7 }];
    let words = await live.call(name, args);
    if (!dual) words = JSON.parse(words.slice(words.indexOf("\n"))).content.text;
    assert.equal(words, spec.hostile);
    assert(live.prompts.at(-1).endsWith(prompt), "the prompt reached the client otherwise");
  },

  elicitation: async (live) => {
    if (dual) {
      assert.equal(await live.call("ask_user", { message: spec.hostile }), `accept:${spec.hostile}`);
      assert.equal(live.questions.at(-1), spec.hostile);
      assert.equal(await live.call("ask_user", { message: "again" }), "decline:");
      return;
    }
    for (const action of ["accept", "decline"]) {
      const words = await live.call("trigger-elicitation-request");
      const reported = JSON.parse(words.slice(words.indexOf(":") + 1));
      assert.equal(reported.action, action);
      if (action === "accept") assert.equal(reported.content.name, spec.hostile);
    }
  },

  read: async ({ client, options }) => {
    const template = "test://template/%F0%9F%98%88%0A/data";
    const listed = async () => (await client.listResources({}, options)).resources.map((one) => one.uri);
    const uris = dual ? ["test://static-text", "test://static-binary", template] : await listed();
    const found = [];
    for (const uri of uris) found.push(await client.readResource({ uri }, options));
    return found;
  },

  subscribe: async (live) => {
    const { client, options } = live;
    const uri = dual ? "test://watched-resource" : "demo://resource/dynamic/text/7";
    if (live.modern) {
      const subscription = await client.listen({ resourceSubscriptions: [uri] }, options);
      await live.call("touch", { uri });
      await live.updateOf(uri);
      return subscription.close();
    }
    await client.subscribeResource({ uri }, options);
    await (dual ? live.call("touch", { uri }) : live.call("toggle-subscriber-updates"));
    await live.updateOf(uri);
    if (!dual) await live.call("toggle-subscriber-updates");
    await client.unsubscribeResource({ uri }, options);
  },

  logging: async (live) => {
    const [told, before] = [live.nextLog(), live.logged.length];
    if (!live.modern) await live.client.setLoggingLevel("debug", live.options);
    const meta = live.modern ? { "io.modelcontextprotocol/logLevel": "error" } : undefined;
    if (dual) await live.call("log", { words: spec.hostile }, { meta });
    else await live.client.subscribeResource({ uri: "demo://resource/dynamic/text/7" }, live.options);
    await told;
    if (dual) assert.deepEqual(live.logged[before], ["error", spec.hostile]);
    // The other server names its session in what it logs.
    return dual ? live.logged[before] : live.logged[before][0];
  },

  cancellation: async (live) => {
    const [key, stop] = [randomUUID(), new AbortController()];
    const options = { signal: stop.signal, onprogress: () => stop.abort() };
    const [name, args] = dual ? ["wait", { key }] : [LONG_OPERATION, { duration: 1, steps: 10 }];
    await assert.rejects(live.call(name, args, options), "the call ended before it was cancelled");
    assert(stop.signal.aborted, "the call failed before it was cancelled");
    if (dual) assert.equal(await live.call("cancelled", { key }), "cancelled");
    await live.echo("after the cancellation", "echo");
  },

  "50 at once": (live) => {
    const text = (number) => `${number} ${spec.hostile}`.repeat(1 + (number % 7));
    return Promise.all(Array.from({ length: 50 }, (_, number) => live.echo(text(number), `call ${number}`))).then(() => null);
  },

  "3 MiB": async (live) => {
    await live.echo(filled(3 << 20, spec.hostile), "3 MiB of hostile text");
    await live.echo("still here", "small");
  },

  "16 MiB": async (live) => {
    await live.echo(filledTo(16 << 20), "16 MiB");
    await live.echo("still here", "small");
  },

  "10 sessions": async () => {
    const opening = await Promise.allSettled(Array.from({ length: 10 }, () => new Live().open()));
    const open = opening.filter((one) => one.status === "fulfilled").map((one) => one.value);
    try {
      opening.forEach((one) => assert(one.status === "fulfilled", `no session: ${one.reason}`));
      await Promise.all(open.map((live, number) => live.echo(`session ${number}`, `session ${number}`)));
      await Promise.all(open.map((live, number) => live.echo(`again ${number}`, `session ${number}`)));
    } finally {
      await Promise.all(open.map((live) => live.close()));
    }
  },
};

function report(check, reason, facts, started) {
  const seconds = Math.round(performance.now() - started) / 1000;
  process.stdout.write(`${JSON.stringify({ check, reason, facts: facts ?? null, seconds })}\n`);
}

async function attempt(live, name) {
  const started = performance.now();
  const late = Promise.withResolvers();
  const timer = setTimeout(() => late.reject(new assert.AssertionError({ message: "no end within the patience" })), spec.patience * 1000);
  try {
    const facts = await Promise.race([CHECKS[name](live), late.promise]);
    report(name, "", facts, started);
    return true;
  } catch (error) {
    report(name, String(error.message ?? error).slice(0, 600) || "failed", null, started);
    return false;
  } finally {
    clearTimeout(timer);
  }
}

async function run() {
  const todo = [...spec.checks];
  while (todo.length > 0) {
    const started = performance.now();
    let live;
    try {
      live = await new Live().open();
    } catch (error) {
      report(todo.shift(), `no session: ${String(error).slice(0, 600)}`, null, started);
      continue;
    }
    while (todo.length > 0 && (await attempt(live, todo.shift())));
    try {
      await live.close();
    } catch (error) {
      report("close", String(error), null, started);
    }
  }
}

await run();
process.exit(0);
