package auth

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"*", []string{"a", "a.b", "*"}, nil},
		{"a.b", []string{"a.b"}, []string{"a", "a.b.c", "a.bc", "xa.b", "A.b", ""}},
		{"a.b.*", []string{"a.b.c", "a.b.c.d", "a.b."}, []string{"a.b", "a.bc", "a", "", "xa.b.c"}},
		{"ä.*", []string{"ä.ö"}, []string{"a.ö"}},
	} {
		r := &Rights{Pub: []string{"none", c.pattern}, Sub: []string{c.pattern, "none"}}
		none := &Rights{All: true}
		check := func(topic string, want bool) {
			if got := r.MayPublish([]byte(topic)); got != want {
				t.Errorf("%q: MayPublish(%q) = %v", c.pattern, topic, got)
			}
			if got := r.MaySubscribe([]byte(topic)); got != want {
				t.Errorf("%q: MaySubscribe(%q) = %v", c.pattern, topic, got)
			}
			if none.MayPublish([]byte(topic)) || none.MaySubscribe([]byte(topic)) {
				t.Errorf("without patterns %q is allowed", topic)
			}
		}
		for _, topic := range c.yes {
			check(topic, true)
		}
		for _, topic := range c.no {
			check(topic, false)
		}
	}
}

func TestPublishAndSubscribeAreApart(t *testing.T) {
	r := &Rights{Pub: []string{"out"}, Sub: []string{"in"}}
	if r.MayPublish([]byte("in")) || r.MaySubscribe([]byte("out")) || r.MayBroadcast() {
		t.Error("a right of one kind gave one of another")
	}
	if !Everything.MayBroadcast() || AllTopics.MayBroadcast() {
		t.Error("the right to broadcast is wrong")
	}
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", MaxPattern)
	for pattern, good := range map[string]bool{
		"a": true, "*": true, "a.*": true, "a.b.*": true, ".*": true, "ä": true, long: true, long[:62] + ".*": true,
		"": false, "a*": false, "*a": false, "*.a": false, "a.*.b": false, "**": false, "*.*": false, "a.**": false,
		"a\nb": false, "\xff": false, long + "a": false, long[:63] + ".*": false,
	} {
		for _, r := range []*Rights{{Pub: []string{"ok", pattern}}, {Sub: []string{"ok", pattern}}} {
			if err := r.Validate(); (err == nil) != good {
				t.Errorf("pattern %q: %v", pattern, err)
			}
		}
	}
	many := manyPatterns(MaxPatterns + 1)
	if (&Rights{Pub: many}).Validate() == nil || (&Rights{Sub: many}).Validate() == nil {
		t.Error("too many patterns are valid")
	}
	if err := (&Rights{Pub: many[1:], Sub: many[1:]}).Validate(); err != nil {
		t.Errorf("%d patterns: %v", MaxPatterns, err)
	}
}

func TestKey(t *testing.T) {
	type list = []string
	for _, c := range []struct {
		name  string
		a, b  Rights
		equal bool
	}{
		{"order", Rights{Pub: list{"a", "b"}}, Rights{Pub: list{"b", "a"}}, true},
		{"repetition", Rights{Pub: list{"a"}}, Rights{Pub: list{"a", "a"}}, true},
		{"covered by all", Rights{Sub: list{"*"}}, Rights{Sub: list{"x", "*", "a.*"}}, true},
		{"covered by a prefix", Rights{Sub: list{"a.*"}}, Rights{Sub: list{"a.b.*", "a.*", "a.!"}}, true},
		{"nil and empty", Rights{}, Rights{Pub: list{}, Sub: list{}}, true},
		{"other pattern", Rights{Pub: list{"a"}}, Rights{Pub: list{"b"}}, false},
		{"pub and sub", Rights{Pub: list{"a"}}, Rights{Sub: list{"a"}}, false},
		{"broadcast", Rights{}, Rights{All: true}, false},
		{"broadcast and a topic of that name", Rights{Sub: list{"all"}}, Rights{All: true}, false},
		{"prefix and name", Rights{Pub: list{"a.*"}}, Rights{Pub: list{"a"}}, false},
		{"quotes", Rights{Pub: list{`a" "b`}}, Rights{Pub: list{"a", "b"}}, false},
	} {
		if got := c.a.Key() == c.b.Key(); got != c.equal {
			t.Errorf("%s: %s and %s", c.name, c.a.Key(), c.b.Key())
		}
	}
	r := Rights{Pub: list{"b", "a"}}
	if r.Key(); r.Pub[0] != "b" {
		t.Error("Key changed the rights")
	}
}

// Equal keys mean that the same topics are allowed.
func TestKeySpeaksForTheRights(t *testing.T) {
	pattern := rapid.SampledFrom([]string{"*", "a", "b", "a.*", "a.b", "a.b.*", "a.c", "b.*"})
	topic := rapid.SampledFrom([]string{"a", "b", "a.", "a.b", "a.b.c", "a.c", "b.x", "c"})
	rapid.Check(t, func(t *rapid.T) {
		a := Rights{Pub: rapid.SliceOfN(pattern, 0, 3).Draw(t, "a")}
		b := Rights{Pub: rapid.SliceOfN(pattern, 0, 3).Draw(t, "b")}
		name := topic.Draw(t, "topic")
		if a.Key() == b.Key() && a.MayPublish([]byte(name)) != b.MayPublish([]byte(name)) {
			t.Fatalf("%s and %s differ at %q", a.Key(), b.Key(), name)
		}
	})
}

func TestChecksDoNotAllocate(t *testing.T) {
	r := &Rights{Pub: append(manyPatterns(63), "a.b.c"), Sub: []string{"x", "a.*"}}
	topic := []byte("a.b.c")
	if n := testing.AllocsPerRun(100, func() {
		if !r.MayPublish(topic) || !r.MaySubscribe(topic) || r.MayBroadcast() {
			t.Error("wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMayPublish(b *testing.B) {
	topic := []byte("sensors.hall-7.temperature")
	for name, r := range map[string]*Rights{
		"everything": Everything,
		"last of 64": {Pub: append(manyPatterns(63), "sensors.*")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.MayPublish(topic)
			}
		})
	}
}
