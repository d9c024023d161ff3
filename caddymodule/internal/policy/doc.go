// Package policy says what a scope is good for and who may have it, reads the
// messages of requests without leaving room for a second meaning, and takes out
// of lists of tools what the caller may not call.
package policy
