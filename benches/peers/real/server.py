"""A server as the official Python SDK wants it: one tool on stdio."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("real", log_level="ERROR")


@server.tool(structured_output=False)
def echo(t: str) -> str:
    """Says it again."""
    return t


server.run()
