// Package identity tells upstreams who is calling, in a form that they can check:
// a JWT that is signed with the keys of the issuer.
package identity
