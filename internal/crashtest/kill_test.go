package crashtest

import (
	"flag"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gannet/bench/verify"
	"gannet/server/servertest"
)

var (
	rounds = flag.Int("rounds", 5, "how often the server is killed")
	seed   = flag.Uint64("seed", 0, "of all choices; 0: a random one")
)

// minRate is how much must be stored a second while the server lives.
const minRate = 2000

// The server dies by SIGKILL at random moments, also while it starts, under traffic that never stops, and comes back on the
// same folder. Nothing acknowledged is lost, nothing comes twice or in another order, and no gap is told: nothing was ever due to go.
//
// Devices that speak the protocol themselves see every frame; those of the SDK see what an application does. The second run is shorter.
func TestKill(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()>>1 | 1
	}
	t.Logf("again: go test ./internal/crashtest -run TestKill -rounds %d -seed %d", *rounds, *seed)
	t.Run("protocol", func(t *testing.T) { kill(t, *rounds, false) })
	t.Run("sdk", func(t *testing.T) { kill(t, (*rounds+4)/5, true) })
}

func kill(t *testing.T, rounds int, sdk bool) {
	rng := rand.New(rand.NewPCG(*seed, 1))
	data := filepath.Join(t.TempDir(), "data")
	addr, admin := servertest.Addr(), servertest.Addr()
	server := func() *process {
		return start(t, "--listen", addr, "--admin", admin, "--data", data)
	}
	p := server()
	p.await(t)
	run, err := verify.Start(t.Context(), verify.Options{
		Addr: addr, SDK: sdk, Users: 40, Rate: 1.5 * minRate, For: time.Hour, Size: 200, Topics: 4, Churn: 20,
		All: true, Groups: 8, Members: 5, Admin: admin, Seed: *seed,
	})
	if err != nil {
		t.Fatal(err)
	}
	<-run.Ready()
	var lived time.Duration
	since := time.Now()
	for range rounds {
		wait(200*time.Millisecond + time.Duration(rng.Int64N(int64(1300*time.Millisecond))))
		p.kill()
		lived += time.Since(since)
		run.Mark("killed")
		p = server()
		for rng.IntN(5) == 0 { // again, before or just when it is ready
			wait(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
			p.kill()
			run.Mark("killed while it started")
			p = server()
		}
		p.await(t)
		run.Mark("started again")
		since = time.Now()
	}
	wait(500 * time.Millisecond)
	lived += time.Since(since)
	run.Halt()
	report, err := run.Wait()
	if err != nil {
		t.Fatalf("%v\nthe server wrote:\n%s", err, p.errs.String())
	}
	judge(t, &report, lived)
	p.kill()
	checkData(t, data)
}

// wait lets the traffic go on. How long is the test's choice, not a guess about when something has happened.
func wait(d time.Duration) { <-time.After(d) }

func judge(t *testing.T, r *verify.Report, lived time.Duration) {
	t.Helper()
	rate := float64(r.Stored) / lived.Seconds()
	t.Logf("%d stored, %.0f/s while the server lived; %d received, %d retries, %d came again, %d logins, %d changes of members, %d overtaken; %s",
		r.Stored, rate, r.Handed, r.Retries, r.Repeated, r.Logins, r.Changes, r.Overtaken, r.Summary())
	if sdk := r.Settings.SDK; !r.OK() || r.Excused > 0 || r.Gaps > 0 && !sdk { // the SDK tells as a gap what was said while its user was no member
		var table strings.Builder
		if err := r.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		t.Errorf("findings, or gaps where nothing was due to go:\n%s", &table)
	}
	if r.Settings.SDK {
		return // how soon it comes back is the SDK's business
	}
	if r.Retries == 0 {
		t.Error("no message was sent a second time: the server was never killed with one under way")
	}
	if rate < minRate {
		t.Errorf("%.0f messages a second while the server lived, want %d", rate, minRate)
	}
}

// checkData has the server judge its folder, where it knows how to.
func checkData(t *testing.T, data string) {
	t.Helper()
	help, err := exec.Command(binary(t), "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("--help: %v\n%s", err, help)
	}
	if !strings.Contains(string(help), "--check") {
		return
	}
	out, err := exec.Command(binary(t), "--check", "--data", data).CombinedOutput()
	if err != nil {
		t.Errorf("gannetd --check: %v\n%s", err, out)
	}
}
