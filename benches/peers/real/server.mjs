// A server as the official TypeScript SDK wants it: one tool on stdio. Run from the folder where `setup` installed the SDK.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const installed = createRequire(pathToFileURL(process.argv[2] + "/"));
const load = async (name) => import(pathToFileURL(installed.resolve(name)));
const { McpServer } = await load("@modelcontextprotocol/sdk/server/mcp.js");
const { StdioServerTransport } = await load("@modelcontextprotocol/sdk/server/stdio.js");
const { z } = await load("zod");

const server = new McpServer({ name: "real", version: "1.0.0" });
server.registerTool("echo", { description: "Says it again", inputSchema: { t: z.string() } }, ({ t }) => ({
    content: [{ type: "text", text: t }],
}));
await server.connect(new StdioServerTransport());
