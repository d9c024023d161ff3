// Package gate is the resource server at the edge: it lets a request through to
// the upstream or refuses it, and takes from a request what the upstream must
// not see.
package gate
