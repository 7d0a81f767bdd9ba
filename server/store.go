package server

import (
	"fmt"
	"log/slog"

	"gannet/server/durable"
	"gannet/store"
	"gannet/store/memory"
	"gannet/store/pebble"
)

// durableOptions are those of the log.
func durableOptions(o *Options, log *slog.Logger) durable.Options {
	open := o.OpenStore
	if open == nil {
		open = o.openStore
	}
	return durable.Options{Open: open, Logger: log}
}

// openStore opens the store that the options name. It is called again after the disk failed.
func (o *Options) openStore() (store.Store, error) {
	switch o.Store {
	case "memory":
		return memory.New(memory.Options{}), nil
	case "pebble":
		return pebble.Open(o.Data, pebble.Options{Logger: o.Logger})
	}
	return nil, fmt.Errorf("store: %q is none; say pebble or memory", o.Store)
}
