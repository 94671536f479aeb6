// The client that the conformance suite tests: `node conformance_client.mjs [PROXY] URL`, the official TypeScript
// SDK over HTTP, or over stdio to the proxy in front of the URL. It does in every scenario all that a server
// offers: lists everything, calls every tool, reads every resource, gets every prompt.
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, proxy] = process.argv.slice(2).reverse();
const load = createRequire(join(process.env.E2E_NODE, "package.json"));
const { Client, StreamableHTTPClientTransport } = load("@modelcontextprotocol/client");
const { StdioClientTransport } = load("@modelcontextprotocol/client/stdio");
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const modern = (process.env.MCP_CONFORMANCE_PROTOCOL_VERSION ?? "") >= "2026-07-28";
const OPTIONS = { timeout: 10_000 };

function transport() {
  if (!proxy) return new StreamableHTTPClientTransport(new URL(url));
  return new StdioClientTransport({ command: proxy, args: ["proxy", url], env: process.env, stderr: "inherit" });
}

/** Does one thing; that a server refuses it is no failure of the client. */
async function attempt(what, body) {
  try {
    return await body();
  } catch (error) {
    console.error(`${what}: ${error}`);
    return undefined;
  }
}

/** Arguments that a schema accepts; for an object, the first schema that was listed: one scenario wants it back. */
function made(schema = {}, first = {}) {
  const values = { string: "words", number: 3, integer: 3, boolean: true, array: [], object: first };
  const wanted = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name));
  return Object.fromEntries(wanted.map(([name, { type }]) => [name, values[type] ?? "words"]));
}

async function useTools(client) {
  const listed = await attempt("tools/list", () => client.listTools({}, OPTIONS));
  const tools = listed?.tools ?? [];
  const first = tools[0]?.inputSchema;
  const every = () => tools.map(({ name, inputSchema }) => ({ name, arguments: made(inputSchema, first) }));
  const calls = context.toolCalls ?? every();
  for (const call of calls) await attempt(`tools/call ${call.name}`, () => client.callTool(call, OPTIONS));
}

async function useTheRest(client) {
  const { resources = [] } = (await attempt("resources/list", () => client.listResources({}, OPTIONS))) ?? {};
  for (const { uri } of resources) await attempt(`read ${uri}`, () => client.readResource({ uri }, OPTIONS));
  const { prompts = [] } = (await attempt("prompts/list", () => client.listPrompts({}, OPTIONS))) ?? {};
  for (const prompt of prompts) {
    const given = Object.fromEntries((prompt.arguments ?? []).map(({ name }) => [name, "words"]));
    await attempt(`prompts/get ${prompt.name}`, () => client.getPrompt({ name: prompt.name, arguments: given }, OPTIONS));
  }
}

const capabilities = { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} };
const mode = modern ? { pin: process.env.MCP_CONFORMANCE_PROTOCOL_VERSION } : "legacy";
const client = new Client({ name: "conformance-client", version: "1" }, { capabilities, versionNegotiation: { mode } });
client.setRequestHandler("elicitation/create", () => ({ action: "accept", content: {} }));
client.setRequestHandler("roots/list", () => ({ roots: [] }));
await client.connect(transport(), OPTIONS);
await useTools(client);
await useTheRest(client);
await client.close();
process.exit(0);
