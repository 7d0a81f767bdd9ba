package shard

import (
	"fmt"
	"testing"
	"time"

	"gannet/codec"
)

func TestPipelinedSubsWaitForTheVerdict(t *testing.T) {
	w := newWorld(t, 2, judged)
	defer w.end()
	c := w.open(0)
	c.send(hello("anna", "d", "t1"), sub(1, codec.KindTopic, "t2"), sub(2, codec.KindTopic, "t3"))
	c.send(toTopic("t3", "hi"), unsub(3, codec.KindTopic, "t1"), ping()[:2])
	w.run()
	c.want()
	if r := w.host.asked[0]; r.User != "anna" || r.Device != "d" || r.Refresh || r.Remote != fakeRemote {
		t.Errorf("asked %+v", r)
	}
	w.answer(AuthAnswer{})
	c.want("WELCOME anna 60s 0", "SUBACK 1 OK", "SUBACK 2 OK", "SUBACK 3 OK", "MSG topic t3 anna: hi")
	c.ask(ping()[2:])
	c.want("PONG")
}

func TestUserComesFromTheToken(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.open(0)
	c.ask(codec.AppendHello(nil, codec.Hello{Version: 1, Device: []byte("d"), Token: []byte("secret")}))
	if r := w.host.asked[0]; r.User != "" || string(r.Token) != "secret" {
		t.Errorf("asked %+v", r)
	}
	w.answer(AuthAnswer{User: "sub-of-token"})
	c.want("WELCOME sub-of-token 60s")
	o := w.login1(AuthAnswer{}, "bob", "d")
	o.ask(toUser("sub-of-token", "hi"))
	c.want("MSG direct bob+sub-of-token bob: hi")
}

// login1 logs in on shard 0 with the given verdict.
func (w *world) login1(a AuthAnswer, user, device string) *client {
	w.t.Helper()
	c := w.open(0)
	c.user = user
	c.ask(hello(user, device))
	w.answer(a)
	want := []string{"WELCOME " + user + " 60s"}
	if !a.Expires.IsZero() {
		want = append(want, fmt.Sprint("AUTH OK ", a.Expires.UnixMilli()))
	}
	c.want(want...)
	return c
}

func TestRefusedCredential(t *testing.T) {
	for _, code := range []codec.Code{codec.CodeUnauthorized, codec.CodeExpired, codec.CodeOverloaded, codec.CodeInternal} {
		t.Run(code.String(), func(t *testing.T) {
			w := newWorld(t, 1, judged)
			defer w.end()
			c := w.open(0)
			c.send(hello("anna", "d"), sub(1, codec.KindTopic, "t"))
			w.answer(AuthAnswer{Code: code, Reason: "no"})
			c.wantBye(code)
			if w.node.Online() != 0 || w.stats().Byes[code] != 1 {
				t.Errorf("%d online, %d byes", w.node.Online(), w.stats().Byes[code])
			}
		})
	}
}

func TestTooManyLoginsAtOnce(t *testing.T) {
	t.Run("the host has no place", func(t *testing.T) {
		w := newWorld(t, 1, judged)
		defer w.end()
		w.host.full = true
		c := w.open(0)
		c.ask(hello("anna", "d"))
		c.want("BYE OVERLOADED 2000..30000")
	})
	t.Run("the inbox has no place for the answer", func(t *testing.T) {
		w := newWorld(t, 1, judged, func(c *Config) { c.InboxCapacity = 16 })
		defer w.end()
		for i := range 16 {
			w.open(0).ask(hello("anna", fmt.Sprint(i)))
		}
		c := w.open(0)
		c.ask(hello("anna", "d"))
		c.want("BYE OVERLOADED 2000..30000")
		for range 16 {
			w.answer(AuthAnswer{})
		}
		w.open(0).ask(hello("anna", "e"))
		if len(w.host.asked) != 1 {
			t.Error("no place after all were answered")
		}
	})
}

func TestTooMuchBehindAHello(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.open(0)
	c.ask(hello("anna", "d"))
	c.ask(make([]byte, loginBacklog/2))
	c.want()
	c.ask(make([]byte, loginBacklog/2))
	c.wantBye(codec.CodeMalformed)
	w.answer(AuthAnswer{}) // comes too late for it
	c.want()
}

func TestVerdictForWhoIsGone(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.open(0)
	c.ask(hello("anna", "d"))
	c.disconnect()
	next := w.open(0) // in the same place
	next.ask(hello("bob", "d"))
	w.answer(AuthAnswer{User: "anna"})
	next.want()
	w.answer(AuthAnswer{})
	next.want("WELCOME bob 60s")
}

func TestVerdictTakesTooLong(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.open(0)
	w.pass(4 * time.Second)
	c.ask(hello("anna", "d"))
	w.pass(4 * time.Second) // the time begins anew with HELLO
	c.want()
	w.pass(1100 * time.Millisecond)
	c.want("BYE OVERLOADED 2000..30000")
}

func token(s string) []byte { return codec.AppendAuthToken(nil, codec.AuthToken{Token: []byte(s)}) }

func TestRefresh(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.login1(AuthAnswer{Expires: w.at(time.Minute), Rights: &testRights{pub: "a", sub: "*"}}, "anna", "d")
	c.ask(token("fresh"), toTopic("b", "no"), ping())
	c.want("PONG") // requests go on while the credential is judged
	w.wantDrops(DropForbidden, 1)
	if r := w.host.asked[0]; !r.Refresh || r.User != "anna" || r.Device != "d" || string(r.Token) != "fresh" {
		t.Errorf("asked %+v", r)
	}
	c.ask(token("another"))
	c.want("AUTH BUSY 0")
	until := w.at(time.Hour)
	w.answer(AuthAnswer{Expires: until, Rights: &testRights{pub: "b", sub: "*"}})
	c.want(fmt.Sprint("AUTH OK ", until.UnixMilli()))
	c.ask(message(1, codec.KindTopic, "a", ""), message(2, codec.KindTopic, "b", ""))
	c.want("SENDACK 1 FORBIDDEN", "SENDACK 2 OK")
	w.passWith(2*time.Minute, c)
	// One that never expires.
	c.ask(token("forever"))
	w.answer(AuthAnswer{})
	c.want("AUTH OK 0")
	if c.session.expires != 0 {
		t.Error("it still expires")
	}
}

func TestFailedRefreshLeavesTheOldCredential(t *testing.T) {
	for name, verdict := range map[string]AuthAnswer{
		"refused":          {Code: codec.CodeUnauthorized},
		"expired":          {Code: codec.CodeExpired},
		"of somebody else": {User: "bob"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, judged)
			defer w.end()
			c := w.login1(AuthAnswer{Expires: w.at(20 * time.Second)}, "anna", "d")
			w.pass(5 * time.Second)
			c.ask(token("bad"))
			verdict.Expires = w.at(time.Hour)
			w.answer(verdict)
			c.want("AUTH UNAUTHORIZED 0")
			w.pass(14 * time.Second)
			c.alive()
			w.pass(1200 * time.Millisecond)
			c.want("BYE EXPIRED")
		})
	}
}

func TestRefreshThatCannotBeJudgedNow(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	c := w.login1(AuthAnswer{}, "anna", "d")
	c.ask(token("t"))
	w.answer(AuthAnswer{Code: codec.CodeOverloaded})
	c.want("AUTH BUSY 0") // come again; 2xx would say that the connection ends
	w.host.full = true
	c.ask(token("t"))
	c.want("AUTH BUSY 0")
	c.alive()
}

func TestRefreshWithoutJudgement(t *testing.T) {
	w := newWorld(t, 1)
	defer w.end()
	c := w.login(0, "anna", "d")
	c.ask(token("whatever"))
	c.want("AUTH OK 0")
}

func TestExpiry(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   time.Duration
		expires func(w *world) time.Time
	}{
		{"in the past", 0, func(w *world) time.Time { return w.at(-time.Hour) }},
		{"soon", 30 * time.Second, func(w *world) time.Time { return w.at(30 * time.Second) }},
		{"in the year 9999", -1, func(w *world) time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }},
		{"in the year 2500", -1, func(w *world) time.Time { return time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1, judged)
			defer w.end()
			cl := w.login1(AuthAnswer{Expires: c.expires(w)}, "anna", "d")
			if c.after < 0 {
				w.passWith(5*time.Minute, cl)
				return
			}
			for left := c.after; left >= time.Second; left -= time.Second {
				cl.alive()
				w.pass(time.Second)
			}
			w.pass(1200 * time.Millisecond)
			cl.wantBye(codec.CodeExpired)
		})
	}
}

func TestRightsAreShared(t *testing.T) {
	w := newWorld(t, 1, judged)
	defer w.end()
	sh := w.node.Shard(0)
	a := w.login1(AuthAnswer{Rights: &testRights{pub: "x"}}, "a", "d")
	b := w.login1(AuthAnswer{Rights: &testRights{pub: "y"}}, "b", "d")
	c := w.login1(AuthAnswer{Rights: &testRights{pub: "x"}}, "c", "d")
	if a.session.rights != c.session.rights || a.session.rights == b.session.rights || len(sh.rights) != 2 {
		t.Errorf("rights %d %d %d of %d", a.session.rights, b.session.rights, c.session.rights, len(sh.rights))
	}
	a.disconnect()
	c.disconnect()
	w.check()
	d := w.login1(AuthAnswer{Rights: &testRights{pub: "z"}}, "d", "d")
	if len(sh.rights) != 2 || len(sh.rightsBy) != 2 {
		t.Errorf("%d entries, %d keys", len(sh.rights), len(sh.rightsBy))
	}
	d.ask(message(1, codec.KindTopic, "x", ""), message(2, codec.KindTopic, "z", ""))
	d.want("SENDACK 1 FORBIDDEN", "SENDACK 2 OK")
}
