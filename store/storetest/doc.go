// Package storetest is the conformance suite of store.Store: every implementation passes Run, and Model compares it
// with store/memory under random operations. Only tests import it.
package storetest
