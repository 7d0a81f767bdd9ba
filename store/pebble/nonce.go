package pebble

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"gannet/store"
)

// stamp notes that a device's nonce is about to get seq, or finds that it was stored before.
func (d *DB) stamp(m *store.Message, seq uint64) (known bool, first uint64, err error) {
	dev, err := d.device(m.User, m.Device)
	if err != nil {
		return false, 0, err
	}
	if m.Nonce > dev.high {
		d.touch(dev)
		n := int32(len(d.now.stamps))
		if dev.to < 0 {
			dev.from = n
		} else {
			d.now.stamps[dev.to].next = n
		}
		d.now.stamps = append(d.now.stamps, stampEntry{m.Nonce, seq, -1})
		dev.high, dev.to = m.Nonce, n
		dev.since++
		return false, 0, nil
	}
	known, first, err = d.stored(dev, m.Nonce)
	if err != nil || known {
		return known, first, err
	}
	d.touch(dev)
	dev.odd = append(dev.odd, oddNonce{m.Nonce, seq})
	return false, 0, nil
}

func (d *DB) touch(dev *deviceState) {
	if dev.to < 0 && len(dev.odd) == 0 {
		d.now.devices = append(d.now.devices, dev)
	}
}

// stored looks a nonce up that is not above the highest: in the batch in progress, then on disk. Below all that are kept, it
// counts as stored, with seq 0.
func (d *DB) stored(dev *deviceState, nonce uint64) (known bool, seq uint64, err error) {
	for _, o := range dev.odd {
		if o.nonce == nonce {
			return true, o.seq, nil
		}
	}
	if dev.to >= 0 && nonce >= d.now.stamps[dev.from].nonce {
		for i := dev.from; i >= 0; i = d.now.stamps[i].next {
			if s := d.now.stamps[i]; s.nonce == nonce {
				return true, s.seq, nil
			}
		}
		return false, 0, nil
	}
	it, err := d.iter(append([]byte{prefixNonce}, dev.device...))
	if err != nil {
		return false, 0, err
	}
	known, seq, err = lookUp(it, dev.device, nonce)
	if e := closeIter(it); err == nil || e != nil {
		err = e
	}
	return known, seq, err
}

// lookUp goes back from a nonce to the ordered chunk that would hold it; unordered ones may lie between.
func lookUp(it *pebble.Iterator, device []byte, nonce uint64) (known bool, seq uint64, err error) {
	key := appendNonceKey(nil, device, nonce)
	below := false // is there any chunk that begins at or below nonce?
	for ok := it.SeekLT(append(key, 0)); ok; ok = it.Prev() {
		below = true
		c, err := openNonces(it.Key(), it.Value())
		if err != nil {
			return false, 0, err
		}
		ordered := c.ordered
		for {
			n, s, more, err := c.next()
			if err != nil {
				return false, 0, err
			}
			if !more {
				break
			}
			if n == nonce {
				return true, s, nil
			}
		}
		if ordered {
			return false, 0, nil
		}
	}
	return !below, 0, nil
}

// device finds a device's state, or loads its highest nonce. One that had a message refused in this batch is refused.
func (d *DB) device(user, device []byte) (*deviceState, error) {
	d.scratch = appendDevice(d.scratch[:0], user, device)
	if d.now.refused != nil {
		if _, refused := d.now.refused[string(d.scratch)]; refused {
			return nil, errOvertaking
		}
	}
	if dev := d.devices.get(d.scratch); dev != nil {
		return dev, nil
	}
	dev := &deviceState{device: slices.Clone(d.scratch), to: -1}
	var err error
	if dev.high, dev.since, _, err = d.highest(dev.device, d.place.Load()); err != nil {
		return nil, err
	}
	d.devices.put(string(dev.device), dev)
	return dev, nil
}

// highest reads the highest nonce of a device that is stored up to a place: the last of its last ordered chunk. later: there is
// something above that place.
func (d *DB) highest(device []byte, place uint64) (high, since uint64, later bool, err error) {
	it, err := d.iter(append([]byte{prefixNonce}, device...))
	if err != nil {
		return 0, 0, false, err
	}
	defer func() {
		if e := closeIter(it); err == nil {
			err = e
		}
	}()
	for ok := it.Last(); ok; ok = it.Prev() {
		c, err := openNonces(it.Key(), it.Value())
		if err != nil {
			return 0, 0, later, err
		}
		if c.place > place {
			later = true // not synced yet
			continue
		}
		for more := true; more; high = max(high, c.nonce) {
			if _, _, more, err = c.next(); err != nil {
				return 0, 0, later, err
			}
		}
		if c.ordered {
			return high, c.since, later, nil
		}
	}
	return high, 0, later, nil
}

// writeDevice writes a device's pending nonces and, now and then, removes those far below the highest.
func (d *DB) writeDevice(w *pebble.Batch, dev *deviceState) {
	place := d.place.Load() + 1
	trim := dev.since >= 4*uint64(d.opts.Window)
	if trim {
		dev.since = uint64(d.opts.Window)
	}
	if dev.to >= 0 {
		first := d.now.stamps[dev.from].nonce
		v, last := appendNonceHeader(d.value[:0], 0, place, dev.since), first
		for i := dev.from; i >= 0; {
			s := &d.now.stamps[i]
			v = appendNonce(v, s.nonce-last, s.seq)
			last, i = s.nonce, s.next
		}
		d.value = v
		d.scratch = appendNonceKey(d.scratch[:0], dev.device, first)
		_ = w.Set(d.scratch, v, nil)
	}
	for _, o := range dev.odd {
		v := appendNonce(appendNonceHeader(nil, nonceUnordered, place, 0), 0, o.seq)
		_ = w.Set(appendNonceKey(nil, dev.device, o.nonce), v, nil)
	}
	if trim {
		if err := d.trimNonces(w, dev); err != nil {
			d.complain("nonces could not be trimmed", err)
		}
	}
}

// trimNonces removes the chunks below the window of a device's highest nonces. The lowest that stays is an ordered one: an
// unordered chunk says nothing about its neighbours, so below it nonces that were stored would look as if they never had been.
func (d *DB) trimNonces(w *pebble.Batch, dev *deviceState) (err error) {
	it, err := d.iter(append([]byte{prefixNonce}, dev.device...))
	if err != nil {
		return err
	}
	defer func() {
		if e := closeIter(it); err == nil {
			err = e
		}
	}()
	kept := 0
	for ok := it.Last(); ok; ok = it.Prev() {
		c, err := openNonces(it.Key(), it.Value())
		if err != nil {
			return err
		}
		for {
			_, _, more, err := c.next()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			kept++
		}
		if c.ordered && kept >= d.opts.Window {
			return w.DeleteRange(appendNonceKey(nil, dev.device, 0), slices.Clone(it.Key()), nil)
		}
	}
	return nil
}

// Nonce is store.Store's.
func (d *DB) Nonce(user, device string) (uint64, error) {
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.leave()
	if len(user) > 255 || len(device) > 255 {
		return 0, nil
	}
	for name := appendDevice(nil, []byte(user), []byte(device)); ; {
		place := d.place.Load()
		high, _, later, err := d.highest(name, place)
		if err != nil || high > 0 || !later || d.place.Load() == place {
			return high, err
		}
		// What it had at that place was trimmed meanwhile, for there is more by now.
	}
}
