// Package integration tests the gateway as its users meet it: it builds the programs, runs them as processes and talks
// to them with real clients, and it imports nothing of this module.
//
// The package has tests only. README.md says which requirement each of them checks. "go test -short" skips them all.
package integration
