package server_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/auth"
	"gannet/server/servertest"
)

var secret = []byte("a secret of more than thirty-two bytes, for tests")

// withJWT makes options that ask for tokens signed with secret.
func withJWT(t *testing.T) server.Options {
	t.Helper()
	key := filepath.Join(t.TempDir(), "test.key")
	if err := os.WriteFile(key, append([]byte("text:"), secret...), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWT(auth.JWTConfig{KeyFiles: []string{key}, Leeway: -1})
	if err != nil {
		t.Fatal(err)
	}
	return server.Options{Auth: j, Loops: 2}
}

func token(t *testing.T, g auth.Grant) string {
	t.Helper()
	if g.Expires.IsZero() {
		g.Expires = time.Now().Add(time.Hour)
	}
	s, err := g.Sign(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// loginExpiring is a login whose credential ends: AUTH tells when, behind WELCOME.
func loginExpiring(t *testing.T, addr, user, device, token string) (*servertest.Conn, codec.Welcome, time.Time) {
	t.Helper()
	c := servertest.Dial(t, addr)
	c.Send(servertest.HelloToken(user, device, token))
	w := c.Welcome()
	a := servertest.Expect(c, codec.TypeAuth, codec.ConsumeAuthResult)
	if a.Code != codec.CodeOK {
		t.Fatalf("AUTH %+v behind WELCOME", a)
	}
	return c, w, time.UnixMilli(int64(a.Expires))
}

func TestTokens(t *testing.T) {
	n := servertest.Start(t, withJWT(t))
	c, w, expires := loginExpiring(t, n.Addr(), "alice", "d", token(t, auth.Grant{User: "alice"}))
	if string(w.User) != "alice" || time.Until(expires) > time.Hour || time.Until(expires) < 50*time.Minute {
		t.Errorf("WELCOME %+v, expires %v", w, expires)
	}
	c.Ping()
	if _, w, _ := loginExpiring(t, n.Addr(), "", "d", token(t, auth.Grant{User: "bob"})); string(w.User) != "bob" {
		t.Errorf("WELCOME to %q, want the token's sub", w.User)
	}

	good := token(t, auth.Grant{User: "alice"})
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	payload := parts[1]
	other := auth.Grant{User: "alice", Expires: time.Now().Add(time.Hour)}
	forged, err := other.Sign([]byte(strings.Repeat("another secret ", 4)))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		name, user, token string
		code              codec.Code
	}{
		{"none", "alice", "", codec.CodeUnauthorized},
		{"no token at all", "alice", "let me in", codec.CodeUnauthorized},
		{"expired", "alice", token(t, auth.Grant{User: "alice", Expires: time.Now().Add(-time.Minute)}), codec.CodeExpired},
		{"another user's", "mallory", good, codec.CodeUnauthorized},
		{"alg none", "alice", b64([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + payload + ".", codec.CodeUnauthorized},
		{"alg none with a signature", "alice", b64([]byte(`{"alg":"none"}`)) + "." + payload + "." + parts[2], codec.CodeUnauthorized},
		{"another algorithm", "alice", b64([]byte(`{"alg":"HS512","typ":"JWT"}`)) + "." + payload + "." + parts[2], codec.CodeUnauthorized},
		{"an algorithm of no key", "alice", b64([]byte(`{"alg":"EdDSA","typ":"JWT"}`)) + "." + payload + "." + parts[2], codec.CodeUnauthorized},
		{"no signature", "alice", parts[0] + "." + payload + ".", codec.CodeUnauthorized},
		{"changed payload", "alice", parts[0] + "." + b64([]byte(`{"sub":"alice","exp":9999999999}`)) + "." + parts[2], codec.CodeUnauthorized},
		{"another key", "alice", forged, codec.CodeUnauthorized},
		{"broken UTF-8", "alice", "\xff\xfe.\x00.\x80", codec.CodeUnauthorized},
		{"as long as HELLO allows", "alice", strings.Repeat("x", codec.LoginLimit-100), codec.CodeUnauthorized},
		{"longer than HELLO allows", "alice", strings.Repeat("x", codec.LoginLimit), codec.CodeMalformed},
		{"invalid user", "al\nice", good, codec.CodeMalformed},
	} {
		t.Run(bad.name, func(t *testing.T) {
			c := servertest.Dial(t, n.Addr())
			c.Send(servertest.HelloToken(bad.user, "d2", bad.token))
			b := c.Bye(bad.code)
			if b.Retry != 0 || len(bad.token) > 9 && strings.Contains(string(b.Reason), bad.token) {
				t.Errorf("BYE %+v", b)
			}
		})
	}
	c.Ping()
	m := metricsOf(t, n)
	if m[`gannet_auth_total{result="ok"}`] != 2 || m[`gannet_auth_total{result="refused"}`] < 10 || m[`gannet_panics_total`] != 0 {
		t.Errorf("ok %v, refused %v, panics %v", m[`gannet_auth_total{result="ok"}`], m[`gannet_auth_total{result="refused"}`], m[`gannet_panics_total`])
	}
}

func TestRights(t *testing.T) {
	n := servertest.Start(t, withJWT(t))
	limited, _, _ := loginExpiring(t, n.Addr(), "alice", "d", token(t, auth.Grant{
		User: "alice", Rights: &auth.Rights{Pub: []string{"out", "a.b.*"}, Sub: []string{"in"}},
	}))
	chief, _, _ := loginExpiring(t, n.Addr(), "chief", "d", token(t, auth.Grant{User: "chief", Rights: auth.Everything}))
	for topic, want := range map[string]codec.Code{
		"out": codec.CodeOK, "a.b.c": codec.CodeOK, "a.b": codec.CodeForbidden, "in": codec.CodeForbidden, "outer": codec.CodeForbidden,
	} {
		limited.Send(topicSend(1, topic, "x"))
		if a := limited.SendAck(); a.Code != want {
			t.Errorf("SEND to %q: %v, want %v", topic, a.Code, want)
		}
	}
	for topic, want := range map[string]codec.Code{"in": codec.CodeOK, "out": codec.CodeForbidden, "a.b.c": codec.CodeForbidden} {
		limited.Send(codec.AppendSub(nil, codec.Sub{Req: 1, Kind: codec.KindTopic, Name: []byte(topic)}))
		if a := limited.SubAck(); a.Code != want {
			t.Errorf("SUB to %q: %v, want %v", topic, a.Code, want)
		}
	}
	limited.Send(allSend(2, "x"))
	if a := limited.SendAck(); a.Code != codec.CodeForbidden {
		t.Errorf("broadcast without the right: %v", a.Code)
	}
	limited.Send(codec.AppendState(nil, codec.StateUpdate{Kind: codec.KindAll, Name: []byte("all"), Key: []byte("k"), Payload: []byte("x")}))
	if e := servertest.Expect(limited, codec.TypeErr, codec.ConsumeErr); e.Code != codec.CodeForbidden {
		t.Errorf("STATE to all without the right: %v", e.Code)
	}
	chief.Send(allSend(0, "hear"))
	for _, c := range []*servertest.Conn{limited, chief} {
		if m := c.Msg(); string(m.Payload) != "hear" {
			t.Errorf("MSG %+v", m)
		}
	}
	plain, _, _ := loginExpiring(t, n.Addr(), "plain", "d", token(t, auth.Grant{User: "plain"}))
	plain.Sub("anything")
	plain.Send(allSend(2, "x"))
	if a := plain.SendAck(); a.Code != codec.CodeForbidden {
		t.Errorf("broadcast with the default rights: %v", a.Code)
	}
}

// A credential that ends ends its session, unless a fresh one comes in time; rights are those of the fresh one.
func TestRefreshAndExpiry(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, withJWT(t))
	short := func(d time.Duration) string {
		return token(t, auth.Grant{User: "alice", Expires: time.Now().Add(d), Rights: &auth.Rights{Pub: []string{"*"}}})
	}
	ends, _, _ := loginExpiring(t, n.Addr(), "alice", "ends", short(2*time.Second))
	stays, _, _ := loginExpiring(t, n.Addr(), "alice", "stays", short(2*time.Second))
	refresh := func(c *servertest.Conn, token string) codec.AuthResult {
		t.Helper()
		c.Send(codec.AppendAuthToken(nil, codec.AuthToken{Token: []byte(token)}))
		return servertest.Expect(c, codec.TypeAuth, codec.ConsumeAuthResult)
	}
	for _, bad := range []string{"", "nonsense", token(t, auth.Grant{User: "mallory"}), strings.Repeat("x", 60_000)} {
		if a := refresh(ends, bad); a.Code != codec.CodeUnauthorized || a.Expires != 0 {
			t.Errorf("AUTH with a bad token of %d bytes: %+v, want UNAUTHORIZED", len(bad), a)
		}
	}
	stays.Send(codec.AppendSub(nil, codec.Sub{Req: 1, Kind: codec.KindTopic, Name: []byte("t")}))
	if a := stays.SubAck(); a.Code != codec.CodeForbidden {
		t.Errorf("SUB before the refresh: %v", a.Code)
	}
	if a := refresh(stays, token(t, auth.Grant{User: "alice"})); a.Code != codec.CodeOK || time.Until(time.UnixMilli(int64(a.Expires))) < 50*time.Minute {
		t.Errorf("AUTH %+v", a)
	}
	stays.Sub("t")
	if b := ends.Bye(codec.CodeExpired); b.Retry != 0 {
		t.Errorf("BYE %+v", b)
	}
	stays.Ping()
}

// authFunc is an Authenticator of a test.
type authFunc func(ctx context.Context, r auth.Request) (auth.Identity, error)

func (f authFunc) Authenticate(ctx context.Context, r auth.Request) (auth.Identity, error) {
	return f(ctx, r)
}

func everyone(r auth.Request) (auth.Identity, error) {
	return auth.Identity{User: r.User, Rights: auth.Everything}, nil
}

// What an Authenticator gets wrong costs the login that it is about, never the server, and lets nobody in.
func TestAuthenticatorThatIsWrong(t *testing.T) {
	a := authFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		switch r.Device {
		case "panic":
			panic("a bug")
		case "nil panic":
			var none *auth.Error
			return auth.Identity{}, none
		case "nothing":
			return auth.Identity{}, nil
		case "no rights":
			return auth.Identity{User: r.User}, nil
		case "invalid user":
			return auth.Identity{User: "a\nb", Rights: auth.Everything}, nil
		case "other user":
			return auth.Identity{User: "root", Rights: auth.Everything}, nil
		case "refused with OK":
			return auth.Identity{User: r.User, Rights: auth.Everything}, &auth.Error{Code: codec.CodeOK, Reason: "?"}
		case "refused with BUSY":
			return auth.Identity{}, &auth.Error{Code: codec.CodeBusy}
		case "failed":
			return auth.Identity{}, context.DeadlineExceeded
		case "refused":
			return auth.Identity{}, fmt.Errorf("wrapped: %w", &auth.Error{Code: codec.CodeKicked, Reason: "banned"})
		}
		return everyone(r)
	})
	var log logBuffer
	n := servertest.Start(t, server.Options{Auth: a, AuthWorkers: 1, Logger: log.logger()})
	begun := time.Now()
	for device, want := range map[string]codec.Code{
		"panic": codec.CodeInternal, "nil panic": codec.CodeInternal, "nothing": codec.CodeUnauthorized,
		"no rights": codec.CodeInternal, "invalid user": codec.CodeUnauthorized, "other user": codec.CodeUnauthorized,
		"refused with OK": codec.CodeOverloaded, "refused with BUSY": codec.CodeOverloaded,
		"failed": codec.CodeOverloaded, "refused": codec.CodeKicked,
	} {
		for range 3 { // more often than there are workers
			c := servertest.Dial(t, n.Addr())
			c.Send(servertest.Hello("alice", device))
			c.Bye(want)
		}
	}
	// The same without a claimed user.
	for device, want := range map[string]codec.Code{"nothing": codec.CodeInternal, "invalid user": codec.CodeInternal} {
		c := servertest.Dial(t, n.Addr())
		c.Send(servertest.Hello("", device))
		c.Bye(want)
	}
	servertest.Login(t, n.Addr(), "alice", "good").Ping()
	most := int(time.Since(begun).Seconds()) + 1
	if lines := strings.Count(log.String(), "msg=panic") + strings.Count(log.String(), `msg="panic`); lines < 1 || lines > most {
		t.Errorf("%d lines about 6 panics, want 1 to %d", lines, most)
	}
	if m := metricsOf(t, n); m["gannet_panics_total"] != 6 || m[`gannet_auth_total{result="failed"}`] < 15 || m[`gannet_pool_busy{pool="auth"}`] != 0 {
		t.Errorf("panics %v, failed %v, busy %v", m["gannet_panics_total"], m[`gannet_auth_total{result="failed"}`], m[`gannet_pool_busy{pool="auth"}`])
	}
}

// While the Authenticator hangs, logins wait in a bounded queue for a bounded time; sessions do not notice.
func TestAuthenticatorThatHangs(t *testing.T) {
	var mu sync.Mutex
	hanging := map[string]chan struct{}{}
	release := func(user string) {
		mu.Lock()
		defer mu.Unlock()
		close(hanging[user])
	}
	started := make(chan string, 100)
	a := authFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		if r.Device != "hangs" {
			return everyone(r)
		}
		free := make(chan struct{})
		mu.Lock()
		hanging[r.User] = free
		mu.Unlock()
		started <- r.User
		select {
		case <-free:
			return everyone(r)
		case <-ctx.Done():
			return auth.Identity{}, ctx.Err()
		}
	})
	n := servertest.Start(t, server.Options{
		Auth: a, AuthWorkers: 2, AuthQueue: 3, AuthTimeout: time.Minute, Limits: server.Limits{LoginTimeout: time.Minute},
	})
	live := servertest.Login(t, n.Addr(), "live", "d")
	var waiting []*servertest.Conn
	knock := func(user, device string) *servertest.Conn {
		c := servertest.Dial(t, n.Addr())
		// What comes behind HELLO waits with it.
		c.Send(append(servertest.Hello(user, device), directSend(1, "live", "from "+user)...))
		return c
	}
	for i := range 2 {
		waiting = append(waiting, knock(fmt.Sprint("u", i), "hangs"))
		<-started
	}
	for i := range 3 {
		waiting = append(waiting, knock(fmt.Sprint("q", i), "d"))
		eventually(t, "it waits", func() bool { return metricsOf(t, n)[`gannet_pool_waiting{pool="auth"}`] == float64(i+1) })
	}
	if busy := metricsOf(t, n)[`gannet_pool_busy{pool="auth"}`]; busy != 2 {
		t.Errorf("%v workers busy, want 2", busy)
	}
	full := knock("one-too-many", "d")
	if b := full.Bye(codec.CodeOverloaded); b.Retry != 1 {
		t.Errorf("BYE %+v, want to come back", b)
	}
	live.Ping()
	// A live session whose AUTH finds the queue full is told BUSY and lives.
	live.Send(codec.AppendAuthToken(nil, codec.AuthToken{Token: []byte("x")}))
	if a := servertest.Expect(live, codec.TypeAuth, codec.ConsumeAuthResult); a.Code != codec.CodeBusy {
		t.Errorf("AUTH %+v, want BUSY", a)
	}
	waiting[4].Close() // who leaves while its login waits is forgotten
	eventually(t, "who left is gone", func() bool { return n.Stats().Connections == 5 })
	release("u0")
	for _, i := range []int{0, 2, 3} {
		waiting[i].Welcome()
		if a := waiting[i].SendAck(); a.Code != codec.CodeOK {
			t.Errorf("SENDACK %+v", a)
		}
	}
	for range 3 {
		live.Msg()
	}
	live.Ping()
	release("u1")
	waiting[1].Welcome()
	if full := metricsOf(t, n)[`gannet_auth_total{result="queue_full"}`]; full != 2 {
		t.Errorf("queue_full counted %v, want 2", full)
	}
	if sessions := n.Stats().Sessions; sessions > 5 {
		t.Errorf("%d sessions", sessions)
	}
}

// An Authenticator that does not answer in time is as good as none: OVERLOADED, and the worker is free again.
func TestAuthTimeout(t *testing.T) {
	a := authFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		if r.Device == "hangs" {
			<-ctx.Done()
			return auth.Identity{}, ctx.Err()
		}
		return everyone(r)
	})
	n := servertest.Start(t, server.Options{Auth: a, AuthWorkers: 1, AuthTimeout: 100 * time.Millisecond})
	for range 3 {
		c := servertest.Dial(t, n.Addr())
		c.Send(servertest.Hello("alice", "hangs"))
		c.Bye(codec.CodeOverloaded)
	}
	servertest.Login(t, n.Addr(), "alice", "d").Ping()
}

// One that ignores its context holds a worker, but not the peer: the login times out. The server ends all the same.
func TestAuthenticatorThatIgnoresItsContext(t *testing.T) {
	free := make(chan struct{})
	ended := make(chan struct{})
	a := authFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		defer close(ended)
		<-free
		return everyone(r)
	})
	n := servertest.Start(t, server.Options{Auth: a, AuthWorkers: 1, Limits: server.Limits{LoginTimeout: 200 * time.Millisecond}})
	c := servertest.Dial(t, n.Addr())
	c.Send(servertest.Hello("alice", "d"))
	c.Bye(codec.CodeOverloaded)
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
	close(free)
	<-ended
}

// AUTH may be longer than HELLO; a token that no HELLO could hold is not kept while it waits to be judged.
func TestLongTokenIsNotJudged(t *testing.T) {
	longest := make(chan int, 10)
	a := authFunc(func(_ context.Context, r auth.Request) (auth.Identity, error) {
		longest <- len(r.Token)
		return everyone(r)
	})
	n := servertest.Start(t, server.Options{Auth: a})
	c := servertest.Login(t, n.Addr(), "alice", "d")
	for _, try := range []struct {
		length int
		code   codec.Code
	}{{60_000, codec.CodeUnauthorized}, {auth.MaxToken + 1, codec.CodeUnauthorized}, {auth.MaxToken, codec.CodeOK}} {
		c.Send(codec.AppendAuthToken(nil, codec.AuthToken{Token: make([]byte, try.length)}))
		if r := servertest.Expect(c, codec.TypeAuth, codec.ConsumeAuthResult); r.Code != try.code {
			t.Errorf("a token of %d bytes: AUTH %v, want %v", try.length, r.Code, try.code)
		}
	}
	for _, want := range []int{0, auth.MaxToken} {
		if got := <-longest; got != want {
			t.Errorf("judged %d bytes, want %d", got, want)
		}
	}
}

// Too much behind a HELLO that is being judged is not kept.
func TestMuchBehindHello(t *testing.T) {
	started := make(chan struct{})
	a := authFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) {
		close(started)
		<-ctx.Done()
		return auth.Identity{}, ctx.Err()
	})
	n := servertest.Start(t, server.Options{Auth: a})
	c := servertest.Dial(t, n.Addr())
	c.Send(servertest.Hello("alice", "d"))
	<-started
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = c.Write(make([]byte, 1<<20))
	}()
	c.Bye(codec.CodeMalformed)
	c.Close()
	<-written
	allGone(t, n)
}

// Many logins at once through few workers: every one is judged, none is forgotten.
func TestManyLoginsAtOnce(t *testing.T) {
	a := authFunc(func(ctx context.Context, r auth.Request) (auth.Identity, error) { return everyone(r) })
	n := servertest.Start(t, server.Options{Auth: a, Loops: 2, AuthWorkers: 1})
	for round := range 20 {
		var conns []*servertest.Conn
		for i := range 40 {
			c := servertest.Dial(t, n.Addr())
			c.Send(servertest.Hello(fmt.Sprint("u", i), fmt.Sprint("d", round)))
			conns = append(conns, c)
		}
		for _, c := range conns {
			c.Welcome()
			c.Close()
		}
	}
	allGone(t, n)
}

func tokenFor(t *testing.T, user string) string { return token(t, auth.Grant{User: user}) }
