package durable

import "gannet/store"

// WithStore calls f with the open store, for what is not a log's business: a backup. The error is f's, or why nothing is stored now.
// A store that fails meanwhile is replaced; f gets store.ErrClosed then.
func (l *Log) WithStore(f func(store.Store) error) error {
	if err := l.Status(); err != nil {
		return err
	}
	return f(l.current())
}
