package verify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gannet/server"
	"gannet/server/auth"
	"gannet/server/servertest"
)

// gnet's package keeps a pool of goroutines of its own for the life of the process.
var gnetPool = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
	goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"), // idle
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, gnetPool...) }

// small is a short run.
func small(addr string) Options {
	return Options{
		Addr: addr, Users: 8, Rate: 1000, For: 700 * time.Millisecond, Size: 64, Topics: 2, Settle: servertest.Patience, Quiet: 150 * time.Millisecond,
	}
}

// verify makes a run.
func verify(t *testing.T, o Options) Report {
	t.Helper()
	run, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := run.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantClean fails with the table when there is anything to say against a run.
func wantClean(t *testing.T, r *Report) {
	t.Helper()
	if !r.OK() {
		t.Errorf("not clean:\n%s", table(r))
	}
}

func table(r *Report) string {
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		return err.Error()
	}
	return b.String()
}

func TestCleanServer(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		check  func(t *testing.T, r *Report)
	}{
		{"quiet", func(*Options) {}, func(t *testing.T, r *Report) {
			if r.Logins != 16 || r.Retries != 0 || r.Repeated != 0 || r.Cuts != 0 {
				t.Errorf("%d logins, %d retries, %d came again, %d cut; want 16 and nothing else", r.Logins, r.Retries, r.Repeated, r.Cuts)
			}
		}},
		{"one device each, no topics", func(o *Options) { o.Devices, o.Topics, o.Window = 1, 0, 4 }, nil},
		{"everybody", func(o *Options) { o.All, o.Topics = true, 0 }, nil},
		{"churn", func(o *Options) { o.Churn = 50 }, func(t *testing.T, r *Report) {
			if r.Cuts < 4 || r.Logins < 18 {
				t.Errorf("%d cut, %d logins", r.Cuts, r.Logins)
			}
		}},
		{"groups", func(o *Options) { o.Groups = 3 }, func(t *testing.T, r *Report) {
			if r.NoRight != 0 || r.Refused != 0 {
				t.Errorf("%d gaps, %d refused", r.NoRight, r.Refused)
			}
		}},
		{"members come and go", func(o *Options) { o.Groups, o.Members, o.Churn = 3, 40, 40 }, func(t *testing.T, r *Report) {
			if r.Changes < 5 {
				t.Errorf("%d changes of members", r.Changes)
			}
		}},
		{"the sdk", func(o *Options) { o.SDK, o.Groups, o.All = true, 2, true }, nil},
		{"the sdk, cut and restarted", func(o *Options) { o.SDK, o.Groups, o.Churn, o.Away = true, 2, 30, 10*time.Millisecond }, func(t *testing.T, r *Report) {
			if r.Cuts < 4 || r.Logins < 18 {
				t.Errorf("%d cut, %d logins", r.Cuts, r.Logins)
			}
		}},
		{"what expires is told", func(o *Options) { o.Churn, o.Away, o.TTLShare, o.For = 20, 2500*time.Millisecond, 0.3, 2*time.Second }, func(t *testing.T, r *Report) {
			if r.Excused == 0 || r.Gaps == 0 {
				t.Errorf("%d were told to be missing by %d gaps, want some", r.Excused, r.Gaps)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := servertest.Start(t, server.Options{Store: "memory"})
			o := small(n.Addr())
			o.Admin = n.AdminAddr()
			c.change(&o)
			r := verify(t, o)
			wantClean(t, &r)
			if r.Sent == 0 || r.Stored+r.Refused != r.Sent || r.InLogs < r.Stored*9/10 && o.TTLShare == 0 || r.Owed == 0 || r.Handed+r.Excused < r.Owed {
				t.Errorf("it did not check much:\n%s", table(&r))
			}
			if c.check != nil {
				c.check(t, &r)
			}
		})
	}
}

// A history that is full ends the sending, not the checking.
func TestFullHistoryEndsTheRun(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Store: "memory"})
	o := small(n.Addr())
	o.For, o.MaxEvents = time.Hour, 500
	r := verify(t, o)
	wantClean(t, &r)
	if r.Sent == 0 || r.Sent > 500 || !strings.Contains(strings.Join(r.Notes, "\n"), "--max-events") {
		t.Errorf("%d sent, notes %q", r.Sent, r.Notes)
	}
}

func TestHaltEndsTheSending(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Store: "memory"})
	o := small(n.Addr())
	o.For = time.Hour
	enough := make(chan struct{})
	o.Progress = func(s Snapshot) {
		if s.Phase == PhaseSend && s.Stored > 100 && enough != nil {
			close(enough)
			enough = nil
		}
		if !strings.Contains(s.Line(), fmt.Sprint(s.Sent, " sent")) {
			t.Errorf("%+v is shown as %q", s, s.Line())
		}
	}
	over := enough
	run, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	<-run.Ready()
	run.Mark("half way")
	<-over
	run.Halt()
	run.Halt() // again is nothing
	r, err := run.Wait()
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, &r)
	if len(r.Marks) != 1 || !strings.Contains(table(&r), "half way") {
		t.Errorf("marks %v", r.Marks)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	o := small(servertest.Addr())
	o.Settle = 200 * time.Millisecond
	run, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := run.Wait()
	if !errors.Is(err, ErrNoServer) || r.OK() {
		t.Errorf("error %v, ok %v; want %v", err, r.OK(), ErrNoServer)
	}
}

// What the admin API refuses is said at once.
func TestGroupsThatCannotBeMade(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Store: "memory", AdminToken: "a token of 16 bytes"})
	o := small(n.Addr())
	o.Groups, o.Admin = 1, n.AdminAddr()
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without the token: %v", err)
	}
	o.AdminToken, o.UserPrefix = "a token of 16 bytes", "x-"
	r := verify(t, o)
	wantClean(t, &r)
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a group that is there already: %v", err)
	}
}

// Another run with the same users goes on where the logs are: what was there before is none of its business.
func TestSameUsersAgain(t *testing.T) {
	t.Parallel()
	n := servertest.Start(t, server.Options{Store: "memory"})
	o := small(n.Addr())
	o.UserPrefix, o.All = "again-", true
	for range 2 {
		r := verify(t, o)
		wantClean(t, &r)
		if r.InLogs < r.Stored {
			t.Errorf("%d in the logs, %d stored", r.InLogs, r.Stored)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	key := []byte("a secret of 32 bytes or more than that")
	file := filepath.Join(t.TempDir(), "dev.key")
	if err := os.WriteFile(file, append([]byte("text:"), key...), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWT(auth.JWTConfig{KeyFiles: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	n := servertest.Start(t, server.Options{Store: "memory", Auth: j})
	o := small(n.Addr())
	run, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(); err == nil || !strings.Contains(err.Error(), "UNAUTHORIZED") {
		t.Errorf("without tokens: %v", err)
	}
	o.Token = func(user string) string {
		token, _ := auth.Grant{User: user, Rights: auth.Everything, Expires: time.Now().Add(time.Hour)}.Sign(key)
		return token
	}
	r := verify(t, o)
	wantClean(t, &r)
}
