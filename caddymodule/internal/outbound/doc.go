// Package outbound fetches small JSON documents from addresses that strangers
// name, without letting them reach what only this machine can reach or use it to
// bother others.
package outbound
