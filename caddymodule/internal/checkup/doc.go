// Package checkup looks at a protected MCP server from outside, the way a client
// does, and says what keeps clients from connecting and how to mend it.
package checkup
