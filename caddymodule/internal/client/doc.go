// Package client knows who a client_id is: a client of the configuration, one
// that registered itself, or one that is described by the document at its id. It
// also checks what clients sign to authenticate.
package client
