// Package authserver is the OAuth 2.1 authorization server: one file for each
// endpoint, the pages that people see, and one pipeline for all token requests.
package authserver
