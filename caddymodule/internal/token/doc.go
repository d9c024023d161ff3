// Package token mints and verifies access tokens, keeps the keys for both, and
// knows which grants have been revoked.
package token
