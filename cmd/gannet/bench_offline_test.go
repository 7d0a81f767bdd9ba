package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gannet/bench"
	"gannet/server/servertest"
)

func TestOfflineDefaultsAreValid(t *testing.T) {
	t.Setenv("GANNET_ADDR", "")
	os.Unsetenv("GANNET_ADDR")
	c := benchParse(t, "offline")
	o, err := c.Offline.options()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if o.Addr != "127.0.0.1:7000" || o.Devices != 5000 || o.Missed != 100 || o.Live != 1000 || o.Pace != 0 || o.Token != nil || o.Quiet != 15*time.Second {
		t.Errorf("defaults %+v", o)
	}
}

func TestOfflineFlagsReachTheOptions(t *testing.T) {
	c := benchParse(t, "offline", "--addr", "10.0.0.1:9", "-n", "31", "-m", "32", "--size", "33", "--pace", "34.5", "--writers", "5", "--window", "36",
		"--rest", "37s", "--live", "38.5", "--live-conns", "40", "--before", "41s", "--drain", "42s", "--quiet", "43s", "--heartbeat", "44s",
		"--user-prefix", "x-", "--loops", "6", "--login-timeout", "45s")
	o, err := c.Offline.options()
	if err != nil {
		t.Fatal(err)
	}
	want := bench.OfflineOptions{
		Addr: "10.0.0.1:9", Devices: 31, Missed: 32, Size: 33, Pace: 34.5, Writers: 5, Window: 36, Rest: 37 * time.Second, Live: 38.5, LiveConns: 40,
		Before: 41 * time.Second, Drain: 42 * time.Second, Quiet: 43 * time.Second, Heartbeat: 44 * time.Second, UserPrefix: "x-", Loops: 6,
		LoginTimeout: 45 * time.Second,
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got  %+v\nwant %+v", o, want)
	}
	c.Offline.Source = "127.0.0.2"
	if o, err := c.Offline.options(); err != nil || len(o.Sources) != 1 {
		t.Errorf("sources %v, %v", o.Sources, err)
	}
	c.Offline.TokenKey = filepath.Join(t.TempDir(), "none.key")
	if _, err := c.Offline.options(); err == nil || !strings.Contains(err.Error(), "--token-key") {
		t.Errorf("a missing key: %v", err)
	}
}

func TestOfflineJudges(t *testing.T) {
	asserts, err := bench.ParseAssertions("catch_up.seconds<=1")
	if err != nil {
		t.Fatal(err)
	}
	clean := bench.Offline{CaughtUp: 5, Seconds: 0.5}
	for _, c := range []struct {
		change func(r *bench.Report)
		says   string // in the error; "" for none
	}{
		{func(*bench.Report) {}, ""},
		{func(r *bench.Report) { r.Offline.Duplicated = 3 }, ""}, // the protocol allows it
		{func(r *bench.Report) { r.Offline.Behind, r.Offline.Lost = 2, 7 }, "2 devices did not catch up; 7 messages lost"},
		{func(r *bench.Report) { r.Offline.Reordered = 4 }, "4 out of order"},
		{func(r *bench.Report) { r.Offline.Seconds = 3 }, "1 of 1 assertions"},
		{func(r *bench.Report) { r.Interrupted = true }, "interrupted"},
	} {
		o := clean
		r := bench.Report{Scenario: bench.ScenarioOffline, Offline: &o}
		c.change(&r)
		var table, stderr bytes.Buffer
		err := (&benchOffline{}).show(&r, asserts, &table, &stderr)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("error %v, want one that says %q", err, c.says)
		}
		if !strings.Contains(table.String(), "caught up") {
			t.Errorf("the table:\n%s", &table)
		}
	}
}

// The whole way: a server, the tool, the exit code and the file.
func TestOfflineAgainstARunningServer(t *testing.T) {
	_, addr := launchServer(t, "--data", t.TempDir())
	file := filepath.Join(t.TempDir(), "r.json")
	code, stdout, stderr := gannet(t, "", "bench", "offline", "--addr", addr, "-n", "10", "-m", "20", "--live", "50", "--live-conns", "4", "--before", "200ms",
		"--json", file, "--assert", "catch_up.devices=10,catch_up.lost=0,lost=0,p99<20s")
	if code != 0 || !strings.Contains(stdout, "10 of 10 devices") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r bench.Report
	if err := json.Unmarshal(text, &r); err != nil || r.Offline == nil || r.Offline.Received != 200 || r.Latency["catch_up"].Count != 10 {
		t.Errorf("the file holds %+v, %v", r, err)
	}
	code, _, stderr = gannet(t, "", "bench", "offline", "--addr", servertest.Addr())
	if code != 1 || !strings.Contains(stderr, "gannetd") {
		t.Errorf("against nobody: exit code %d, %q", code, stderr)
	}
}
