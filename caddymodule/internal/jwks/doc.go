// Package jwks keeps the public keys that an issuer publishes, and checks
// signatures by them while the issuer changes its keys or is down.
package jwks
