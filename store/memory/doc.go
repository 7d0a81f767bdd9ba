// Package memory is the plainest store.Store: maps and slices, all in memory, gone with the process. It is the model that
// the other implementations are compared with, and serves nodes that need not remember.
//
// It is bounded by Expire and Trim alone. One mutex guards everything; there is no goroutine.
package memory
