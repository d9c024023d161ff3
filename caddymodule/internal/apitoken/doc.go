// Package apitoken keeps the bearer tokens that an operator makes by command, for
// programs that cannot sign in.
package apitoken
