package pebble

// Rest writes what is in memory to tables, so that a store that has nothing to do holds less of it. An error has failed the store.
func (d *DB) Rest() error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := d.failure(); err != nil {
		return err
	}
	return d.flush()
}
