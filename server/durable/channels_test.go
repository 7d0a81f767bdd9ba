package durable

import (
	"fmt"
	"testing"

	"gannet/codec"
	"gannet/store"
)

// What channels hold on to of groups is bounded; nothing is lost by letting go of it.
func TestHeldMembersAreBounded(t *testing.T) {
	p := newPost(t, inMemory)
	withGroup(t, p, "team", RoleMember, "bob")
	for n := range uint64(3) {
		if err := p.do(t.Context(), func(c *committer) error { c.members = maxHeldMembers - 1; return nil }); err != nil {
			t.Fatal(err)
		}
		wantCodes(t, p.send(note("bob", n+1, codec.KindGroup, "team", fmt.Sprint(n))), 0)
		if err := p.do(t.Context(), func(c *committer) error {
			if c.members != 0 || len(c.channels.young)+len(c.channels.old) != 0 {
				return fmt.Errorf("%d members in %d channels", c.members, len(c.channels.young))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	p.wantTexts("ann", "0", "1", "2")
}

func TestChannelStatesAreBounded(t *testing.T) {
	var cs channels
	cs.init(10)
	for i := range 1000 {
		ch := &channel{id: store.Channel{Kind: codec.KindTopic, Name: fmt.Sprint(i)}}
		ch.key = convKey(ch.id.Kind, ch.id.Name)
		cs.young[ch.key] = ch
		if cs.get(codec.KindTopic, []byte("0")) == nil {
			t.Fatalf("a channel that is used all the time was forgotten at step %d", i)
		}
		if cs.get(codec.KindTopic, []byte(ch.id.Name)) != ch || cs.get(codec.KindAll, []byte(ch.id.Name)) != nil {
			t.Fatal("another channel was found")
		}
		if cs.age(); len(cs.young)+len(cs.old) > 13 {
			t.Fatalf("%d and %d states", len(cs.young), len(cs.old))
		}
	}
}
