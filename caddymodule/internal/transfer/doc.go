// Package transfer moves the state from one store to another by way of a file,
// and finds damage in a store.
//
// # The file
//
// It is text, one JSON object a line:
//
//	{"format":"mcp_auth state","version":1,"created":"2026-01-02T03:04:05Z"}
//	{"key":"…","expires":1767323045000,"value":"…"}
//	…
//	{"records":12,"sha256":"…"}
//
// A record's value is in base64. Its expiry is in Unix milliseconds, and absent
// when it never expires. The last line has the number of records and the SHA-256
// of all bytes before it, in base64, so that a file that was cut or changed is
// noticed.
//
// An export is no snapshot: what changes meanwhile may be in it or not. A store
// may yield a key twice, and a key may then be in the file twice; the later line
// counts. To remember all keys would cost memory with each record, or lose a
// record now and then when only their hashes are remembered.
package transfer
