package bench

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
)

func p2pOptions(p *peer) Options {
	return Options{
		Scenario: ScenarioP2P, Addr: p.addr, Conns: 8, Rate: 2000, Size: 32, Acks: true, Loops: 2,
		For: 300 * time.Millisecond, Warmup: 50 * time.Millisecond, LoginTimeout: 20 * time.Second, Drain: 20 * time.Second,
	}
}

// must runs o, which has to work.
func must(t *testing.T, o Options) Report {
	t.Helper()
	r, err := Run(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Traffic.Expected != r.Traffic.Received+r.Traffic.Lost {
		t.Errorf("expected %d, but received %d and lost %d", r.Traffic.Expected, r.Traffic.Received, r.Traffic.Lost)
	}
	return r
}

// wantCounts compares metrics, by their names in assertions.
func wantCounts(t *testing.T, r *Report, want map[string]float64) {
	t.Helper()
	for name, n := range want {
		if got := counts[name](r); got != n {
			t.Errorf("%s is %v, want %v", name, got, n)
		}
	}
}

func TestP2PCountsEverything(t *testing.T) {
	p := newPeer(t, script{})
	r := must(t, p2pOptions(p))
	if r.Traffic.Intended != 600 {
		t.Errorf("intended %d messages, want 2000/s for 300 ms", r.Traffic.Intended)
	}
	sent := float64(r.Traffic.Sent)
	if sent == 0 || r.Traffic.Sent+r.Traffic.UnsentBehind != r.Traffic.Intended {
		t.Errorf("sent %v and %d not got to, of %d", sent, r.Traffic.UnsentBehind, r.Traffic.Intended)
	}
	wantCounts(t, &r, map[string]float64{
		"acked": sent, "received": sent, "expected": sent, "lost": 0, "duplicated": 0, "reordered": 0, "foreign": 0,
		"unanswered": 0, "connections": 8, "logins": 8, "failed": 0, "dropped": 0, "refused": 0,
	})
	for _, q := range []quantity{qDelivery, qAck, qDelay} {
		if got := r.Latency[q.String()].Count; got != r.Traffic.Sent {
			t.Errorf("%v has %d values, want %v", q, got, sent)
		}
	}
	if got := r.Latency["login"].Count; got != 8 {
		t.Errorf("%d login latencies, want 8", got)
	}
	if warm := p.sends.Load() - r.Traffic.Sent; warm < 50 || warm > 150 {
		t.Errorf("%d messages beside the counted ones, want the 100 of the warm-up", warm)
	}
	if n := p.byes.Load(); n != 8 {
		t.Errorf("%d connections said BYE, want 8", n)
	}
}

func TestP2PWithoutAcks(t *testing.T) {
	p := newPeer(t, script{})
	o := p2pOptions(p)
	o.Acks = false
	r := must(t, o)
	wantCounts(t, &r, map[string]float64{"acked": 0, "unanswered": 0, "lost": 0, "received": float64(r.Traffic.Sent)})
	if _, ok := r.Latency["ack"]; ok {
		t.Error("ack latencies although no acks were asked for")
	}
}

// What the peer does to messages must come out in the counts, message by message.
func TestP2PFindsLossDuplicatesAndReordering(t *testing.T) {
	var mu sync.Mutex
	dropped, doubled, swapped := 0, 0, 0
	held := map[string][]byte{}
	p := newPeer(t, script{relay: func(n int64, to string, msg []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		f, _, _ := codec.ConsumeFrame(msg, codec.MaxBody)
		m, _ := codec.ConsumeMsg(f)
		s, _ := readStamp(m.Payload)
		if first := held[to]; first != nil {
			swapped++
			held[to] = nil
			return append(slices.Clone(msg), first...)
		}
		switch {
		case s.number == 0:
		case n%10 == 0:
			dropped++
			return nil
		case n%10 == 3:
			doubled++
			return append(slices.Clone(msg), msg...)
		case n%10 == 6 && s.number < 50: // the last of a stream would wait for ever
			held[to] = msg
			return nil
		}
		return msg
	}})
	o := p2pOptions(p)
	o.Drain = 300 * time.Millisecond // what was dropped never comes
	r := must(t, o)
	if dropped == 0 || doubled == 0 || swapped == 0 {
		t.Fatalf("the peer dropped %d, doubled %d and swapped %d: nothing to find", dropped, doubled, swapped)
	}
	wantCounts(t, &r, map[string]float64{
		"lost": float64(dropped), "duplicated": float64(doubled), "reordered": float64(swapped),
		"acked": float64(r.Traffic.Sent),
	})
	if r.Traffic.ShortReceivers == 0 || r.Traffic.WorstReceiver == 0 {
		t.Errorf("no receiver is blamed for the loss: %+v", r.Traffic)
	}
}

func TestRefusedSendsAreNotLost(t *testing.T) {
	var busy atomic.Int64
	p := newPeer(t, script{code: func(m codec.Send) codec.Code {
		if s, _ := readStamp(m.Payload); s.number%5 == 3 {
			busy.Add(1)
			return codec.CodeBusy
		}
		return codec.CodeOK
	}})
	r := must(t, p2pOptions(p))
	n := float64(busy.Load())
	wantCounts(t, &r, map[string]float64{"lost": 0, "refused": n, "unanswered": 0, "acked": float64(r.Traffic.Sent) - n})
	if got := r.Errors.Refused["1 BUSY"]; float64(got) != n {
		t.Errorf("%d refused with BUSY, want %v", got, n)
	}
}

func TestForeignMessagesAreNotCounted(t *testing.T) {
	p := newPeer(t, script{relay: func(n int64, _ string, msg []byte) []byte {
		if n != 300 {
			return msg
		}
		other := make([]byte, stampLen)
		stamp{due: 1, stream: 12345, number: 7}.put(other)
		for _, payload := range [][]byte{other, []byte("short")} {
			msg = codec.AppendMsg(slices.Clone(msg), codec.Msg{Kind: codec.KindTopic, Name: []byte("x"), Payload: payload})
		}
		return msg
	}})
	r := must(t, p2pOptions(p))
	wantCounts(t, &r, map[string]float64{"foreign": 2, "lost": 0, "duplicated": 0})
}

// Frames that come in pieces, and frames larger than the buffer that all connections share.
func TestFramesInPieces(t *testing.T) {
	for name, tc := range map[string]struct{ size, dribble, rate int }{
		"bytewise": {16, 3, 200},
		"large":    {2 * readSize, 50_000, 20},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, script{dribble: tc.dribble, maxFrame: 1 << 20})
			o := p2pOptions(p)
			o.Size, o.Rate = tc.size, float64(tc.rate)
			r := must(t, o)
			wantCounts(t, &r, map[string]float64{"lost": 0, "malformed": 0, "received": float64(r.Traffic.Sent)})
			if r.Traffic.Sent == 0 {
				t.Error("nothing was sent")
			}
		})
	}
}

// A server that stops reading costs a bounded buffer a connection; what does not fit is counted, and the
// run ends in time.
func TestStalledServer(t *testing.T) {
	p := newPeer(t, script{onSend: func(c *peerConn, _ int64) bool {
		<-c.p.gone
		return false
	}})
	o := p2pOptions(p)
	o.Size, o.Rate, o.For, o.Drain = 60_000, 4000, time.Second, 100*time.Millisecond
	r := must(t, o)
	if r.Traffic.UnsentFull == 0 {
		t.Errorf("nothing was unsent although the server read nothing: %+v", r.Traffic)
	}
	if x := r.Traffic; x.Sent+x.UnsentFull+x.UnsentBehind != x.Intended {
		t.Errorf("sent %d, full %d, behind %d: not the %d intended", x.Sent, x.UnsentFull, x.UnsentBehind, x.Intended)
	}
	if r.Traffic.Achieved >= 1 || r.Traffic.Lost != r.Traffic.Sent {
		t.Errorf("achieved %v, lost %d of %d sent", r.Traffic.Achieved, r.Traffic.Lost, r.Traffic.Sent)
	}
}

// A connection that dies while it has messages to send and to receive.
func TestServerClosesSomeConnections(t *testing.T) {
	p := newPeer(t, script{onSend: func(c *peerConn, n int64) bool {
		return c.user != "bench-0" || n < 300
	}})
	o := p2pOptions(p)
	o.Drain = 200 * time.Millisecond
	r := must(t, o)
	wantCounts(t, &r, map[string]float64{"dropped": 1, "closed": 1, "connections": 7, "byes": 0})
	if r.Traffic.UnsentClosed == 0 || r.Traffic.Lost == 0 {
		t.Errorf("unsent %d, lost %d: bench-0 was gone", r.Traffic.UnsentClosed, r.Traffic.Lost)
	}
	if r.Traffic.ShortReceivers == 0 || r.Traffic.ShortReceivers > 2 {
		t.Errorf("%d receivers lost messages, want bench-0 and perhaps bench-1", r.Traffic.ShortReceivers)
	}
}

func TestBroadcast(t *testing.T) {
	for name, tc := range map[string]struct {
		o     Options
		share float64 // of the subscribers that get each message
	}{
		"one topic":        {Options{}, 1},
		"two topics":       {Options{Topics: []string{"red", "blue"}, Publishers: 4}, 0.5},
		"three on a topic": {Options{Topics: []string{"red"}, Publishers: 3}, 1},
		"all":              {Options{All: true, Publishers: 2}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, script{})
			o := tc.o
			base := p2pOptions(p)
			o.Scenario, o.Addr, o.Conns, o.Rate, o.Acks, o.Loops = ScenarioBroadcast, p.addr, 12, 400, true, 2
			o.For, o.Warmup, o.Drain = base.For, base.Warmup, base.Drain
			r := must(t, o)
			want := float64(r.Traffic.Sent) * 12 * tc.share
			wantCounts(t, &r, map[string]float64{
				"received": want, "expected": want, "lost": 0, "duplicated": 0, "reordered": 0, "foreign": 0,
				"acked": float64(r.Traffic.Sent),
			})
			if r.Traffic.Sent == 0 {
				t.Error("nothing was sent")
			}
		})
	}
}

func TestBroadcastBlamesTheReceiverThatLost(t *testing.T) {
	var lost atomic.Int64
	p := newPeer(t, script{relay: func(_ int64, to string, msg []byte) []byte {
		f, _, _ := codec.ConsumeFrame(msg, codec.MaxBody)
		m, _ := codec.ConsumeMsg(f)
		if s, _ := readStamp(m.Payload); to == "bench-3" && s.number%4 == 1 {
			lost.Add(1)
			return nil
		}
		return msg
	}})
	r := must(t, Options{
		Scenario: ScenarioBroadcast, Addr: p.addr, Conns: 5, Rate: 400, For: 200 * time.Millisecond, Drain: 200 * time.Millisecond,
	})
	if x := r.Traffic; x.Lost != lost.Load() || x.ShortReceivers != 1 || x.WorstReceiver != x.Lost || x.Lost == 0 {
		t.Errorf("lost %d at %d receivers, %d at the worst; the peer kept %d from one", x.Lost, x.ShortReceivers, x.WorstReceiver, lost.Load())
	}
}

func TestConnHoldsAnswersAndMeasures(t *testing.T) {
	p := newPeer(t, script{heartbeat: 1, pinging: true})
	var seen []Snapshot
	o := Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 50, Topics: []string{"news"}, For: 1500 * time.Millisecond, Loops: 2}
	r, err := Run(t.Context(), o, func(s Snapshot) { seen = append(seen, s) })
	if err != nil {
		t.Fatal(err)
	}
	wantCounts(t, &r, map[string]float64{"connections": 50, "logins": 50, "dropped": 0, "failed": 0, "closed": 0, "byes": 0, "malformed": 0})
	if n := p.pongs.Load(); n != 50 {
		t.Errorf("%d PINGs of the server were answered, want 50", n)
	}
	// The server's heartbeat of 1 s is shorter than the 15 s asked for and holds: a PING each in 0.9 s.
	if n := r.Latency["ping"].Count; n < 50 {
		t.Errorf("%d PINGs came back, want one for each of 50 connections at least", n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.topics["news"]); n != 50 {
		t.Errorf("%d subscribed, want 50", n)
	}
	if len(seen) == 0 || len(r.Series) != len(seen) {
		t.Fatalf("%d calls of progress, %d rows in the series", len(seen), len(r.Series))
	}
	if last := seen[len(seen)-1]; last.Connections != 50 || last.Asked != 50 || !strings.Contains(last.Line(), "connections 50/50") {
		t.Errorf("last line of progress: %s", last.Line())
	}
}

func TestPassiveSendsNoPing(t *testing.T) {
	p := newPeer(t, script{heartbeat: 1, pinging: true})
	r := must(t, Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 10, For: time.Second, Passive: true})
	if p.pings.Load() != 0 || p.pongs.Load() != 10 || r.Connections.Up != 10 {
		t.Errorf("%d PINGs, %d PONGs, %d up; want 0, 10, 10", p.pings.Load(), p.pongs.Load(), r.Connections.Up)
	}
}

func TestConnCountsFalseCloses(t *testing.T) {
	var n atomic.Int64
	p := newPeer(t, script{heartbeat: 1, onPing: func(c *peerConn) bool {
		switch n.Add(1) {
		case 1:
			c.write(codec.AppendBye(nil, codec.Bye{Code: codec.CodeIdle, Reason: []byte("no heartbeat for 23 s")}))
			return false
		case 2:
			return false
		}
		return true
	}})
	r := must(t, Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 20, For: 1100 * time.Millisecond})
	wantCounts(t, &r, map[string]float64{"dropped": 2, "byes": 1, "closed": 1, "connections": 18, "failed": 0})
	if why := r.Errors.Reasons["202 IDLE"]; why != "no heartbeat for 23 s" {
		t.Errorf("reason of the BYE is %q", why)
	}
}

func TestRampKeepsItsRate(t *testing.T) {
	p := newPeer(t, script{})
	r := must(t, Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 41, Ramp: 100, For: 10 * time.Millisecond, Loops: 2})
	if s := r.Connections.Seconds; s < 0.4 || r.Connections.Up != 41 {
		t.Errorf("%d logins in %.2f s, want 41 in no less than 0.40 s", r.Connections.Up, s)
	}
}

func TestEverySessionHasItsToken(t *testing.T) {
	var tokens sync.Map
	p := newPeer(t, script{onFrame: func(f codec.Frame) {
		if f.Type == codec.TypeHello {
			h, _ := codec.ConsumeHello(f)
			tokens.Store(string(h.User), string(h.Token))
		}
	}})
	must(t, Options{
		Scenario: ScenarioConn, Addr: p.addr, Conns: 3, For: time.Millisecond, UserPrefix: "u",
		Token: func(user string) string { return "token of " + user },
	})
	for _, user := range []string{"u0", "u1", "u2"} {
		if got, _ := tokens.Load(user); got != "token of "+user {
			t.Errorf("%s came with %v", user, got)
		}
	}
}

func TestNobodyGetsIn(t *testing.T) {
	bye := codec.Bye{Code: codec.CodeUnauthorized, Reason: []byte("a token is needed")}
	for name, tc := range map[string]struct {
		greet func(c *peerConn)
		errno unix.Errno
		text  string
	}{
		"refused by BYE": {func(c *peerConn) { c.write(codec.AppendBye(nil, bye)) }, 0, "300 UNAUTHORIZED: a token is needed"},
		"not a gannet":   {func(c *peerConn) { c.write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, 0, "does not speak the gannet protocol"},
		"closes":         {func(c *peerConn) { c.nc.Close() }, 0, "before WELCOME"},
		"silent":         {func(*peerConn) {}, unix.ETIMEDOUT, "login timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, script{greet: tc.greet})
			r, err := Run(t.Context(), Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 4, LoginTimeout: 200 * time.Millisecond}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("error %v, want one that says %q", err, tc.text)
			}
			var refused *RefusedError
			if errors.As(err, &refused) != strings.HasPrefix(name, "refused") {
				t.Errorf("%T is not the right kind of error", err)
			}
			if tc.errno != 0 && !errors.Is(err, tc.errno) {
				t.Errorf("%v does not wrap %v", err, tc.errno)
			}
			if r.Connections.Failed != 4 || r.Connections.Up != 0 {
				t.Errorf("connections %+v, want 4 failed", r.Connections)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	ln := listenLow(t)
	addr := ln.Addr().String()
	ln.Close()
	o := Options{Scenario: ScenarioConn, Addr: addr, Conns: 5000}
	r, err := Run(t.Context(), o, nil)
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("error %v, want ECONNREFUSED", err)
	}
	if got := r.Errors.Connect["ECONNREFUSED"]; got < hopeless || got != r.Connections.Failed {
		t.Errorf("%d refused connects, %d failed, want %d at least", got, r.Connections.Failed, hopeless)
	}
}

func TestSubscriptionRefused(t *testing.T) {
	p := newPeer(t, script{greet: func(c *peerConn) {
		out := codec.AppendWelcome(nil, codec.Welcome{Version: 1, Heartbeat: 15, MaxFrame: 1 << 16})
		c.write(codec.AppendSubAck(out, codec.SubAck{Req: 1, Code: codec.CodeForbidden}))
	}})
	_, err := Run(t.Context(), Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 2, Topics: []string{"secret"}}, nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != codec.CodeForbidden {
		t.Errorf("error %v, want FORBIDDEN", err)
	}
}

// Ending early still reports, and what the report says is still true.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := newPeer(t, script{onSend: func(_ *peerConn, n int64) bool {
		if n == 300 {
			cancel()
		}
		return true
	}})
	o := p2pOptions(p)
	o.For = time.Hour / 100
	r, err := Run(ctx, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || r.Traffic.Sent == 0 || r.Traffic.Lost != 0 || r.Traffic.Sent != r.Traffic.Received {
		t.Errorf("interrupted %v, sent %d, received %d, lost %d", r.Interrupted, r.Traffic.Sent, r.Traffic.Received, r.Traffic.Lost)
	}
	if r.Traffic.Achieved < 0.5 || r.Traffic.Intended > 100_000 {
		t.Errorf("intended %d, achieved %v: the rest of the schedule counts", r.Traffic.Intended, r.Traffic.Achieved)
	}
}

func TestInterruptedInTheRamp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := newPeer(t, script{greet: func(*peerConn) { cancel() }})
	r, err := Run(ctx, Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 1000, Ramp: 10}, nil)
	if err != nil || !r.Interrupted || r.Connections.Up != 0 {
		t.Errorf("interrupted %v, %d up, error %v", r.Interrupted, r.Connections.Up, err)
	}
}

func TestReportIsJSON(t *testing.T) {
	p := newPeer(t, script{})
	r := must(t, p2pOptions(p))
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if back.Traffic != r.Traffic || back.Latency["delivery"] != r.Latency["delivery"] || back.Machine != r.Machine {
		t.Error("the report does not survive JSON")
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"8 of 8 logged in", "2000/s intended", "p99.9", "delivery", "errors  none", "late sends"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, &table)
		}
	}
}
