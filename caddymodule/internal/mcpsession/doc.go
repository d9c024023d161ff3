// Package mcpsession remembers to whom MCP servers have given their sessions. A
// plain server cannot tell its callers apart, so whoever knows the id of a session
// could use it as his own.
package mcpsession
