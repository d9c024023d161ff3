// Package client knows who a client_id is: a client of the configuration or one
// that registered itself.
package client
