package durable

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gannet/codec"
	"gannet/store"
)

// simDevice is a client as it should be: it keeps what it sends until that is acknowledged, sends it again with the same nonce and in
// order, and stores where it is. It checks all that it gets.
type simDevice struct {
	s            *sim
	user, device string
	topics       []simTopic

	conn    *simConn
	opened  int  // step of the login
	live    bool // WELCOME came
	stalled int  // steps for which it does not read

	// Where it is, and where it was when it stored that.
	now, saved simPositions
	told       uint64 // acknowledged

	nonce   uint64
	outbox  []*simSend
	refused bool // one of them was, for now

	// What it has seen, whatever it forgets, and from where on.
	seen  map[store.Channel]map[uint64]bool
	from  map[store.Channel]uint64 // below is not for it
	whole map[store.Channel]uint64 // everything for it up to here was seen

	away    bool // it has left its last topic for a while
	pulling int  // messages of a RANGE that follow
	waiting map[uint32]store.Channel
	req     uint32
}

// simTopic is a subscription; with a tag it is filtered.
type simTopic struct {
	name, tag string
}

// simPositions is what a device stores.
type simPositions struct {
	inbox uint64
	logs  map[store.Channel]uint64
}

func (p simPositions) clone() simPositions { return simPositions{p.inbox, maps.Clone(p.logs)} }

// simSend is a message that is not acknowledged yet.
type simSend struct {
	nonce uint64
	kind  codec.Kind
	name  string
	tag   string
	text  string
	sent  bool // on this connection, and not refused since
}

func (s *sim) addDevice(user, device string, topics ...simTopic) *simDevice {
	d := &simDevice{
		s: s, user: user, device: device, topics: topics, now: simPositions{logs: map[store.Channel]uint64{}},
		seen: map[store.Channel]map[uint64]bool{}, from: map[store.Channel]uint64{}, whole: map[store.Channel]uint64{},
	}
	d.saved = d.now.clone()
	s.devices = append(s.devices, d)
	return d
}

func (d *simDevice) name() string { return d.user + "/" + d.device }

func (d *simDevice) fail(format string, args ...any) {
	d.s.fail("%s: %s", d.name(), fmt.Sprintf(format, args...))
}

// connect opens a connection and says HELLO.
func (d *simDevice) connect() {
	if d.conn != nil && d.s.rng.IntN(2) == 0 {
		d.conn = nil // the network is gone and nobody has told the server
	}
	d.drop()
	switch d.s.rng.IntN(4) {
	case 0: // it lost what it did not store
		d.now = d.saved.clone()
	case 1:
		d.saved = d.now.clone()
	}
	loop := d.s.loops[d.s.rng.IntN(len(d.s.loops))]
	c := &simConn{loop: loop, kernel: 500 << d.s.rng.IntN(8)}
	c.session = loop.sh.Open(c)
	d.conn, d.opened, d.live, d.waiting, d.pulling = c, d.s.steps, false, map[uint32]store.Channel{}, 0
	d.refused, d.away = false, false
	for _, m := range d.outbox {
		m.sent = false
	}
	h := codec.Hello{Version: 1, Device: []byte(d.device), User: []byte(d.user), Heartbeat: 300}
	if d.s.rng.IntN(5) > 0 {
		h.InboxEpoch, h.InboxPos = d.s.log.epoch, d.now.inbox
	} // else it goes on where the server says
	for _, ch := range d.listed() {
		p := codec.Position{Kind: ch.Kind, Name: []byte(ch.Name)}
		if seq, ok := d.now.logs[ch]; ok {
			p.Epoch, p.Seq = d.s.log.epoch, seq
		}
		h.Positions.Append(p)
	}
	c.wire = codec.AppendHello(nil, h)
	d.s.note("%s connects", d.name())
}

// listed is what HELLO has positions of: topics without a filter, all, and the large groups it knows of.
func (d *simDevice) listed() []store.Channel {
	all := []store.Channel{{Kind: codec.KindAll, Name: codec.AllName}}
	for _, t := range d.topics {
		if t.tag == "" {
			all = append(all, store.Channel{Kind: codec.KindTopic, Name: t.name})
		}
	}
	for _, name := range d.s.groupNames {
		ch := store.Channel{Kind: codec.KindGroup, Name: name}
		if _, ok := d.now.logs[ch]; ok {
			all = append(all, ch)
		}
	}
	return all
}

// drop loses the connection.
func (d *simDevice) drop() {
	if d.conn != nil {
		d.conn.disconnect()
		d.conn = nil
	}
}

func (d *simDevice) write(frame []byte) { d.conn.wire = append(d.conn.wire, frame...) }

// read takes what the kernel has.
func (d *simDevice) read() {
	c := d.conn
	for d.conn == c && len(c.out) > 0 {
		f, n, err := codec.ConsumeFrame(c.out, codec.MaxBody)
		if err != nil {
			d.fail("bytes that are no frame: %v", err)
		}
		if n == 0 {
			if room := len(c.out); c.kernel <= room {
				c.kernel = room + 1000 // a real client keeps what it has read of a frame
			}
			break
		}
		c.out = c.out[n:]
		d.take(f)
	}
	c.push()
	if d.conn == c && (c.closed || c.shut && len(c.out)+len(c.pending) == 0) {
		d.drop()
	}
}

func (d *simDevice) take(f codec.Frame) {
	switch f.Type {
	case codec.TypeWelcome:
		d.welcome(f)
	case codec.TypeMsg:
		d.message(f)
	case codec.TypeGap:
		d.gap(f)
	case codec.TypePos:
		p, _ := codec.ConsumePos(f)
		d.now.inbox = max(d.now.inbox, p.InboxPos)
	case codec.TypeSendAck:
		d.answered(f)
	case codec.TypeSubAck:
		d.subscribed(f)
	case codec.TypeRange:
		r, _ := codec.ConsumeRange(f)
		d.pulling = int(r.Count)
	case codec.TypePing:
		d.write(codec.AppendPong(nil, codec.Ping{}))
	case codec.TypeErr:
		e, _ := codec.ConsumeErr(f)
		d.fail("ERR %v %s", e.Code, e.Text)
	case codec.TypeBye:
		b, _ := codec.ConsumeBye(f)
		d.s.byes[b.Code]++
		if b.Code == codec.CodeMalformed || b.Code == codec.CodeInternal {
			d.fail("BYE %v %s", b.Code, b.Reason)
		}
	}
}

func (d *simDevice) welcome(f codec.Frame) {
	w, err := codec.ConsumeWelcome(f)
	if err != nil {
		d.fail("WELCOME: %v", err)
	}
	d.live = true
	if w.InboxState == codec.StateGap || w.InboxState == codec.StateReset || w.InboxEpoch != d.s.log.epoch {
		d.fail("the inbox is in state %d, epoch %x", w.InboxState, w.InboxEpoch)
	}
	list, i := d.listed(), 0
	for st := range w.States.All() {
		ch := list[i]
		i++
		_, known := d.now.logs[ch]
		switch {
		case st.State == codec.StateRefused && ch.Kind == codec.KindGroup:
			delete(d.now.logs, ch) // no member any more
		case st.State == codec.StateLive && known && ch.Kind == codec.KindGroup: // it was deleted and is made anew, small
			delete(d.now.logs, ch)
		case known != (st.State == codec.StateResumed), !known && st.State != codec.StateLive:
			d.fail("%v from %d is in state %d", ch, d.now.logs[ch], st.State)
		case !known:
			d.begin(ch, st.Head)
		}
	}
	for _, t := range d.topics {
		if t.tag != "" {
			d.subscribe(t)
		}
	}
}

// begin notes where a log begins for the device, if it does now.
func (d *simDevice) begin(ch store.Channel, head uint64) {
	if _, again := d.from[ch]; !again {
		d.from[ch], d.whole[ch] = head+1, head
	}
	d.now.logs[ch] = head
	d.saved.logs[ch] = max(d.saved.logs[ch], d.from[ch]-1) // where it begins is stored at once
}

func (d *simDevice) subscribe(t simTopic) {
	ch := store.Channel{Kind: codec.KindTopic, Name: t.name}
	d.req++
	d.waiting[d.req] = ch
	m := codec.Sub{Req: d.req, Kind: ch.Kind, Name: []byte(ch.Name)}
	if t.tag != "" {
		m.Ext = codec.TLVs(nil).Append(codec.TagRoute, []byte(t.tag))
	}
	if seq, ok := d.now.logs[ch]; ok {
		m.Mode, m.Epoch, m.Seq = codec.SubFromPosition, d.s.log.epoch, seq
	}
	d.write(codec.AppendSub(nil, m))
}

func (d *simDevice) subscribed(f codec.Frame) {
	a, _ := codec.ConsumeSubAck(f)
	ch, ok := d.waiting[a.Req]
	if !ok {
		return // of an UNSUB
	}
	delete(d.waiting, a.Req)
	_, known := d.now.logs[ch]
	switch {
	case a.Code.Temporary():
		for _, t := range d.topics {
			if t.name == ch.Name {
				d.subscribe(t)
			}
		}
	case a.Code != codec.CodeOK || known != (a.State == codec.StateResumed):
		d.fail("SUBACK of %v from %d: %v, state %d", ch, d.now.logs[ch], a.Code, a.State)
	case !known:
		d.begin(ch, a.Head)
	}
}

// forMe says whether a message is for this device at all: what it sent itself, and what a filter leaves out, is not, and of groups
// only what was said since it is in it.
func (d *simDevice) forMe(ch store.Channel, seq uint64, m *simMessage) bool {
	switch ch.Kind {
	case codec.KindDirect:
		return m.sender != d.name()
	case codec.KindGroup:
		span, ok := d.s.truth.member(ch.Name, d.user)
		return ok && seq >= span.from && !m.void
	case codec.KindTopic:
		for _, t := range d.topics {
			if t.name == ch.Name {
				return t.tag == "" || t.tag == m.tags
			}
		}
		return false
	}
	return true
}

// message checks a message: that it is what is stored, that the device may have it, and that none is missing before it.
func (d *simDevice) message(f codec.Frame) {
	m, err := codec.ConsumeMsg(f)
	if err != nil {
		d.fail("MSG: %v", err)
	}
	ch := store.Channel{Kind: m.Kind, Name: string(m.Name)}
	if m.Seq == 0 {
		return
	}
	stored := d.s.truth.channels[ch]
	if m.Seq > uint64(len(stored)) {
		d.fail("#%d of %v is not stored", m.Seq, ch)
	}
	if !bytes.Equal(codec.AppendMsg(nil, m), stored[m.Seq-1].frame) {
		d.fail("#%d of %v is not what is stored", m.Seq, ch)
	}
	switch {
	case ch.Kind == codec.KindGroup && !stored[m.Seq-1].void && !d.s.truth.mayGet(ch.Name, d.user, m.Seq, d.opened):
		d.fail("#%d of %v, %.80q: the user is no member: %v", m.Seq, ch, m.Payload, d.s.truth.groups[ch.Name][d.user])
	case ch.Kind == codec.KindDirect && !slices.Contains(strings.Split(ch.Name, "\x1f"), d.user):
		d.fail("#%d of %v is not for it", m.Seq, ch)
	}
	if d.pulling > 0 {
		d.pulling--
		return
	}
	d.s.note("%s gets #%d of %v", d.name(), m.Seq, ch)
	d.see(ch, m.Seq)
	if m.Flags&codec.MsgLog != 0 {
		d.now.logs[ch] = max(d.now.logs[ch], m.Seq)
	}
}

// see notes a message. What is for the device must come in order.
func (d *simDevice) see(ch store.Channel, seq uint64) {
	if d.seen[ch] == nil {
		d.seen[ch] = map[uint64]bool{}
	}
	if d.seen[ch][seq] {
		d.s.counts["again"]++
		return
	}
	if missing := d.missing(ch, seq-1); missing != 0 && !d.s.truth.channels[ch][seq-1].void {
		d.fail("#%d of %v came before #%d", seq, ch, missing)
	}
	d.seen[ch][seq] = true
}

// missing is the lowest seq up to one that is for the device and was not seen; 0: none.
func (d *simDevice) missing(ch store.Channel, to uint64) uint64 {
	stored := d.s.truth.channels[ch]
	low := max(d.whole[ch]+1, d.from[ch])
	for ; low <= to; low++ {
		if d.forMe(ch, low, &stored[low-1]) && !d.seen[ch][low] {
			return low
		}
		d.whole[ch] = low
	}
	return 0
}

// gap checks what the server says it left out.
func (d *simDevice) gap(f codec.Frame) {
	g, err := codec.ConsumeGap(f)
	ch := store.Channel{Kind: g.Kind, Name: string(g.Name)}
	stored := d.s.truth.channels[ch]
	if err != nil || g.Kind == codec.KindInbox || g.Reason != codec.GapNoRight && g.Reason != codec.GapFiltered || g.To > uint64(len(stored)) {
		d.fail("GAP %v %d–%d, reason %d", ch, g.From, g.To, g.Reason)
	}
	d.s.note("%s gets GAP %v %d–%d %d", d.name(), ch, g.From, g.To, g.Reason)
	for seq := max(g.From, 1); seq <= g.To; seq++ {
		if d.forMe(ch, seq, &stored[seq-1]) && !d.seen[ch][seq] && seq >= d.from[ch] {
			d.fail("GAP %v %d–%d, reason %d: #%d is for it", ch, g.From, g.To, g.Reason, seq)
		}
	}
	if _, ok := d.now.logs[ch]; ok {
		d.now.logs[ch] = max(d.now.logs[ch], g.To)
	}
}
