package durable

import (
	"fmt"
	"slices"
	"strings"

	"gannet/codec"
	"gannet/store"
)

// maxDevices is how many devices of a user are looked at.
const maxDevices = 1024

// device is where a device of a user is, with what was not written yet. Positions in logs may lie above their heads: a device
// said them, and they were not looked at.
func (l *Log) device(user, device string) (rec deviceRecord, known bool, err error) {
	id := deviceID{user, device}
	if rec, known, ok := l.marks.deviceNow(id, nil); ok {
		return rec, known, nil
	}
	v, err := l.current().Get(ownerDevices, deviceKey(user, device))
	if err != nil {
		return rec, false, fmt.Errorf("durable: reading where device %q of %q is: %w", device, user, err)
	}
	if v != nil {
		if rec, err = readDevice(v); err != nil {
			return rec, false, fmt.Errorf("durable: reading where device %q of %q is: %w", device, user, err)
		}
		rec, _, _ = l.marks.deviceNow(id, &rec)
		return rec, true, nil
	}
	rec, known, _ = l.marks.deviceNow(id, &deviceRecord{})
	return rec, known, nil
}

// deviceNow lays what was not written over what is stored; without stored it answers, ok, if it needs none.
func (m *marks) deviceNow(id deviceID, stored *deviceRecord) (rec deviceRecord, known, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[id]
	switch {
	case d == nil && stored == nil, d != nil && !d.loaded && stored == nil:
		return rec, false, false
	case d == nil:
		return *stored, false, true
	case d.loaded:
		rec = d.rec
		rec.Logs = slices.Clone(d.rec.Logs)
	default:
		rec = stored.with(d.rec)
	}
	for _, mark := range d.asked {
		raise(&rec.Logs, mark)
	}
	return rec, d.exists, true
}

// with is the record with the positions of another one that are ahead.
func (d deviceRecord) with(e deviceRecord) deviceRecord {
	d.Seen, d.Pos, d.Logs = max(d.Seen, e.Seen), max(d.Pos, e.Pos), slices.Clone(d.Logs)
	for _, mark := range e.Logs {
		raise(&d.Logs, mark)
	}
	return d
}

// devicesOf is where the devices of a user are, at most maxDevices of them.
//
// What is flushed between the look at the store and the look at the marks would be missed by both, so it looks again.
func (l *Log) devicesOf(user string) (all []deviceRecord, err error) {
	for range 3 {
		flushed := l.stats.marksFlushed.Load()
		if all, err = l.devicesNow(user); err != nil || l.stats.marksFlushed.Load() == flushed {
			break
		}
	}
	return all, err
}

func (l *Log) devicesNow(user string) (all []deviceRecord, err error) {
	prefix := deviceKey(user, "")
	// Behind the user's devices those of others follow: most users have few, so the first page is short.
	for after, n := prefix, 2; ; n = 64 {
		page, err := l.current().Scan(ownerDevices, after, n)
		if err != nil {
			return nil, fmt.Errorf("durable: reading where the devices of %q are: %w", user, err)
		}
		for _, r := range page {
			if after = r.Key; !strings.HasPrefix(after, prefix) || len(all) == maxDevices {
				return all, nil
			}
			stored, err := readDevice(r.Value)
			if err != nil {
				l.complain("reading where the devices of a user are", err)
				continue
			}
			rec, _, _ := l.marks.deviceNow(deviceID{user, after[len(prefix):]}, &stored)
			all = append(all, rec)
		}
		if len(page) < n {
			return all, nil
		}
	}
}

// conv is a user's side of a conversation, with what was not written yet. Its positions may lie above the channel's head: a
// client said them, and they were not looked at.
func (l *Log) conv(user string, kind codec.Kind, name string) (rec convRecord, known bool, err error) {
	id := convID{user, store.Channel{Kind: kind, Name: name}}
	if rec, ok := l.marks.convNow(id, nil); ok {
		return rec, true, nil
	}
	v, err := l.current().Get(convOwner(user), convKey(kind, name))
	if err == nil && v != nil {
		known = true
		rec, err = readConv(v)
	}
	if err != nil {
		return rec, false, fmt.Errorf("durable: reading a conversation of %q: %w", user, err)
	}
	now, over := l.marks.convNow(id, &rec)
	return now, known || over, nil
}

// convNow lays what was not written over what is stored; over: there was such. Without stored it answers only if it needs none.
func (m *marks) convNow(id convID, stored *convRecord) (rec convRecord, over bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.convs[id]
	switch {
	case c == nil && stored != nil:
		return *stored, false
	case c == nil, !c.loaded && stored == nil:
		return rec, false
	case c.loaded:
		rec = c.rec
	default:
		rec = *stored
	}
	return convRecord{Delivered: max(rec.Delivered, c.delivered, c.read), Read: max(rec.Read, c.read, c.sent)}, true
}
