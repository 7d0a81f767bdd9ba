package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"gannet/server"
	"gannet/server/servertest"
)

func newShell(t *testing.T, line string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line, os.Args[0])
	cmd.Env = environment()
	return cmd
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gannetd.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const everySetting = `
listen = "127.0.0.1:7100"
admin = "off"
data = "elsewhere"
node = "n1"
loops = 3
drain = "3s"
log_level = "warn"
hints = true
auth = "jwt"
auth-keys = ["/etc/a.key", "/etc/b.pem"]
auth_audience = ["chat"]
insecure = true
admin_token = "0123456789abcdef"
store = "memory"
store_cache = 2097152
store_memtable = 3145728
backup_dir = "/var/backups/gannet"

[limits]
connections = 101
max_frame = 102400
subscriptions = 103
sessions_per_user = 104
sends-per-second = 105
out_bytes = 106
out_total = 107
slow_reader = "108s"
topic_bytes = 109
states = 110
states_per_channel = 111
login_timeout = "112s"
frame_timeout = "113ms"
heartbeat_min = "114s"
heartbeat_max = "115s"
inbox = 116
auth_queue = 117
inbox_fanout_max = 118

[retention]
direct_age = "118h"
group_age = "119h"
topic_age = "120h"
all_age = "121h"
direct_count = 122
group_count = 123
topic_count = 124
all_count = 125
dead_letters = 126
`

// Every setting can be given in the file; a flag added later and forgotten here fails.
func TestFile(t *testing.T) {
	f, err := parse([]string{"--config", write(t, everySetting)})
	if err != nil {
		t.Fatal(err)
	}
	want := flags{
		Config: f.Config, Listen: "127.0.0.1:7100", Admin: "off", Data: "elsewhere", Node: "n1", Loops: 3, Drain: 3 * time.Second,
		LogLevel: "warn", Hints: true, Auth: "jwt", AuthKeys: []string{"/etc/a.key", "/etc/b.pem"}, AuthAudience: []string{"chat"},
		Insecure: true, AdminToken: "0123456789abcdef",
		Store: "memory", StoreCache: 2 << 20, StoreMemtable: 3 << 20, BackupDir: "/var/backups/gannet",
		Limits: limitFlags{
			Connections: 101, MaxFrame: 102400, Subscriptions: 103, SessionsPerUser: 104, SendsPerSecond: 105, OutBytes: 106, OutTotal: 107,
			SlowReader: 108 * time.Second, TopicBytes: 109, States: 110, StatesPerChannel: 111, LoginTimeout: 112 * time.Second,
			FrameTimeout: 113 * time.Millisecond, HeartbeatMin: 114 * time.Second, HeartbeatMax: 115 * time.Second, Inbox: 116, AuthQueue: 117, InboxFanoutMax: 118,
		},
		Retention: retentionFlags{
			DirectAge: 118 * time.Hour, GroupAge: 119 * time.Hour, TopicAge: 120 * time.Hour, AllAge: 121 * time.Hour,
			DirectCount: 122, GroupCount: 123, TopicCount: 124, AllCount: 125, DeadLetters: 126,
		},
	}
	if !reflect.DeepEqual(*f, want) {
		t.Errorf("got  %+v\nwant %+v", *f, want)
	}
	for _, part := range []reflect.Value{reflect.ValueOf(*f), reflect.ValueOf(f.Limits), reflect.ValueOf(f.Retention)} {
		for i := range part.NumField() {
			if name := part.Type().Field(i).Name; part.Field(i).IsZero() && name != "Version" && name != "Check" {
				t.Errorf("%s is not set by the file of this test", name)
			}
		}
	}
}

func TestFlagsReachTheOptions(t *testing.T) {
	f, err := parse([]string{"--config", write(t, strings.Replace(everySetting, `auth = "jwt"`, `auth = "open"`, 1)), "--admin", "127.0.0.1:7101"})
	if err != nil {
		t.Fatal(err)
	}
	f.AuthKeys = nil
	o, err := f.options(nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.Listen != f.Listen || o.Admin != f.Admin || o.AdminToken != f.AdminToken || o.Data != f.Data || o.Node != f.Node || o.Loops != f.Loops ||
		o.Store != f.Store || o.StoreCache != f.StoreCache || o.StoreMemtable != f.StoreMemtable || o.BackupDir != f.BackupDir ||
		o.Drain != f.Drain || !o.Insecure || o.AuthQueue != f.Limits.AuthQueue || o.Auth != nil {
		t.Errorf("options %+v", o)
	}
	// Each limit has a number of its own in the file, so equal fields are the same ones.
	limits, from := reflect.ValueOf(o.Limits), reflect.ValueOf(f.Limits)
	for i := range from.NumField() {
		name := from.Type().Field(i).Name
		if name == "AuthQueue" {
			continue
		}
		if to := limits.FieldByName(name); !to.IsValid() || !to.Equal(from.Field(i)) {
			t.Errorf("limit %s does not reach the options", name)
		}
	}
	if o.Retention != server.Retention(f.Retention) {
		t.Errorf("retention %+v", o.Retention)
	}
}

// Zero is what a person says for "for ever"; the server's zero is the default.
func TestRetentionWithoutEnd(t *testing.T) {
	f, err := parse([]string{"--retention-direct-age", "0", "--retention-all-age", "0s", "--retention-topic-count=0", "--retention-dead-letters=0"})
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.options(nil)
	want := server.Retention{
		DirectAge: -1, GroupAge: 720 * time.Hour, TopicAge: 168 * time.Hour, AllAge: -1,
		DirectCount: -1, GroupCount: -1, TopicCount: -1, AllCount: 100_000, DeadLetters: -1,
	}
	if err != nil || o.Retention != want {
		t.Errorf("%+v, %v, want %+v", o.Retention, err, want)
	}
}

// A flag goes before a variable, a variable before the file, the file before the default.
func TestPrecedence(t *testing.T) {
	file := write(t, "node = \"file\"\nloops = 1\ndrain = \"1s\"\n[limits]\ninbox = 100\nmax_frame = 5000\n")
	t.Setenv("GANNET_NODE", "variable")
	t.Setenv("GANNET_LOOPS", "2")
	t.Setenv("GANNET_LIMITS_INBOX", "200")
	f, err := parse([]string{"--config", file, "--node", "flag", "--limits-inbox=300"})
	if err != nil {
		t.Fatal(err)
	}
	if f.Node != "flag" || f.Loops != 2 || f.Drain != time.Second || f.Limits.Inbox != 300 || f.Limits.MaxFrame != 5000 || f.Data != "data" {
		t.Errorf("node %q, loops %d, drain %v, inbox %d, max_frame %d, data %q", f.Node, f.Loops, f.Drain, f.Limits.Inbox, f.Limits.MaxFrame, f.Data)
	}
	t.Setenv("GANNET_CONFIG", file)
	if f, err = parse(nil); err != nil || f.Node != "variable" || f.Drain != time.Second || f.Limits.Inbox != 200 {
		t.Errorf("with GANNET_CONFIG: %+v, %v", f, err)
	}
}

func TestBadFiles(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"lisen = \"127.0.0.1:7000\"\n", `"lisen"`},
		{"[limits]\ninbocks = 1\n", `"limits-inbocks"`},
		{"[limit]\ninbox = 1\n", `"limit-inbox"`},
		{"version = true\n", `"version"`},
		{"config = \"other.toml\"\n", `"config"`},
		{"check = true\n", `"check"`},
		{"store = \"redis\"\n", "store"},
		{"listen = \"a\"\n\nloops = = 2\n", "line 3"},
		{"listen = 127.0.0.1\n", "line 1"},
		{"node = \"a\"\nnode = \"b\"\n", "node"},
		{"loops = \"many\"\n", "loops"},
		{"drain = \"soon\"\n", "drain"},
		{"auth = \"maybe\"\n", "auth"},
		{"insecure = \"perhaps\"\n", "insecure"},
		{"\xff\xfe", "line 1"},
	} {
		_, err := parse([]string{"--config", write(t, c.text)})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: error %v, want one that says %q", c.text, err, c.says)
		}
	}
	if _, err := parse([]string{"--config", "/nowhere/gannetd.toml"}); err == nil || !strings.Contains(err.Error(), "/nowhere/gannetd.toml") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestBadCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--nonsense"}, "--nonsense"},
		{[]string{"serve"}, "serve"},
		{[]string{"--auth", "maybe"}, "auth"},
		{[]string{"--auth", "jwt"}, "--new-key"},
		{[]string{"--auth", "jwt", "--auth-keys", "/nowhere/a.key"}, "/nowhere/a.key"},
		{[]string{"--auth-keys", "a.key"}, "--auth jwt"},
		{[]string{"--listen", "0.0.0.0:7000"}, "--insecure"},
		{[]string{"--admin", "0.0.0.0:7001"}, "admin token"},
		{[]string{"--log-level", "loud"}, "log-level"},
		{[]string{"--limits-auth-queue=-1"}, "limits.auth_queue"},
		{[]string{"--limits-max-frame", "99999999"}, "limits.max_frame"},
		{[]string{"--loops", "x"}, "loops"},
		{[]string{"--store", "disk"}, "store"},
		{[]string{"--retention-topic-age", "59s"}, "retention.topic_age"},
		{[]string{"--retention-topic-age", "a week"}, "retention-topic-age"},
		{[]string{"--retention-direct-age=-1h"}, "retention-direct-age"},
		{[]string{"--retention-all-count=-1"}, "retention-all-count"},
		{[]string{"--retention-dead-letters", "1000001"}, "retention.dead_letters"},
		{[]string{"--store-cache", "5"}, "store_cache"},
		{[]string{"--limits-inbox-fanout-max", "10001"}, "limits.inbox_fanout_max"},
		{[]string{"--store-memtable", "5"}, "store_memtable"},
		{[]string{"--backup-dir", "backups"}, "backup_dir"},
	} {
		code, stdout, stderr := gannetd(t, nil, append([]string{"--data", t.TempDir()}, c.args...)...)
		if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "gannetd: ") || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "goroutine") {
			t.Errorf("%v: exit code %d, %q, want 1 and an error that says %q", c.args, code, stderr, c.says)
		}
	}
}

// The help names every flag with what it is for, and the variable and the key that are the same.
func TestHelp(t *testing.T) {
	code, help, stderr := gannetd(t, nil, "--help")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	kebab := regexp.MustCompile(`([a-z])([A-Z])`)
	var check func(prefix string, of reflect.Type)
	check = func(prefix string, of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			if f.Tag.Get("prefix") != "" {
				check(f.Tag.Get("prefix"), f.Type)
				continue
			}
			name := "--" + prefix + strings.ToLower(kebab.ReplaceAllString(f.Name, "$1-$2"))
			if !strings.Contains(help, name) {
				t.Errorf("--help does not mention %s", name)
			}
			if f.Tag.Get("help") == "" {
				t.Errorf("%s has no help", name)
			}
		}
	}
	check("", reflect.TypeFor[flags]())
	for _, want := range []string{"GANNET_LISTEN", "[limits]", "127.0.0.1:7000"} {
		if !strings.Contains(help, want) {
			t.Errorf("--help does not mention %s", want)
		}
	}
	for line := range strings.Lines(help) {
		if len([]rune(line)) > 140 {
			t.Errorf("a line of %d characters: %q", len(line), line)
		}
	}
	if code, out, _ := gannetd(t, nil, "--version"); code != 0 || strings.TrimSpace(out) != version {
		t.Errorf("--version: %d %q", code, out)
	}
}

func TestHints(t *testing.T) {
	p := start(t, 0, []string{"GANNET_HINTS=true"})
	for {
		line, err := p.stdout.ReadString('\n')
		if err != nil {
			t.Fatalf("no hints: %v", err)
		}
		if strings.Contains(line, "gannet chat --addr "+p.listen+" --user bob") {
			break
		}
	}
	servertest.Login(t, p.listen, "bob", "d").Ping()
}
