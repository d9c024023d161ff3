// Package delegation keeps the tokens that login providers give for the people who
// sign in there, so that upstreams can be called on their behalf. Tokens are sealed
// in the store, one record for each person, and renewed by one node at a time.
package delegation
