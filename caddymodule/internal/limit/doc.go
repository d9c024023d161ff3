// Package limit counts what may happen so many times in a window of time, for each
// user, client or address: over all nodes that share a store, and without asking
// it for each request.
package limit
