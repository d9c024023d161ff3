// Package external checks access tokens that other authorization servers issue:
// JWTs by the keys that an issuer publishes, and opaque tokens by asking it.
package external
