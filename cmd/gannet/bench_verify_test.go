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

	"gannet/bench/verify"
	"gannet/server/servertest"
)

func TestVerifyDefaultsAreValid(t *testing.T) {
	c := benchParse(t, "verify")
	o, err := c.Verify.options()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if o.Token != nil || o.SDK || o.Users != 50 || o.Devices != 2 || o.For != 10*time.Second || o.Topics != 4 {
		t.Errorf("defaults %+v", o)
	}
}

func TestVerifyFlagsReachTheOptions(t *testing.T) {
	c := benchParse(t, "verify", "--addr", "10.0.0.1:9", "--sdk", "-n", "31", "--devices", "1", "-r", "32.5", "--for", "33s", "--size", "34",
		"--topics", "5", "--groups", "36", "--group-size", "37", "--all", "--members", "38", "--admin", "10.0.0.1:8", "--admin-token", "secret",
		"--churn", "39", "--away", "40s", "--ttl-share", "0.41", "--window", "42", "--settle", "43s", "--quiet", "44s", "--max-events", "45",
		"--user-prefix", "x-", "--seed", "46")
	o, err := c.Verify.options()
	if err != nil {
		t.Fatal(err)
	}
	want := verify.Options{
		Addr: "10.0.0.1:9", SDK: true, Users: 31, Devices: 1, Rate: 32.5, For: 33 * time.Second, Size: 34, Topics: 5, Groups: 36, GroupSize: 37,
		All: true, Members: 38, Admin: "10.0.0.1:8", AdminToken: "secret", Churn: 39, Away: 40 * time.Second, TTLShare: 0.41, Window: 42,
		Settle: 43 * time.Second, Quiet: 44 * time.Second, MaxEvents: 45, UserPrefix: "x-", Seed: 46,
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got  %+v\nwant %+v", o, want)
	}
	c.Verify.TokenKey = filepath.Join(t.TempDir(), "none.key")
	if _, err := c.Verify.options(); err == nil || !strings.Contains(err.Error(), "--token-key") {
		t.Errorf("a missing key: %v", err)
	}
}

func TestVerifyJudges(t *testing.T) {
	clean := verify.Report{Verdict: verify.Verdict{Stored: 1}}
	for _, c := range []struct {
		change func(*verify.Report)
		says   string // in the error; "" for none
	}{
		{func(*verify.Report) {}, ""},
		{func(r *verify.Report) { r.Stored = 0 }, "nothing was checked"},
		{func(r *verify.Report) { r.Malformed = 3 }, "3 frames"},
		{func(r *verify.Report) { r.Counts = map[verify.Kind]int{verify.Lost: 2, verify.Gone: 5} }, "7 findings"},
	} {
		r := clean
		c.change(&r)
		var table, stderr bytes.Buffer
		err := (&benchVerify{}).show(&r, &table, &stderr)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("error %v, want one that says %q", err, c.says)
		}
		if table.Len() == 0 || stderr.Len() != 0 {
			t.Errorf("wrote %q and %q", table.String(), stderr.String())
		}
		table.Reset()
		if _ = (&benchVerify{JSON: "-"}).show(&r, &table, &stderr); !json.Valid(table.Bytes()) || stderr.Len() == 0 {
			t.Errorf("with --json -: wrote %q and %q", table.String(), stderr.String())
		}
	}
	if err := (&benchVerify{JSON: filepath.Join(t.TempDir(), "x", "y")}).show(&clean, new(bytes.Buffer), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "--json") {
		t.Errorf("a file that cannot be: %v", err)
	}
}

// The whole way: a server, the tool, the exit code and the file.
func TestVerifyARunningServer(t *testing.T) {
	_, addr := launchServer(t, "--data", t.TempDir())
	file := filepath.Join(t.TempDir(), "r.json")
	code, stdout, stderr := gannet(t, "", "bench", "verify", "--addr", addr, "-n", "6", "-r", "200", "--for", "300ms", "--quiet", "100ms", "--json", file)
	if code != 0 || !strings.Contains(stdout, "no findings") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r verify.Report
	if err := json.Unmarshal(text, &r); err != nil || r.Stored == 0 || r.Settings.Users != 6 || !r.OK() {
		t.Errorf("the file holds %+v, %v", r, err)
	}
	code, _, stderr = gannet(t, "", "bench", "verify", "--addr", servertest.Addr(), "--settle", "200ms", "--topics", "0")
	if code != 1 || !strings.Contains(stderr, "gannetd") {
		t.Errorf("against nobody: exit code %d, %q", code, stderr)
	}
}
