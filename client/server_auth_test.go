package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/auth"
	"gannet/server/servertest"
)

var jwtKey = []byte("a secret of 32 bytes or more than that")

// jwtServer runs a server that wants tokens signed by jwtKey and refuses them as soon as they expire.
func jwtServer(t *testing.T) *servertest.Node {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dev.key")
	if err := os.WriteFile(file, append([]byte("text:"), jwtKey...), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWT(auth.JWTConfig{KeyFiles: []string{file}, Leeway: -1})
	if err != nil {
		t.Fatal(err)
	}
	return servertest.Start(t, server.Options{Auth: j})
}

// grant is a token for alice that is good for d; rights nil: the server's default.
func grant(t *testing.T, d time.Duration, rights *auth.Rights) string {
	t.Helper()
	token, err := auth.Grant{User: "alice", Rights: rights, Expires: time.Now().Add(d)}.Sign(jwtKey)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestServerToken(t *testing.T) {
	t.Parallel()
	n := jwtServer(t)
	a := start(t, n.Addr(), Options{StaticToken: grant(t, time.Hour, nil)})
	if w := a.welcome(); w.User != "alice" {
		t.Errorf("welcomed as %q, want the token's subject", w.User)
	}
	b := connect(t, n.Addr(), Options{User: "alice", StaticToken: grant(t, time.Hour, &auth.Rights{Pub: []string{"chat.*"}, Sub: []string{"news"}})})
	a.subscribes("chat.lobby")
	b.says(Topic("chat.lobby"), "hi")
	a.hears("hi")

	b.subscribes("news")
	_, err := b.Send(t.Context(), Text(Topic("news"), "no right to publish"))
	wantCode(t, err, codec.CodeForbidden)
	_, err = b.Send(t.Context(), Text(All(), "no right to broadcast"))
	wantCode(t, err, codec.CodeForbidden)
	wantCode(t, b.Subscribe(t.Context(), "chat.lobby"), codec.CodeForbidden)
	if err := b.SetState(t.Context(), Topic("news"), "presence", 0, []byte("here")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, take(t, "error", b.errs), codec.CodeForbidden)
	b.remains()

	// Without a connection the refusal comes later: of HELLO by WELCOME, of a filter by SUBACK.
	c := start(t, n.Addr(), Options{StaticToken: grant(t, time.Hour, &auth.Rights{})}, "in-hello")
	var lost *SubscriptionError
	if err := take(t, "error", c.errs); !errors.As(err, &lost) || lost.Topic != "in-hello" {
		t.Errorf("got %v, want the subscription that is lost", err)
	}
}

// A wrong token ends Run; with a Token function it is tried once more, since the token could have been stale.
func TestServerWrongToken(t *testing.T) {
	t.Parallel()
	n := jwtServer(t)
	other, err := auth.Grant{User: "alice", Expires: time.Now().Add(time.Hour)}.Sign([]byte(strings.Repeat("another key ", 4)))
	if err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]Options{
		"none":         {User: "alice"},
		"nonsense":     {User: "alice", StaticToken: "nonsense"},
		"another key":  {User: "alice", StaticToken: other},
		"another user": {User: "bob", StaticToken: grant(t, time.Hour, nil)},
	} {
		bye := start(t, n.Addr(), opt).ends(codec.CodeUnauthorized)
		if !bye.Final() || bye.Reason == "" {
			t.Errorf("%s: %+v, want a reason", name, bye)
		}
	}
	var calls atomic.Int32
	a := start(t, n.Addr(), Options{User: "alice", Token: func(context.Context) (string, error) {
		calls.Add(1)
		return other, nil
	}})
	a.ends(codec.CodeUnauthorized)
	if got := calls.Load(); got != 2 {
		t.Errorf("%d tokens were asked for, want two", got)
	}
}

func TestServerExpiredToken(t *testing.T) {
	t.Parallel()
	n := jwtServer(t)
	stale := grant(t, -time.Minute, nil)
	start(t, n.Addr(), Options{User: "alice", StaticToken: stale}).ends(codec.CodeExpired)

	var calls atomic.Int32
	a := connect(t, n.Addr(), Options{User: "alice", Token: func(context.Context) (string, error) {
		if calls.Add(1) == 1 {
			return stale, nil // of a cache, say
		}
		return grant(t, time.Hour, nil), nil
	}})
	if r := take(t, "retry", a.retries); !strings.Contains(r.Err.Error(), "EXPIRED") {
		t.Errorf("the first try failed with %v", r.Err)
	}
	a.remains()
	if got := calls.Load(); got != 2 {
		t.Errorf("%d tokens were asked for, want two", got)
	}

	// One that nobody renews ends the connection when it expires.
	b := connect(t, n.Addr(), Options{User: "alice", StaticToken: grant(t, 2*time.Second, nil)})
	b.ends(codec.CodeExpired)
}

// Short-lived tokens: fresh ones go out by AUTH in time, so that the connection outlives several of them.
func TestServerRefresh(t *testing.T) {
	t.Parallel()
	n := jwtServer(t)
	issued := make(chan time.Time, 64)
	a := connect(t, n.Addr(), Options{Token: func(context.Context) (string, error) {
		issued <- time.Now()
		return grant(t, 3*time.Second, nil), nil
	}})
	first := take(t, "token", issued)
	last := first
	for range 3 {
		next := take(t, "token", issued)
		if d := next.Sub(last); d < 900*time.Millisecond || d > 2900*time.Millisecond {
			t.Errorf("a fresh token after %v, want it at 80 %% of what remains of 3 s", d)
		}
		last = next
	}
	if d := last.Sub(first); d < 3*time.Second {
		t.Errorf("%v passed, and that is no longer than a token lives", d)
	}
	a.remains()
}

// A refresh that fails is told and tried again while the old token is good.
func TestServerRefreshRefused(t *testing.T) {
	t.Parallel()
	n := jwtServer(t)
	var calls atomic.Int32
	good := make(chan bool, 64)
	a := connect(t, n.Addr(), Options{Token: func(context.Context) (string, error) {
		if calls.Add(1) == 2 {
			return "nonsense", nil
		}
		good <- true
		return grant(t, 8*time.Second, nil), nil
	}})
	take(t, "token", good)
	err := take(t, "error", a.errs)
	wantCode(t, err, codec.CodeUnauthorized)
	take(t, "token after the refused one", good)
	a.remains()
}

// lease is an Authenticator with opaque tokens: their life in milliseconds. The client cannot read it and learns the
// expiry from the AUTH behind WELCOME alone.
type lease struct{ checked chan string }

func (l lease) Authenticate(_ context.Context, r auth.Request) (auth.Identity, error) {
	ms, err := strconv.Atoi(string(r.Token))
	if err != nil {
		return auth.Identity{}, fmt.Errorf("token %q: %w", r.Token, err)
	}
	l.checked <- string(r.Token)
	return auth.Identity{User: r.User, Rights: auth.Everything, Expires: time.Now().Add(time.Duration(ms) * time.Millisecond)}, nil
}

func TestServerTellsTheExpiry(t *testing.T) {
	t.Parallel()
	l := lease{make(chan string, 64)}
	n := servertest.Start(t, server.Options{Auth: l})
	a := connect(t, n.Addr(), Options{User: "alice", Token: func(context.Context) (string, error) { return "2500", nil }})
	begun := time.Now()
	for range 3 { // the login and two refreshes
		take(t, "token", l.checked)
	}
	if d := time.Since(begun); d < 2500*time.Millisecond {
		t.Errorf("two refreshes within %v of leases of 2.5 s", d)
	}
	a.remains()
}
