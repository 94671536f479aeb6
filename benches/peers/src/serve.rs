//! The mock MCP server, on stdio and over HTTP. Fast rather than complete: it is what the proxies stand in front of.

pub mod http;
pub mod stdio;
