package durable

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gannet/codec"
	"gannet/store"
)

// Records of one Put, and of one page of the sweep.
const (
	flushBatch = 512
	sweepPage  = 256
)

// run ends when the committer has, after a last flush.
func (m *marks) run() {
	defer close(m.ended)
	flush, sweep := time.NewTicker(m.l.timing.flush), time.NewTicker(m.l.timing.sweep)
	pause := time.NewTimer(m.l.timing.resolve)
	defer flush.Stop()
	defer sweep.Stop()
	defer pause.Stop()
	from, flushed := "", time.Now()
	for open := true; open; {
		select {
		case <-m.wake:
			m.look()
			if time.Since(flushed) > m.l.timing.flush/10 && m.crowded() {
				m.flush(false)
				flushed = time.Now()
			}
			pause.Reset(m.l.timing.resolve)
			select {
			case <-pause.C:
			case <-m.l.closing:
			}
		case <-flush.C:
			m.flush(false)
		case <-sweep.C:
			from = m.sweep(from)
		case <-m.l.closing:
			open = false
		}
	}
	<-m.l.committed
	m.flush(true)
}

// crowded says whether new marks may find no room before the next flush.
func (m *marks) crowded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.devices) > maxDeviceMarks/2 || len(m.convs) > maxConvMarks/2
}

// look judges what devices said, moves the positions and tells who wants to know. While the store is failed it waits.
func (m *marks) look() {
	for m.l.failed.Load() == nil {
		m.mu.Lock()
		some := m.waiting
		m.waiting = m.looked
		m.mu.Unlock()
		var again []*convMark
		for _, c := range some {
			switch err := m.lookAt(c); {
			case err == nil:
			case isDamage(err):
				m.l.complain("damaged data: what a device acknowledged is ignored", err)
				m.dismiss(c)
			default:
				m.l.complain("looking at what a device acknowledged", err)
				again = append(again, c)
			}
		}
		n := len(some)
		clear(some)
		if m.looked = some[:0]; len(again) > 0 {
			m.again(again)
			return
		}
		if n == 0 {
			return
		}
	}
}

// isDamage says that reading again will not help.
func isDamage(err error) bool { return errors.Is(err, store.ErrCorrupt) || errors.Is(err, errRecord) }

// again puts conversations back; the next flush has them looked at.
func (m *marks) again(some []*convMark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range some {
		c.queued = false
		m.queue(c)
	}
}

// dismiss forgets what was said of a conversation.
func (m *marks) dismiss(c *convMark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.delivered, c.read, c.answered, c.receipts, c.queued = 0, 0, 0, nil, false
	m.l.stats.marksIgnored.Add(1)
}

// flush writes what is dirty and forgets what was not used since the flush before.
func (m *marks) flush(sync bool) {
	m.look()
	if m.l.failed.Load() != nil {
		return
	}
	m.mu.Lock()
	devices, convs := m.activeD, m.activeC
	m.activeD, m.activeC = nil, nil
	m.mu.Unlock()
	heads := map[store.Channel]uint64{}
	for len(devices) > 0 {
		n := min(len(devices), flushBatch)
		m.flushDevices(devices[:n], heads, sync)
		devices = devices[n:]
	}
	for len(convs) > 0 {
		n := min(len(convs), flushBatch)
		m.flushConvs(convs[:n], sync)
		convs = convs[n:]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.devices) == 0 { // a map keeps the room it once had
		m.devices = map[deviceID]*deviceMark{}
	}
	if len(m.convs) == 0 {
		m.convs = map[convID]*convMark{}
	}
}

// write puts records; what is written is counted.
func (m *marks) write(records []store.Record, sync bool) error {
	if len(records) == 0 {
		return nil
	}
	err := m.l.put(records, sync)
	if err == nil {
		m.l.stats.marksFlushed.Add(uint64(len(records)))
	}
	return err
}

func (m *marks) flushDevices(some []*deviceMark, heads map[store.Channel]uint64, sync bool) {
	var records []store.Record
	var written []*deviceMark
	for _, d := range some {
		ok := m.settle(d, heads)
		m.mu.Lock()
		if d.dirty && ok {
			d.dirty = false
			written = append(written, d)
			records = append(records, store.Record{
				Owner: ownerDevices, Key: deviceKey(d.id.user, d.id.device), Value: d.rec.append(nil),
			})
		}
		m.mu.Unlock()
	}
	err := m.write(records, sync)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		for _, d := range written {
			d.dirty = true
		}
	}
	for _, d := range some {
		if d.dirty || d.used {
			d.used = false
			m.activeD = append(m.activeD, d)
		} else {
			delete(m.devices, d.id)
		}
	}
}

// settle makes a device's record what is to be written; false: it cannot be now, or there is nothing to be written.
func (m *marks) settle(d *deviceMark, heads map[store.Channel]uint64) bool {
	m.mu.Lock()
	asked, loaded, dirty := d.asked, d.loaded, d.dirty
	m.mu.Unlock()
	if !dirty {
		return false
	}
	var stored deviceRecord
	known := false
	if !loaded {
		v, err := m.l.current().Get(ownerDevices, deviceKey(d.id.user, d.id.device))
		if err == nil && v != nil {
			known = true
			stored, err = readDevice(v)
		}
		if err != nil && v == nil { // a damaged record is replaced
			m.l.complain("reading where a device is", err)
			return false
		}
	}
	var right []logMark
	for _, mark := range asked {
		ok, err := m.logMarkHolds(d.id.user, mark, heads)
		if err != nil {
			m.l.complain("looking at what a device acknowledged", err)
			if !isDamage(err) {
				return false
			}
		}
		if ok {
			right = append(right, mark)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !loaded {
		d.rec, d.loaded = stored.with(d.rec), true
		d.exists = d.exists || known
	}
	for _, mark := range right {
		if !raise(&d.rec.Logs, mark) { // groups that the user has left
			d.rec.Logs = append(slices.Delete(d.rec.Logs, 0, 1), mark)
		}
	}
	m.l.stats.marksIgnored.Add(uint64(len(asked) - len(right)))
	d.asked = slices.DeleteFunc(d.asked, func(mark logMark) bool { return slices.Contains(asked, mark) })
	if !d.exists { // of a device that never logged in there is nothing to be kept
		d.dirty = false
	}
	return d.exists
}

// logMarkHolds says whether a device may be there: in a log that its user reads, and not beyond its head.
func (m *marks) logMarkHolds(user string, mark logMark, heads map[store.Channel]uint64) (bool, error) {
	ch := store.Channel{Kind: mark.Kind, Name: mark.Name}
	if !mayConcern(user, mark.Kind, mark.Name) {
		return false, nil
	}
	if mark.Kind == codec.KindGroup {
		g, err := m.l.groups.get(mark.Name)
		if err != nil || g == nil || !g.Large {
			return false, err
		}
		if _, ok := g.member(user); !ok {
			return false, nil
		}
	}
	if mark.Seq <= heads[ch] {
		return true, nil
	}
	head, err := m.l.headOf(ch)
	if err != nil {
		return false, err
	}
	heads[ch] = head
	return mark.Seq <= head, nil
}

// headOf is a channel's head.
func (l *Log) headOf(ch store.Channel) (uint64, error) {
	if seq := l.recentHead(ch); seq > 0 {
		return seq, nil
	}
	head, err := l.current().Head(ch)
	if err != nil {
		return 0, fmt.Errorf("durable: reading the head of %v: %w", ch, err)
	}
	return head.Seq, nil
}

func (m *marks) flushConvs(some []*convMark, sync bool) {
	var records []store.Record
	var written []*convMark
	for _, c := range some {
		m.mu.Lock()
		dirty := c.dirty
		m.mu.Unlock()
		if !dirty {
			continue
		}
		if err := m.load(c); err != nil {
			m.l.complain("reading a conversation", err)
			continue
		}
		m.mu.Lock()
		c.rec.Read = max(c.rec.Read, c.sent)
		c.dirty = false
		written = append(written, c)
		records = append(records, store.Record{
			Owner: convOwner(c.id.user), Key: convKey(c.id.ch.Kind, c.id.ch.Name), Value: c.rec.append(nil),
		})
		m.mu.Unlock()
	}
	err := m.write(records, sync)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		for _, c := range written {
			c.dirty = true
		}
	}
	for _, c := range some {
		if c.dirty || c.queued || c.used {
			c.used = false
			m.activeC = append(m.activeC, c)
		} else {
			delete(m.convs, c.id)
		}
	}
}

// load reads what is stored of a conversation, once.
func (m *marks) load(c *convMark) error {
	m.mu.Lock()
	loaded := c.loaded
	m.mu.Unlock()
	if loaded {
		return nil
	}
	v, err := m.l.current().Get(convOwner(c.id.user), convKey(c.id.ch.Kind, c.id.ch.Name))
	if err != nil {
		return fmt.Errorf("durable: reading a conversation of %q: %w", c.id.user, err)
	}
	var rec convRecord
	if v != nil {
		if rec, err = readConv(v); err != nil {
			m.l.complain("a conversation is written anew", err)
			rec = convRecord{}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.rec, c.told, c.loaded = rec, rec.Read, true
	return nil
}

// sweep removes the records of devices that were not seen for long, in one page behind from, and returns where to go on.
func (m *marks) sweep(from string) (next string) {
	if m.l.failed.Load() != nil {
		return from
	}
	page, err := m.l.current().Scan(ownerDevices, from, sweepPage)
	if err != nil {
		m.l.complain("looking for devices that were not seen for long", err)
		return from
	}
	now, ttl := m.l.now(), uint64(m.l.opts.DeviceTTL.Milliseconds())
	var old []store.Record
	for _, r := range page {
		next = r.Key
		if d, err := readDevice(r.Value); err != nil || d.Seen+ttl >= now {
			continue
		}
		user, device, _ := splitDeviceKey(r.Key)
		m.mu.Lock()
		_, active := m.devices[deviceID{user, device}]
		m.mu.Unlock()
		if !active {
			old = append(old, store.Record{Owner: ownerDevices, Key: r.Key})
		}
	}
	if len(old) > 0 && m.l.put(old, false) == nil {
		m.l.stats.devicesForgot.Add(uint64(len(old)))
	}
	if len(page) < sweepPage {
		return ""
	}
	return next
}
