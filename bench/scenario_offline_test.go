package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// behind is a small run against a real server.
func behind(addr string) OfflineOptions {
	return OfflineOptions{
		Addr: addr, Devices: 21, Missed: 30, Writers: 4, Window: 8, Live: 200, LiveConns: 4, Before: 200 * time.Millisecond, Loops: 2,
		LoginTimeout: servertest.Patience, Quiet: servertest.Patience, Drain: servertest.Patience,
	}
}

func mustCatchUp(t *testing.T, o OfflineOptions) Report {
	t.Helper()
	r, err := RunOffline(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantCaughtUp wants everything there once and in order, of what was missed and live.
func wantCaughtUp(t *testing.T, r *Report, o OfflineOptions) {
	t.Helper()
	o = o.fill()
	all := int64(o.Devices) * int64(o.Missed)
	got := *r.Offline
	if got.CaughtUp != int64(o.Devices) || got.Behind != 0 || got.Received != all || got.Lost != 0 || got.Duplicated != 0 || got.Reordered != 0 || !got.OK() {
		t.Errorf("%+v, want all %d messages once", got, all)
	}
	if got.Seconds <= 0 || got.PerS <= 0 || got.WriteSeconds <= 0 || got.WritePerS <= 0 {
		t.Errorf("times and rates %+v", got)
	}
	if len(got.Welcome) != 1 || got.Welcome["resumed"] != int64(o.Devices) || len(got.Gaps) != 0 {
		t.Errorf("WELCOMEs %v, GAPs %v; want every device resumed", got.Welcome, got.Gaps)
	}
	for _, q := range []quantity{qLogin, qCatchUp} {
		if n := r.Latency[q.String()].Count; n != int64(o.Devices) {
			t.Errorf("%d values of %v, want one a device", n, q)
		}
	}
	sent := float64(r.Traffic.Sent)
	wantCounts(t, r, map[string]float64{
		"acked": sent, "expected": sent, "received": sent, "lost": 0, "duplicated": 0, "reordered": 0, "foreign": 0, "unanswered": 0,
		"logins": float64(2*o.Devices + o.Writers + o.liveConns()), "failed": 0, "dropped": 0, "refused": 0, "byes": 0, "closed": 0,
		"connect_errors": 0, "malformed": 0, "catch_up.devices": float64(o.Devices), "catch_up.lost": 0,
	})
	if (o.Live > 0) != (sent > 0) || r.Traffic.Sent+r.Traffic.UnsentBehind != r.Traffic.Intended {
		t.Errorf("live: sent %v and %d not got to, of %d", sent, r.Traffic.UnsentBehind, r.Traffic.Intended)
	}
	if r.Interrupted {
		t.Error("it says that it was interrupted")
	}
}

func TestOfflineAgainstAServer(t *testing.T) {
	tokens, token := withTokens(t)
	open := servertest.Start(t, server.Options{})
	disk := servertest.Start(t, server.Options{Data: t.TempDir()})
	for name, c := range map[string]struct {
		n      *servertest.Node
		change func(o *OfflineOptions)
	}{
		"defaults":                 {open, func(*OfflineOptions) {}},
		"tokens":                   {tokens, func(o *OfflineOptions) { o.Token = token }},
		"on disk":                  {disk, func(*OfflineOptions) {}},
		"one device, many chunks":  {disk, func(o *OfflineOptions) { o.Devices, o.Missed, o.Size, o.Window = 1, 3000, 200, 64 }},
		"one message":              {open, func(o *OfflineOptions) { o.Devices, o.Missed, o.Live, o.Loops = 1, 1, 0, 8 }},
		"no live traffic, a rest":  {open, func(o *OfflineOptions) { o.Live, o.Rest = 0, 50*time.Millisecond }},
		"paced":                    {open, func(o *OfflineOptions) { o.Pace = 200 }},
		"large messages":           {disk, func(o *OfflineOptions) { o.Devices, o.Missed, o.Size = 5, 10, 50_000 }},
		"more writers than loops":  {open, func(o *OfflineOptions) { o.Writers, o.Window = 21, 1 }},
		"a writer for two devices": {open, func(o *OfflineOptions) { o.Devices, o.Writers = 5, 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			o := behind(c.n.Addr())
			c.change(&o)
			r := mustCatchUp(t, o)
			wantCaughtUp(t, &r, o)
			if o.Pace > 0 {
				if least := float64(o.Devices-1) / o.Pace; r.Offline.Seconds < least*0.9 {
					t.Errorf("all came back within %v s, at %v a second", r.Offline.Seconds, o.Pace)
				}
			}
			if r.Traffic.Sent > 0 && r.Latency[qBefore.String()].Count == 0 {
				t.Error("no live latency from before the return")
			}
			waitForNobody(t, c.n)
		})
	}
}

// The same users again: what an earlier run left in their inboxes is not counted, not even when that one was interrupted.
func TestOfflineAfterAnInterruptedRun(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	o := behind(n.Addr())
	o.Before = time.Hour
	r, err := RunOffline(ctx, o, func(s Snapshot) {
		if s.Phase == PhaseLive {
			cancel()
		}
	})
	if err != nil || !r.Interrupted || r.Offline.CaughtUp != 0 || r.Offline.Behind != int64(o.Devices) || r.Offline.Lost != 0 {
		t.Errorf("interrupted: %v, %v, %+v", err, r.Interrupted, r.Offline)
	}
	waitForNobody(t, n)
	again := mustCatchUp(t, behind(n.Addr()))
	wantCaughtUp(t, &again, behind(n.Addr()))
}

// Phases follow each other in the progress, and the series has what was written and caught up in it.
func TestOfflineProgress(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	o := behind(n.Addr())
	o.Devices, o.Pace, o.Before = 40, 20, 1200*time.Millisecond
	var lines []string
	var phases []string
	r, err := RunOffline(t.Context(), o, func(s Snapshot) {
		lines = append(lines, s.Line())
		if len(phases) == 0 || phases[len(phases)-1] != s.Phase {
			phases = append(phases, s.Phase)
		}
		if s.Phase == PhaseReturn && s.Received < 200 {
			t.Errorf("a second of the return without what was caught up: %s", s.Line())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(phases, " "); !strings.HasSuffix(got, PhaseLive+" "+PhaseReturn) && !strings.HasSuffix(got, PhaseReturn+" "+PhaseDrain) {
		t.Errorf("phases %q\n%s", got, strings.Join(lines, "\n"))
	}
	if len(r.Series) != len(lines) {
		t.Errorf("%d rows for %d lines", len(r.Series), len(lines))
	}
	if during := r.Latency[qDuring.String()].Count; during == 0 || during >= r.Traffic.Received {
		t.Errorf("%d of %d live messages were under way during the return", during, r.Traffic.Received)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"offline against", "40 of 40 devices", "1200 received, 0 lost", "40 resumed", "live during", "errors  none"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, &table)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || back.Offline.CaughtUp != 40 || back.Offline.Settings.Pace != 20 {
		t.Errorf("JSON came back as %+v, %v", back.Offline, err)
	}
	asserts, err := ParseAssertions("p99<20s,live_during.max<20s,live_before.p50<20s,catch_up.behind=0,catch_up.seconds<20,catch_up.rate>1,catch_up.reordered=0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range asserts {
		if err := a.Check(&r); err != nil {
			t.Error(err)
		}
	}
}

// The server stops while the devices come back: the run ends by itself, and says who is behind.
func TestOfflineServerStops(t *testing.T) {
	n := servertest.Start(t, server.Options{Drain: 100 * time.Millisecond})
	o := behind(n.Addr())
	o.Pace, o.Quiet, o.Drain = 10, time.Second, 300*time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Patience)
	defer cancel()
	r, err := RunOffline(ctx, o, func(s Snapshot) {
		if s.Phase == PhaseReturn {
			n.Drain()
		}
	})
	if err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	got := r.Offline
	if got.Behind == 0 || got.CaughtUp == 0 || got.Behind+got.CaughtUp != int64(o.Devices) || got.OK() {
		t.Errorf("%+v, want some devices behind", got)
	}
	if r.Connections.Failed == 0 || r.Errors.Bye[codeName(codec.CodeDraining)] == 0 {
		t.Errorf("connections %+v, errors %+v", r.Connections, r.Errors)
	}
}

func TestOfflineWithoutAServer(t *testing.T) {
	_, err := RunOffline(t.Context(), behind(servertest.Addr()), nil)
	if connect := new(ConnectError); !errors.As(err, &connect) || connect.Errno != unix.ECONNREFUSED {
		t.Errorf("nobody listens: %v", err)
	}
	n, _ := withTokens(t)
	_, err = RunOffline(t.Context(), behind(n.Addr()), nil)
	if refused := new(RefusedError); !errors.As(err, &refused) || refused.Code != codec.CodeUnauthorized {
		t.Errorf("without a token: %v", err)
	}
	o := behind(servertest.Start(t, server.Options{Limits: server.Limits{MaxFrame: 4096}}).Addr())
	o.Size, o.Quiet = 5000, 500*time.Millisecond
	if _, err = RunOffline(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "0 of the 630 messages") {
		t.Errorf("messages that the server does not take: %v", err)
	}
}

func TestOfflineOptionsSayWhatIsWrong(t *testing.T) {
	if err := (OfflineOptions{Addr: "x:1"}).Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		change func(o *OfflineOptions)
		field  string
	}{
		{func(o *OfflineOptions) { o.Devices = -1 }, "devices"},
		{func(o *OfflineOptions) { o.Missed = -1 }, "missed"},
		{func(o *OfflineOptions) { o.Devices, o.Missed = 100_000, 100_000 }, "devices, missed"},
		{func(o *OfflineOptions) { o.Devices, o.Missed = math.MaxInt, math.MaxInt }, "devices, missed"},
		{func(o *OfflineOptions) { o.Size = 15 }, "size"},
		{func(o *OfflineOptions) { o.Size = codec.MaxBody }, "size"},
		{func(o *OfflineOptions) { o.Pace = -1 }, "pace"},
		{func(o *OfflineOptions) { o.Pace = math.NaN() }, "pace"},
		{func(o *OfflineOptions) { o.Pace = 0.5 }, "pace"},
		{func(o *OfflineOptions) { o.Writers = -1 }, "writers"},
		{func(o *OfflineOptions) { o.Writers = maxWriters + 1 }, "writers"},
		{func(o *OfflineOptions) { o.Window = -1 }, "window"},
		{func(o *OfflineOptions) { o.Live = math.NaN() }, "live"},
		{func(o *OfflineOptions) { o.Live = -1 }, "live"},
		{func(o *OfflineOptions) { o.LiveConns = 3 }, "live-conns"},
		{func(o *OfflineOptions) { o.LiveConns = -2 }, "live-conns"},
		{func(o *OfflineOptions) { o.Before = -1 }, "before"},
		{func(o *OfflineOptions) { o.Quiet = math.MaxInt64 }, "quiet"},
		{func(o *OfflineOptions) { o.Rest = -1 }, "rest"},
		{func(o *OfflineOptions) { o.Drain = -1 }, "drain"},
		{func(o *OfflineOptions) { o.Loops = 1000 }, "loops"},
		{func(o *OfflineOptions) { o.Heartbeat = time.Millisecond }, "heartbeat"},
		{func(o *OfflineOptions) { o.UserPrefix = "a\nb" }, "user-prefix"},
	} {
		o := OfflineOptions{Addr: "x:1"}
		c.change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%+v: error %v, want one that names %s", o, err, c.field)
		}
		if _, err := RunOffline(t.Context(), o, nil); err == nil {
			t.Errorf("%+v: RunOffline took it", o)
		}
	}
}

// Every message that is missed has one device and one number there, whatever the numbers of devices and writers.
func TestOfflinePlan(t *testing.T) {
	for _, c := range []struct{ devices, writers, missed, live, loops int }{
		{1, 1, 10, 0, 1}, {5, 2, 3, 2, 1}, {7, 7, 1, 4, 3}, {10, 3, 4, 6, 8}, {2, 1, 5, 0, 2},
	} {
		off := OfflineOptions{Devices: c.devices, Writers: c.writers, Missed: c.missed, Live: float64(c.live), LiveConns: c.live}
		o := off.common()
		s := newOffline(&o, &off)
		seen := map[[2]uint32]bool{}
		for w := range c.writers {
			i := uint32(c.devices + w)
			for n := uint64(1); n <= s.misses(i); n++ {
				to, stream, number := s.letter(i, n)
				if int(to) >= c.devices || stream != to || number < 1 || int(number) > c.missed || seen[[2]uint32{to, number}] {
					t.Errorf("%+v: message %d of writer %d is number %d of device %d", c, n, w, number, to)
				}
				seen[[2]uint32{to, number}] = true
			}
		}
		if len(seen) != c.devices*c.missed {
			t.Errorf("%+v: %d messages", c, len(seen))
		}
		loops := s.loops(c.loops)
		for i := range s.total() {
			home := s.home(i, loops)
			live := s.role(uint32(i)) == roleLive
			if home < 0 || home >= loops || live != (c.live > 0 && home == loops-1) {
				t.Errorf("%+v: connection %d lives on loop %d of %d", c, i, home, loops)
			}
			if other, ok := s.source(uint32(i), 0); ok != live {
				t.Errorf("%+v: connection %d has a partner: %v", c, i, ok)
			} else if back, _ := s.source(other, 0); live && (int(back) != i || other == back) {
				t.Errorf("%+v: %d talks to %d, who talks to %d", c, i, other, back)
			}
		}
	}
}
