// Package storetest holds what every store must do, as a suite of tests that
// each backend runs, and a store that fails on demand, for the users of stores.
//
// A backend's whole test of the contract is this:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return memstore.New(0) })
//	}
package storetest
