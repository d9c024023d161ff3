// Package factor keeps what local users sign in with beside their passwords:
// codes of authenticator apps (RFC 6238) with recovery codes, and passkeys
// (WebAuthn Level 3). Everything of a user is one record, so that each step is
// one atomic update: a code, a recovery code and a counter work once, also on
// several nodes at the same time.
package factor
