package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/auth"
	"gannet/server/servertest"
)

// against is a small run against a real server.
func against(n *servertest.Node, s Scenario) Options {
	return Options{
		Scenario: s, Addr: n.Addr(), Conns: 20, Rate: 500, Acks: true, Loops: 2, For: 300 * time.Millisecond,
		Warmup: 100 * time.Millisecond, LoginTimeout: servertest.Patience, Drain: servertest.Patience,
	}
}

// withTokens starts a server that wants tokens, and returns what makes them.
func withTokens(t *testing.T) (*servertest.Node, func(user string) string) {
	t.Helper()
	key := []byte("a secret of 32 bytes or more than that")
	file := filepath.Join(t.TempDir(), "dev.key")
	if err := os.WriteFile(file, append([]byte("text:"), key...), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWT(auth.JWTConfig{KeyFiles: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	return servertest.Start(t, server.Options{Auth: j}), func(user string) string {
		token, err := auth.Grant{User: user, Rights: auth.Everything, Expires: time.Now().Add(time.Hour)}.Sign(key)
		if err != nil {
			t.Error(err)
		}
		return token
	}
}

// wantClean wants a run without anything that should not have been. late sends are the machine's affair.
func wantClean(t *testing.T, r *Report, conns, perMessage int64) {
	t.Helper()
	if r.Traffic.Sent == 0 && perMessage > 0 || r.Traffic.Sent+r.Traffic.UnsentBehind != r.Traffic.Intended {
		t.Errorf("sent %d and %d not got to, of %d", r.Traffic.Sent, r.Traffic.UnsentBehind, r.Traffic.Intended)
	}
	sent := float64(r.Traffic.Sent)
	wantCounts(t, r, map[string]float64{
		"acked": sent, "expected": sent * float64(perMessage), "received": sent * float64(perMessage), "lost": 0, "duplicated": 0,
		"reordered": 0, "foreign": 0, "unanswered": 0, "connections": float64(conns), "logins": float64(conns), "failed": 0,
		"dropped": 0, "refused": 0, "byes": 0, "closed": 0, "connect_errors": 0, "malformed": 0,
	})
	if r.Interrupted {
		t.Error("it says that it was interrupted")
	}
}

// Every scenario, with open logins and with tokens.
func TestServerScenarios(t *testing.T) {
	tokens, token := withTokens(t)
	open := servertest.Start(t, server.Options{})
	for _, s := range []struct {
		name              string
		scenario          Scenario
		change            func(o *Options)
		conns, perMessage int64
	}{
		{"conn", ScenarioConn, func(o *Options) { o.Heartbeat = 15 * time.Second }, 20, 0},
		{"conn with a topic", ScenarioConn, func(o *Options) { o.Topics = []string{"idle"} }, 20, 0},
		{"p2p", ScenarioP2P, func(o *Options) {}, 20, 1},
		{"p2p large", ScenarioP2P, func(o *Options) { o.Size, o.Rate = 60_000, 50 }, 20, 1},
		{"broadcast", ScenarioBroadcast, func(o *Options) { o.Rate = 100 }, 21, 20},
		{"broadcast to 4 topics", ScenarioBroadcast, func(o *Options) {
			o.Topics, o.Publishers = []string{"a", "b", "c", "d"}, 8
		}, 28, 5},
		{"broadcast to all", ScenarioBroadcast, func(o *Options) { o.All, o.Publishers, o.Rate = true, 2, 100 }, 22, 20},
	} {
		for _, n := range []*servertest.Node{open, tokens} {
			name, o := s.name, against(n, s.scenario)
			if n == tokens {
				name, o.Token = name+", tokens", token
			}
			t.Run(name, func(t *testing.T) {
				s.change(&o)
				r := must(t, o)
				wantClean(t, &r, s.conns, s.perMessage)
				want := s.conns
				if got := r.Latency["login"].Count; got != want {
					t.Errorf("%d login latencies, want %d", got, want)
				}
				if got := r.Latency["delivery"].Count; got != r.Traffic.Sent*s.perMessage {
					t.Errorf("%d delivery latencies, want %d", got, r.Traffic.Sent*s.perMessage)
				}
				waitForNobody(t, n)
			})
		}
	}
}

// waitForNobody waits until the server has seen the last of a run, so that the next one displaces nobody.
func waitForNobody(t *testing.T, n *servertest.Node) {
	t.Helper()
	for deadline := time.Now().Add(servertest.Patience); n.Stats().Connections != 0; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server still has connections")
		}
	}
}

// Without a token, or without the right to broadcast, the report or the error says so.
func TestServerRefuses(t *testing.T) {
	n, _ := withTokens(t)
	_, err := Run(t.Context(), against(n, ScenarioConn), nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != codec.CodeUnauthorized || refused.Reason != "a token is required" {
		t.Errorf("without a token: %v", err)
	}
	key := []byte("a secret of 32 bytes or more than that")
	o := against(n, ScenarioBroadcast)
	o.All, o.Rate = true, 100
	o.Token = func(user string) string {
		token, _ := auth.Grant{User: user, Expires: time.Now().Add(time.Hour)}.Sign(key)
		return token
	}
	r := must(t, o)
	sent := float64(r.Traffic.Sent)
	wantCounts(t, &r, map[string]float64{"refused": sent, "acked": 0, "expected": 0, "received": 0, "lost": 0, "unanswered": 0})
	if got := r.Errors.Refused[codeName(codec.CodeForbidden)]; sent == 0 || float64(got) != sent {
		t.Errorf("%v were refused as FORBIDDEN, want all of %v", got, sent)
	}
}

// The server stops in the middle: the run ends by itself soon, and the report says who was cut off and what could not be sent.
func TestServerStopsInTheMiddle(t *testing.T) {
	for _, s := range []Scenario{ScenarioBroadcast, ScenarioP2P, ScenarioConn} {
		t.Run(string(s), func(t *testing.T) {
			n := servertest.Start(t, server.Options{Drain: 100 * time.Millisecond})
			o := against(n, s)
			o.Rate, o.For, o.Drain = 200, 2*time.Second, 500*time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), servertest.Patience)
			defer cancel()
			begun := time.Now()
			r, err := Run(ctx, o, func(s Snapshot) {
				if s.Phase == PhaseMeasure {
					n.Drain()
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begun); d > 10*time.Second || ctx.Err() != nil {
				t.Errorf("it took %v", d)
			}
			x, conns := r.Traffic, int64(r.Connections.Asked)
			if r.Connections.LoggedIn != conns || r.Connections.Dropped != conns || r.Connections.Up != 0 {
				t.Errorf("%+v, want everybody to get in and to be cut off", r.Connections)
			}
			if got := r.Errors.Bye[codeName(codec.CodeDraining)]; got != conns {
				t.Errorf("%d connections were told DRAINING, want %d", got, conns)
			}
			if x.Expected != x.Received+x.Lost {
				t.Errorf("expected %d, but received %d and lost %d", x.Expected, x.Received, x.Lost)
			}
			if s != ScenarioConn && (x.Received == 0 || x.UnsentClosed == 0 || x.Sent+x.UnsentClosed+x.UnsentBehind != x.Intended) {
				t.Errorf("%+v, want messages before the stop, and the others counted as not sent", x)
			}
		})
	}
}
