// Package filestore keeps the state in one bbolt file, for one node. What a
// method has acknowledged survives kill -9 and, where the disk keeps its word
// about fsync, a loss of power.
//
// # Group commit
//
// All changes go through one goroutine. It takes whatever changes are waiting,
// runs them in one transaction, syncs the file once and only then answers all
// of them. A change that arrives alone is not kept waiting for company; changes
// that arrive during a sync share the next one. Reads do not pass that way:
// they look at the last committed state and never wait for a sync.
//
// # Layout of the file
//
//	meta     "schema" → version of this layout in decimal digits, "1"
//	records  key → expiry (8 bytes, big endian, Unix milliseconds; 0 is never), value
//	expiry   expiry (8 bytes, as above), key → empty; one entry for each record that expires
//
// The expiry bucket is kept in the same transaction as the records. It lets
// Sweep find what has expired without reading the rest.
//
// The file never shrinks: bbolt uses the room of deleted records again.
//
// # Faults
//
// A full disk fails the writes that need room and nothing else; when there is
// room again, so are the writes. A file that is empty, truncated or otherwise
// damaged is refused by Open, as far as a look at the first records shows it,
// and is an ErrDamaged where a later call meets it. bbolt has no checksums over
// its data pages: Check reads the whole file, but cannot tell a value that was
// changed in place.
package filestore
