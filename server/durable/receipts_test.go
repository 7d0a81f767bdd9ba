package durable

import (
	"fmt"
	"slices"
	"testing"

	"gannet/codec"
	"gannet/shard"
	"gannet/store"
)

const asks = codec.MsgReceipt

// gotIt is a mark of a message whose sender wants to know.
func gotIt(user string, kind codec.Kind, name string, seq uint64, sender string) shard.Mark {
	k := markAt(user, codec.AckDelivered, kind, name, seq)
	k.Receipt = sender
	return k
}

func TestReceiptsOfDelivery(t *testing.T) {
	p := newPost(t, inMemory)
	name := pairOf("ann", "bob")
	for n := range uint64(4) {
		p.send(note("ann", n+1, codec.KindDirect, "bob", "x", asks))
	}
	p.forget()
	p.Mark([]shard.Mark{gotIt("bob", codec.KindDirect, name, 2, "ann")})
	p.wantReceipts("ann", "bob has got up to 2")
	p.forget()
	for _, k := range []shard.Mark{
		gotIt("bob", codec.KindDirect, name, 2, "ann"), // another device
		gotIt("bob", codec.KindDirect, name, 1, "ann"),
		gotIt("bob", codec.KindDirect, name, 9, "ann"), // beyond the head
		gotIt("bob", codec.KindDirect, name, 3, "eve"), // not in the pair
		gotIt("eve", codec.KindDirect, name, 3, "ann"), // neither
	} {
		p.Mark([]shard.Mark{k})
		p.wantReceipts("ann")
		p.wantReceipts("eve")
	}
	p.Mark([]shard.Mark{gotIt("bob", codec.KindDirect, name, 4, "ann"), markAt("bob", codec.AckDelivered, codec.KindDirect, name, 4)})
	p.wantReceipts("ann", "bob has got up to 4")
}

func TestReceiptsOfReading(t *testing.T) {
	eachPost(t, func(t *testing.T, open func() (store.Store, error)) {
		p := newPost(t, open)
		name := pairOf("ann", "bob")
		p.send(note("ann", 1, codec.KindDirect, "bob", "1", asks), note("ann", 2, codec.KindDirect, "bob", "2"), note("bob", 1, codec.KindDirect, "ann", "3"))
		p.forget()
		p.Mark([]shard.Mark{markAt("ann", codec.AckRead, codec.KindDirect, name, 3)}) // bob did not ask; ann's other devices hear it
		p.wantReceipts("ann", "ann has read up to 3")
		p.wantReceipts("bob")
		p.forget()
		p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, name, 1)}) // his message 3 has told it
		p.wantReceipts("ann")
		p.wantReceipts("bob")
		p.send(note("ann", 3, codec.KindDirect, "bob", "4", asks), note("ann", 4, codec.KindDirect, "bob", "5"))
		p.forget()
		p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, name, 5)})
		p.wantReceipts("ann", "bob has read up to 5")
		p.wantReceipts("bob", "bob has read up to 5")
		p.forget()
		p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, name, 4)})
		p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, name, 5)})
		p.wantReceipts("ann")
		p.wantReceipts("bob")
	})
}

// Who answers has read what was said before, and who asked hears of it.
func TestAnsweringIsReading(t *testing.T) {
	p := newPost(t, inMemory)
	p.send(note("ann", 1, codec.KindDirect, "bob", "1", asks), note("ann", 2, codec.KindDirect, "bob", "2"))
	p.send(note("bob", 1, codec.KindDirect, "ann", "3"))
	p.wantReceipts("ann", "bob has read up to 3")
	p.forget()
	p.send(note("bob", 2, codec.KindDirect, "ann", "4"))
	p.Mark([]shard.Mark{markAt("bob", codec.AckRead, codec.KindDirect, pairOf("ann", "bob"), 2)})
	p.wantReceipts("ann")
}

func TestReceiptsInGroups(t *testing.T) {
	p := newPost(t, inMemory)
	withGroup(t, p, "team", RoleMember, "bob", "cat", "dan")
	a := p.send(note("ann", 1, codec.KindGroup, "team", "1", asks), note("bob", 1, codec.KindGroup, "team", "2", asks), note("cat", 1, codec.KindGroup, "team", "3"))
	first, last := a[0].Seq, a[2].Seq
	p.forget()
	p.Mark([]shard.Mark{gotIt("dan", codec.KindGroup, "team", first, "ann"), gotIt("dan", codec.KindGroup, "team", first+1, "bob"), gotIt("eve", codec.KindGroup, "team", first, "ann")})
	p.wantReceipts("ann", fmt.Sprintf("dan has got up to %d", first))
	p.wantReceipts("bob", fmt.Sprintf("dan has got up to %d", first+1))
	p.forget()
	p.Mark([]shard.Mark{markAt("dan", codec.AckRead, codec.KindGroup, "team", last), markAt("eve", codec.AckRead, codec.KindGroup, "team", last)})
	read := fmt.Sprintf("dan has read up to %d", last)
	p.wantReceipts("ann", read)
	p.wantReceipts("bob", read)
	p.wantReceipts("dan", read)
	p.wantReceipts("cat")
	p.wantReceipts("eve")

	var many []string
	for i := range receiptMembers {
		many = append(many, fmt.Sprintf("member-%03d", i))
	}
	withGroup(t, p, "many", RoleMember, many...)
	b := p.send(note("ann", 2, codec.KindGroup, "many", "1", asks))
	p.forget()
	p.Mark([]shard.Mark{gotIt(many[0], codec.KindGroup, "many", b[0].Seq, "ann"), markAt(many[0], codec.AckRead, codec.KindGroup, "many", b[0].Seq)})
	p.flushed()
	p.wantConv(many[0], codec.KindGroup, "many", convRecord{Delivered: b[0].Seq, Read: b[0].Seq})
	p.wantReceipts("ann")
	if got := p.receipts(store.Channel{Kind: codec.KindGroup, Name: "many"}, "ann"); len(got) != 0 {
		t.Errorf("%d receipts in a group of %d", len(got), receiptMembers+1)
	}
}

// Of many messages only the last are looked at, and long ones up to a number of bytes.
func TestReceiptsLookAtTheLastMessages(t *testing.T) {
	p := newPost(t, onDisk(t), option(func(o *Options) { o.RecentBytes = 1 }))
	for _, c := range []struct {
		to    string
		asker int // which of the messages asks
		count int
		hears bool
	}{{"bob", 1, receiptSpan, true}, {"cat", 1, receiptSpan + 1, false}, {"dan", receiptSpan, receiptSpan, true}, {"eve", 1, 1, true}} {
		var all []shard.Entry
		for i := 1; i <= c.count; i++ {
			var flags uint8
			if i == c.asker {
				flags = asks
			}
			all = append(all, note("ann/"+c.to, uint64(i), codec.KindDirect, c.to, "x", flags))
		}
		p.send(all...)
		p.forget()
		p.Mark([]shard.Mark{markAt(c.to, codec.AckRead, codec.KindDirect, pairOf("ann/"+c.to, c.to), uint64(c.count))})
		p.wantReceipts(c.to, fmt.Sprintf("%s has read up to %d", c.to, c.count))
		var want []string
		if c.hears {
			want = []string{fmt.Sprintf("%s has read up to %d", c.to, c.count)}
		}
		p.wantReceipts("ann/"+c.to, want...)
	}
}

func TestReceiptsInForce(t *testing.T) {
	p := newPost(t, inMemory)
	name := pairOf("ann", "bob")
	p.send(note("ann", 1, codec.KindDirect, "bob", "1"), note("bob", 1, codec.KindDirect, "ann", "2"), note("ann", 2, codec.KindDirect, "ann", "self"))
	p.Mark([]shard.Mark{markAt("ann", codec.AckDelivered, codec.KindDirect, name, 2), markAt("ann", codec.AckRead, codec.KindDirect, name, 77)})
	force := func(kind codec.Kind, name, reader string) (all []string) {
		for _, x := range p.receipts(store.Channel{Kind: kind, Name: name}, reader) {
			if x.Kind != kind || string(x.Name) != name {
				t.Errorf("a receipt of %v %q", x.Kind, x.Name)
			}
			all = append(all, receiptText(x))
		}
		return all
	}
	p.flushed()
	for _, c := range []struct {
		kind         codec.Kind
		name, reader string
		want         []string
	}{
		{codec.KindDirect, name, "ann", []string{"ann has read up to 1", "bob has read up to 2"}},
		{codec.KindDirect, name, "bob", []string{"ann has got up to 2", "ann has read up to 1", "bob has read up to 2"}},
		{codec.KindDirect, name, "eve", nil},
		{codec.KindDirect, pairOf("ann", "ann"), "ann", []string{"ann has read up to 1"}},
		{codec.KindDirect, "nonsense", "ann", nil},
		{codec.KindGroup, "nowhere", "ann", nil},
		{codec.KindTopic, "news", "ann", nil},
		{codec.KindAll, codec.AllName, "ann", nil},
	} {
		if got := force(c.kind, c.name, c.reader); !slices.Equal(got, c.want) {
			t.Errorf("%v %q for %s: %q, want %q", c.kind, c.name, c.reader, got, c.want)
		}
	}
}

func TestNoticesAreBounded(t *testing.T) {
	l := &Log{opts: Options{Now: func() uint64 { return 1 }}}
	l.pending.init(1, 1)
	for range maxNotices + 5 {
		l.tell("ann", codec.AckRead, store.Channel{Kind: codec.KindTopic, Name: "x"}, 1, "bob")
	}
	if n := len(l.notices.all); n != maxNotices || l.stats.receiptsDropped.Load() != 5 {
		t.Errorf("%d notices wait, %d were dropped", n, l.stats.receiptsDropped.Load())
	}
}
