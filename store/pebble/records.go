package pebble

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"gannet/store"
)

// Put is store.Store's.
func (d *DB) Put(records []store.Record, sync bool) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := d.failure(); err != nil {
		return err
	}
	w := d.db.NewBatch()
	defer w.Close()
	for i := range records {
		r := &records[i]
		if err := r.Check(); err != nil {
			return err
		}
		if r.Value == nil {
			_ = w.Delete(appendRecordKey(nil, r.Owner, r.Key), nil)
		} else {
			_ = w.Set(appendRecordKey(nil, r.Owner, r.Key), r.Value, nil)
		}
	}
	o := pebble.NoSync
	if sync {
		o = pebble.Sync
	}
	return d.commit(w, o)
}

// commit writes a batch that is not messages.
func (d *DB) commit(w *pebble.Batch, o *pebble.WriteOptions) error {
	if err := d.room(w.Len()); err != nil {
		return err
	}
	if err := w.Commit(o); err != nil {
		d.fail(err)
	}
	return d.failure() // whatever Commit said
}

// Get is store.Store's.
func (d *DB) Get(owner, key string) ([]byte, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if len(owner) > store.MaxOwner {
		return nil, nil
	}
	v, done, err := d.db.Get(appendRecordKey(nil, owner, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, wrapRead(err)
	}
	defer done.Close()
	return append([]byte{}, v...), nil
}

// Scan is store.Store's.
func (d *DB) Scan(owner, after string, limit int) ([]store.Record, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if len(owner) > store.MaxOwner || limit <= 0 {
		return nil, nil
	}
	prefix := appendRecordPrefix(nil, owner)
	it, err := d.iter(prefix)
	if err != nil {
		return nil, err
	}
	var found []store.Record
	for ok := it.SeekGE(append(appendRecordKey(nil, owner, after), 0)); ok && len(found) < limit; ok = it.Next() {
		found = append(found, store.Record{
			Owner: owner, Key: string(it.Key()[len(prefix):]), Value: append([]byte{}, it.Value()...),
		})
	}
	return found, closeIter(it)
}
