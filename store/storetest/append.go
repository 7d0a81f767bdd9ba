package storetest

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"gannet/codec"
	"gannet/store"
)

func testEmpty(t *testing.T, x suite) {
	s := x.open(t)
	if s.Epoch() == 0 {
		t.Error("the epoch is 0")
	}
	if other := x.open(t); other.Epoch() == s.Epoch() {
		t.Error("two stores have the same epoch")
	}
	want(t, "place", s.Place(), 0)
	want(t, "head", head(t, s, topic("a")), store.Head{First: 1})
	want(t, "page from 0", read(t, s, topic("a"), 0, 10, 100), page{next: 1})
	want(t, "page from 7", read(t, s, topic("a"), 7, 10, 100), page{next: 7})
	refs, next := inbox(t, s, "ann", 0, 10)
	want(t, "inbox", fmt.Sprint(refs, next), "[] 0")
	refs, next = inbox(t, s, "ann", 9, 10)
	want(t, "inbox beyond", fmt.Sprint(refs, next), "[] 9")
	want(t, "first", inboxFirst(t, s, "ann"), 0)
	want(t, "nonce", highest(t, s, "ann", "phone"), 0)
	must(t, s.Append(nil, nil))
	must(t, s.Put(nil, true))
	must(t, s.Trim(topic("a"), 9))
	must(t, s.Expire(math.MaxUint64))
	want(t, "place", s.Place(), 0)
	want(t, "head", head(t, s, topic("a")), store.Head{First: 1})
	want(t, "result", put(t, s, msg{name: "a"}), []store.Result{{Seq: 1, Pos: 1}})
}

// Each channel counts on its own and without a hole, the place grows, results are in the batch's order.
func testAppend(t *testing.T, x suite) {
	s := x.open(t)
	seqs := map[string]uint64{}
	place := uint64(0)
	for batch := range 20 {
		var list []msg
		for i := range batch * 3 {
			list = append(list, msg{name: fmt.Sprint("c", i*i%7), payload: fmt.Sprint(batch, i)})
		}
		for i, r := range put(t, s, list...) {
			seqs[list[i].name]++
			if r.Code != codec.CodeOK || r.Seq != seqs[list[i].name] || r.Pos <= place {
				t.Fatalf("batch %d, message %d: %+v behind place %d, want seq %d", batch, i, r, place, seqs[list[i].name])
			}
			place = r.Pos
		}
		want(t, "place", s.Place(), place)
	}
	for name, n := range seqs {
		want(t, "head of "+name, head(t, s, topic(name)), store.Head{First: 1, Seq: n})
		want(t, "messages", len(payloads(t, s, topic(name), 0, 3)), n)
	}
}

func testFramesComeBack(t *testing.T, x suite) {
	s := x.open(t)
	big := string(bytes.Repeat([]byte("0123456789"), 20_000))
	list := []msg{
		{payload: "plain"},
		{payload: "with tags", ext: codec.TLVs{}.Append(codec.TagRoute, []byte("eu")).AppendUint32(codec.TagTTL, 9)},
		{payload: ""},
		{payload: "from\x00a", from: "ann"},
		{payload: big, ext: codec.TLVs{}.Append(200, bytes.Repeat([]byte{7}, 255))},
		{payload: big},
		{payload: "small again"},
	}
	var batch []store.Message
	var kept []byte
	for i := range list {
		list[i].name = "a"
		m := list[i].message()
		batch = append(batch, m)
		f, _, _ := codec.ConsumeFrame(m.Frame, codec.MaxBody)
		v, _ := codec.ConsumeMsg(f)
		v.Seq = uint64(i + 1)
		kept = codec.AppendMsg(kept, v)
	}
	must(t, s.Append(batch, make([]store.Result, len(batch))))
	var written []byte
	for _, m := range batch {
		written = append(written, m.Frame...)
		clear(m.Frame) // belongs to the caller again
		clear(m.Name)
	}
	if !bytes.Equal(written, kept) {
		t.Error("the frames given do not carry their seqs")
	}
	b, _, _, n, err := s.Read(topic("a"), 1, 100, 1<<30, nil)
	if err != nil || n != len(list) || !bytes.Equal(b, kept) {
		t.Errorf("read %d frames, %d bytes, %v; want %d, %d", n, len(b), err, len(list), len(kept))
	}
}

// names are such as codec.ValidID allows, prefixes of each other among them.
func names() (list []string) {
	for n := 1; n <= codec.MaxID; n++ {
		list = append(list, string(bytes.Repeat([]byte("a"), n)))
	}
	for c := range 256 {
		if s := string([]byte{byte(c)}); c != 'a' && codec.ValidID([]byte(s)) {
			list = append(list, s, "a"+s, s+"a")
		}
	}
	for r := rune(0x80); r < 0x110000; r = r*5/4 + 1 {
		if s := string(r); codec.ValidID([]byte(s)) {
			list = append(list, s)
		}
	}
	return append(list, "\u00ff", "\u00ff\u00ff", "\U0010ffff\U0010ffff", "r", "rr", "m", "n", "i", "h", "M", "b")
}

// No name is taken for another, whatever it is made of and whatever it names.
func testNames(t *testing.T, x suite) {
	s := x.open(t)
	var list []msg
	seen := map[string]bool{}
	for _, n := range names() {
		if seen[n] {
			continue
		}
		seen[n] = true
		pair := string(codec.AppendPair(nil, []byte(n), []byte("zoe")))
		from := n + "/d"
		if bytes.ContainsRune([]byte(n), '/') {
			from = "" // msg separates by it
		}
		list = append(list,
			msg{kind: codec.KindTopic, name: n, payload: "topic " + n, inbox: []string{n}},
			msg{kind: codec.KindGroup, name: n, payload: "group " + n, from: from, nonce: 5},
			msg{kind: codec.KindDirect, name: pair, payload: "direct " + n, from: "sender/" + n, nonce: 6},
		)
	}
	list = append(list, msg{kind: codec.KindAll, name: codec.AllName, payload: "all"})
	results := put(t, s, list...)
	for i, m := range list {
		want(t, m.payload, results[i].Seq, 1)
		c := store.Channel{Kind: m.kind, Name: m.name}
		want(t, "head of "+c.String(), head(t, s, c), store.Head{First: 1, Seq: 1})
		want(t, "payloads", payloads(t, s, c, 0, 10), []string{m.payload})
		for _, u := range m.inbox {
			refs, _ := inbox(t, s, u, 0, 10)
			want(t, "inbox of "+u, refs, []store.Ref{{Pos: results[i].Pos, Channel: c, Seq: 1}})
		}
		if u, d, ok := bytes.Cut([]byte(m.from), []byte("/")); ok {
			if n := highest(t, s, string(u), string(d)); n != m.nonce {
				t.Errorf("nonce of %q is %d, want %d", m.from, n, m.nonce)
			}
		}
	}
	for _, c := range []store.Channel{{}, {Kind: codec.KindTopic}, topic(string(make([]byte, 300))), topic(string(make([]byte, 65536)))} {
		want(t, "head of what cannot be", head(t, s, c), store.Head{First: 1})
		want(t, "page of what cannot be", len(read(t, s, c, 0, 9, 9).msgs), 0)
		must(t, s.Trim(c, 5))
		inbox(t, s, c.Name, 0, 1)
		highest(t, s, c.Name, c.Name)
	}
}

func testInvalid(t *testing.T, x suite) {
	s := x.open(t)
	good := msg{name: "a", from: "ann/phone", nonce: 1, payload: "p", inbox: []string{"bob"}}
	long := string(bytes.Repeat([]byte("x"), codec.MaxID+1))
	bad := []func(m *store.Message){
		func(m *store.Message) { m.Frame = nil },
		func(m *store.Message) { m.Frame = m.Frame[:3] },
		func(m *store.Message) { m.Frame = m.Frame[:len(m.Frame)-1] },
		func(m *store.Message) { m.Frame = append(m.Frame, 0) },
		func(m *store.Message) { m.Frame = append(m.Frame, m.Frame...) },
		func(m *store.Message) {
			m.Frame = codec.AppendMsg(nil, codec.Msg{Kind: codec.KindTopic, Name: []byte("b")})
		},
		func(m *store.Message) {
			m.Frame = codec.AppendMsg(nil, codec.Msg{Kind: codec.KindGroup, Name: []byte("a")})
		},
		func(m *store.Message) {
			m.Frame = codec.AppendMsg(nil, codec.Msg{Kind: codec.KindTopic, Name: []byte("a"), Seq: 1})
		},
		func(m *store.Message) { m.Frame = codec.AppendFrame(nil, codec.Frame{Type: codec.TypePing}) },
		func(m *store.Message) { m.Frame = codec.AppendFrame(nil, codec.Frame{Type: codec.TypeMsg}) },
		func(m *store.Message) { m.Frame[3] |= codec.FlagCompressed },
		func(m *store.Message) { m.Frame[3] |= codec.FlagSealed },
		func(m *store.Message) { m.Frame[3] |= codec.FlagExt },
		func(m *store.Message) { m.Kind = 0 },
		func(m *store.Message) { m.Kind = 9 },
		func(m *store.Message) { m.Kind = codec.KindGroup },
		func(m *store.Message) { m.Name = nil },
		func(m *store.Message) { m.Name = make([]byte, codec.MaxPair+1) },
		func(m *store.Message) { m.Name = []byte("b") },
		func(m *store.Message) { m.User = []byte(long) },
		func(m *store.Message) { m.User = nil },
		func(m *store.Message) { m.Device = []byte(long) },
		func(m *store.Message) { m.Nonce = 0 },
		func(m *store.Message) { m.Inbox = [][]byte{[]byte("bob"), []byte(long)} },
		func(m *store.Message) { m.Inbox = [][]byte{nil} },
	}
	var batch []store.Message
	for i, spoil := range bad {
		b, g := good.message(), good.message()
		spoil(&b)
		g.Nonce = uint64(i + 1)
		batch = append(batch, b, g)
	}
	results := make([]store.Result, len(batch))
	must(t, s.Append(batch, results))
	for i, r := range results {
		if i%2 == 0 && r != (store.Result{Code: codec.CodeInvalid}) {
			t.Errorf("bad message %d: %+v", i/2, r)
		}
		if i%2 == 1 && (r.Code != codec.CodeOK || r.Seq != uint64(i/2+1)) {
			t.Errorf("good message %d: %+v", i/2, r)
		}
	}
	want(t, "messages", len(payloads(t, s, topic("a"), 0, 5)), len(bad))
	refs, _ := inbox(t, s, "bob", 0, 1000)
	want(t, "references", len(refs), len(bad))
	m := good.message() // a message of nobody, with no nonce, is one all the same
	m.User, m.Device, m.Nonce = nil, nil, 0
	must(t, s.Append([]store.Message{m}, results[:1]))
	want(t, "code", results[0].Code, codec.CodeOK)
}
