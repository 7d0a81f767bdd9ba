package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// call asks the admin interface; the answer is its status and body.
func call(t testing.TB, n *servertest.Node, method, path, body string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.AdminAddr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, f := range change {
		f(r)
	}
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, readAll(t, res.Body)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func decoded[T any](t testing.TB, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

func TestAdminEndpoints(t *testing.T) {
	n := servertest.Start(t, server.Options{Node: "n1", Loops: 2})
	servertest.Login(t, n.Addr(), "alice", "d")
	eventually(t, "the login is published", func() bool { return n.Stats().Sessions == 1 })
	for path, want := range map[string]string{
		"/": "POST /v1/publish", "/healthz": "ok", "/readyz": `"status":"ready"`, "/metrics": "gannet_sessions 1\n",
		"/v1/node": `"node":"n1"`, "/v1/sessions?user=alice": `"device":"d"`,
		"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "gnet", "/debug/pprof/heap?debug=1": "heap profile",
		"/debug/pprof/symbol": "num_symbols", "/debug/pprof/cmdline": "", "/debug/pprof/profile?seconds=1": "",
		"/debug/pprof/trace?seconds=0.1": "",
	} {
		if code, body := call(t, n, "GET", path, ""); code != http.StatusOK || !strings.Contains(body, want) || body == "" {
			t.Errorf("GET %s: %d %.200q, want %q in it", path, code, body, want)
		}
	}
	_, body := call(t, n, "GET", "/v1/node", "")
	info := decoded[map[string]any](t, body)
	for key, want := range map[string]any{"connections": 1.0, "sessions": 1.0, "loops": 2.0, "logins": 1.0, "draining": false, "listen": n.Addr()} {
		if info[key] != want {
			t.Errorf("/v1/node says %s %v, want %v", key, info[key], want)
		}
	}
	if drops, ok := info["dropped"].(map[string]any); !ok || drops["slow_reader"] != 0.0 {
		t.Errorf("/v1/node: dropped %v", info["dropped"])
	}
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/v1/unknown", 404}, {"GET", "/favicon.ico", 404},
		{"POST", "/healthz", 405}, {"POST", "/metrics", 405}, {"GET", "/v1/kick", 405}, {"GET", "/v1/publish", 405},
		{"DELETE", "/v1/sessions", 405}, {"PUT", "/v1/publish", 405}, {"POST", "/debug/pprof/profile", 405},
	} {
		if code, body := call(t, n, c.method, c.path, ""); code != c.code {
			t.Errorf("%s %s: %d %q, want %d", c.method, c.path, code, body, c.code)
		}
	}
}

func TestAdminRefusesBadRequests(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	users := func(count int) string {
		names := make([]string, count)
		for i := range names {
			names[i] = fmt.Sprint("user", i)
		}
		b, _ := json.Marshal(map[string]any{"users": names})
		return string(b)
	}
	for _, c := range []struct {
		name, path, body string
		code             int
		says             string
	}{
		{"no JSON", "/v1/kick", "user=alice", 400, "reading the request"},
		{"cut JSON", "/v1/kick", `{"user":"al`, 400, "reading the request"},
		{"two values", "/v1/kick", `{"user":"alice"}{"user":"bob"}`, 400, "more than one"},
		{"unknown field", "/v1/kick", `{"usr":"alice"}`, 400, "usr"},
		{"wrong type", "/v1/kick", `{"user":7}`, 400, "reading the request"},
		{"nobody", "/v1/kick", `{}`, 400, "name a user"},
		{"invalid user", "/v1/kick", `{"user":"a\nb"}`, 400, "name a user"},
		{"invalid device", "/v1/kick", `{"user":"alice","device":"\u0000"}`, 400, "name a user"},
		{"body of 5 MiB", "/v1/publish", `{"text":"` + strings.Repeat("x", 5<<20) + `"}`, 413, "longer than"},
		{"10,001 users", "/v1/sessions", users(server.AdminUsers + 1), 400, "10000"},
		{"no users", "/v1/sessions", `{"users":[]}`, 400, "name 1 to"},
		{"no kind", "/v1/publish", `{"name":"t","text":"x"}`, 400, "kind"},
		{"unknown kind", "/v1/publish", `{"kind":"everyone","text":"x"}`, 400, "kind"},
		{"text and payload", "/v1/publish", `{"kind":"topic","name":"t","text":"x","payload":"eA=="}`, 400, "either"},
		{"no base64", "/v1/publish", `{"kind":"topic","name":"t","payload":"?"}`, 400, "reading the request"},
		{"content 256", "/v1/publish", `{"kind":"topic","name":"t","content":256}`, 400, "reading the request"},
		{"group", "/v1/publish", `{"kind":"group","name":"g","text":"x"}`, 404, "NOT_FOUND"},
		{"no name", "/v1/publish", `{"kind":"topic","text":"x"}`, 400, "INVALID"},
		{"long name", "/v1/publish", `{"kind":"topic","name":"` + strings.Repeat("n", 65) + `","text":"x"}`, 400, "INVALID"},
		{"invalid sender", "/v1/publish", `{"kind":"topic","name":"t","sender":"a\u001fb","text":"x"}`, 400, "INVALID"},
		{"long tag", "/v1/publish", `{"kind":"topic","name":"t","text":"x","tags":["` + strings.Repeat("t", 65) + `"]}`, 400, "tags"},
		{"empty tag", "/v1/publish", `{"kind":"topic","name":"t","text":"x","tags":[""]}`, 400, "INVALID"},
		{"nine tags", "/v1/publish", `{"kind":"topic","name":"t","text":"x","tags":["1","2","3","4","5","6","7","8","9"]}`, 400, "INVALID"},
		{"over max_frame", "/v1/publish", `{"kind":"topic","name":"t","text":"` + strings.Repeat("x", codec.DefaultLimit+1) + `"}`, 413, "TOO_LARGE"},
		{"GET without a user", "", "", 400, "name 1 to"},
	} {
		method, path := "POST", c.path
		if path == "" {
			method, path = "GET", "/v1/sessions"
		}
		if code, body := call(t, n, method, path, c.body); code != c.code || !strings.Contains(body, c.says) || !strings.Contains(body, "{") {
			t.Errorf("%s: %d %.200q, want %d and %q", c.name, code, body, c.code, c.says)
		}
	}
	if code, _ := call(t, n, "POST", "/v1/kick", `{"user":"alice"}`, header("Content-Type", "text/plain")); code != 415 {
		t.Errorf("a form that a web page can send without asking: %d, want 415", code)
	}
	if code, body := call(t, n, "POST", "/v1/sessions", users(server.AdminUsers)); code != 200 || !strings.HasPrefix(body, `{"online":0,`) {
		t.Errorf("10,000 users: %d %.100q", code, body)
	}
	if m := metricsOf(t, n); m["gannet_panics_total"] != 0 {
		t.Errorf("%v panics", m["gannet_panics_total"])
	}
}

// Without a token only requests that name this machine are served: a web page elsewhere could give its own name our address.
func TestAdminRebinding(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	for name, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:7001": 200, "localhost:80": 200, "localhost": 200, "[::1]:7001": 200, "[::1]": 200,
		"evil.example": 403, "evil.example:7001": 403, "127.0.0.1.evil.example": 403, "192.0.2.1": 403, "localhost.evil.example": 403,
	} {
		for _, path := range []string{"/metrics", "/v1/node", "/v1/sessions?user=a", "/debug/pprof/cmdline"} {
			if code, _ := call(t, n, "GET", path, "", host(name)); code != want {
				t.Errorf("%s as %q: %d, want %d", path, name, code, want)
			}
		}
	}
	if code, _ := call(t, n, "POST", "/v1/kick", `{"user":"alice"}`, host("evil.example")); code != 403 {
		t.Errorf("kick: %d, want 403", code)
	}
	if code, _ := call(t, n, "GET", "/healthz", "", host("probe.example")); code != 200 {
		t.Errorf("a probe by another name: %d, want 200", code)
	}
}

func TestAdminToken(t *testing.T) {
	n := servertest.Start(t, server.Options{AdminToken: "0123456789abcdef"})
	for _, path := range []string{"/metrics", "/v1/node", "/v1/sessions?user=a", "/debug/pprof/", "/debug/pprof/heap"} {
		for _, c := range []struct {
			value string
			code  int
		}{
			{"", 401}, {"Bearer ", 401}, {"Bearer 0123456789abcde", 401}, {"Bearer 0123456789abcdef0", 401}, {"Basic 0123456789abcdef", 401},
			{"Bearer 0123456789abcdef", 200},
		} {
			code, body := call(t, n, "GET", path, "", header("Authorization", c.value), host("any.example"))
			if code != c.code {
				t.Errorf("%s with %q: %d, want %d", path, c.value, code, c.code)
			}
			if c.code == 401 && strings.Contains(body, "0123456789abcdef") {
				t.Errorf("the answer repeats the token: %q", body)
			}
		}
	}
	if code, _ := call(t, n, "POST", "/v1/publish", `{"kind":"all","text":"x"}`); code != 401 {
		t.Errorf("publish without the token: %d", code)
	}
	for _, path := range []string{"/healthz", "/readyz", "/"} {
		if code, _ := call(t, n, "GET", path, ""); code != 200 {
			t.Errorf("%s without the token: %d", path, code)
		}
	}
}

func TestAdminSessions(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	a0, _ := onBothLoops(t, n, "alice")
	a0.Sub("t")
	servertest.Login(t, n.Addr(), "bob", "phone")
	type answer struct {
		Online int
		Users  map[string][]struct {
			User, Device, Remote string
			Session              uint64
			Heartbeat            uint16 `json:"heartbeat_seconds"`
			Subscriptions        int
			LastFrame            time.Time `json:"last_frame"`
		}
	}
	for _, ask := range []func() (int, string){
		func() (int, string) {
			return call(t, n, "GET", "/v1/sessions?user=alice&user=bob&user=nobody&user=alice", "")
		},
		func() (int, string) {
			return call(t, n, "POST", "/v1/sessions", `{"users":["alice","bob","nobody","alice","alice"]}`)
		},
	} {
		code, body := ask()
		got := decoded[answer](t, body)
		if code != 200 || got.Online != 2 || len(got.Users["alice"]) != 2 || len(got.Users["bob"]) != 1 || got.Users["nobody"] == nil || len(got.Users["nobody"]) != 0 {
			t.Fatalf("%d %s", code, body)
		}
		b := got.Users["bob"][0]
		if b.User != "bob" || b.Device != "phone" || !strings.HasPrefix(b.Remote, "127.0.0.1:") || b.Heartbeat != 60 || b.Session == 0 ||
			time.Since(b.LastFrame).Abs() > time.Minute {
			t.Errorf("bob's session: %+v", b)
		}
		if s := got.Users["alice"][0].Subscriptions + got.Users["alice"][1].Subscriptions; s != 1 {
			t.Errorf("alice has %d subscriptions, want 1", s)
		}
	}
}

func TestAdminKick(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	a0, a1 := onBothLoops(t, n, "alice")
	phone := servertest.Login(t, n.Addr(), "bob", "phone")
	tablet := servertest.Login(t, n.Addr(), "bob", "tablet")
	if code, body := call(t, n, "POST", "/v1/kick", `{"user":"alice","reason":"spam"}`); code != 200 || body != "{\"sessions\":2}\n" {
		t.Errorf("%d %s", code, body)
	}
	for _, c := range []*servertest.Conn{a0, a1} {
		if b := c.Bye(codec.CodeKicked); string(b.Reason) != "spam" || b.Retry != 0 {
			t.Errorf("BYE %+v", b)
		}
	}
	if code, _ := call(t, n, "POST", "/v1/kick", `{"user":"bob","device":"phone"}`); code != 200 {
		t.Errorf("%d", code)
	}
	phone.Bye(codec.CodeKicked)
	tablet.Ping()
	if code, body := call(t, n, "POST", "/v1/kick", `{"user":"nobody"}`); code != 200 || body != "{\"sessions\":0}\n" {
		t.Errorf("%d %s", code, body)
	}
}

func TestAdminPublish(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2, Node: "n1"})
	a0, a1 := onBothLoops(t, n, "alice")
	bob := servertest.Login(t, n.Addr(), "bob", "d")
	a0.Sub("news")
	a1.Sub("news", "red")
	publish := func(body string) {
		t.Helper()
		code, answer := call(t, n, "POST", "/v1/publish", body)
		if code != 200 || !strings.Contains(answer, `"code":"OK"`) {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	msg := func(c *servertest.Conn, kind codec.Kind, name, sender, payload string, content uint8) {
		t.Helper()
		m := c.Msg()
		if m.Kind != kind || string(m.Name) != name || string(m.Sender) != sender || string(m.Payload) != payload || m.Content != content {
			t.Errorf("MSG %+v, payload %q", m, m.Payload)
		}
	}
	publish(`{"kind":"direct","name":"alice","sender":"system","text":"hello"}`)
	pair := string(codec.AppendPair(nil, []byte("alice"), []byte("system")))
	msg(a0, codec.KindDirect, pair, "system", "hello", codec.ContentText)
	msg(a1, codec.KindDirect, pair, "system", "hello", codec.ContentText)
	publish(`{"kind":"topic","name":"news","payload":"AP8=","content":200,"urgent":true}`)
	msg(a0, codec.KindTopic, "news", "n1", "\x00\xff", 200)
	publish(`{"kind":"topic","name":"news","text":"red one","tags":["red","blue"]}`)
	msg(a0, codec.KindTopic, "news", "n1", "red one", codec.ContentText)
	msg(a1, codec.KindTopic, "news", "n1", "red one", codec.ContentText)
	publish(`{"kind":"all","text":"everyone"}`)
	for _, c := range []*servertest.Conn{a0, a1, bob} {
		msg(c, codec.KindAll, "all", "n1", "everyone", codec.ContentText)
	}
	publish(`{"kind":"direct","name":"nobody","text":"x"}`)
	publish(`{"kind":"topic","name":"nobody-listens","text":"x"}`)
	for _, c := range []*servertest.Conn{a0, a1, bob} {
		c.Ping()
	}
}

// Who opens connections to the admin port and says nothing takes a bounded number of descriptors.
func TestAdminConnectionsAreBounded(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	const many = 300
	for range many {
		c, err := net.Dial("tcp", n.AdminAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	servertest.Login(t, n.Addr(), "alice", "d").Ping()
	if got := n.AdminOpen(); got > server.AdminConns {
		t.Errorf("%d admin connections are open, at most %d may", got, server.AdminConns)
	}
}

// Every metric has a value, and after traffic the values say what was done.
func TestMetrics(t *testing.T) {
	o := withJWT(t)
	o.Handlers.Message = func(server.Message) {}
	n := servertest.Start(t, o)
	a, _, _ := loginExpiring(t, n.Addr(), "alice", "d", tokenFor(t, "alice"))
	b, _, _ := loginExpiring(t, n.Addr(), "bob", "d", tokenFor(t, "bob"))
	b.Sub("t")
	for range 10 {
		a.Send(topicSend(1, "t", "x"))
		a.SendAck()
		b.Msg()
	}
	a.Send(topicSend(1, "nobody", "x"))
	a.SendAck()
	a.Send(codec.AppendBye(nil, codec.Bye{}))
	a.EOF()
	eventually(t, "the end is counted", func() bool { return n.Stats().ClosedByPeer == 1 && n.Stats().Connections == 1 })
	m := metricsOf(t, n)
	for name, want := range map[string]float64{
		"gannet_connections": 1, "gannet_sessions": 1, "gannet_subscriptions": 1, "gannet_rooms": 1, "gannet_states": 0,
		"gannet_backlogged_sessions": 0, "gannet_backlog_bytes": 0, "gannet_insecure": 0,
		"gannet_connections_opened_total": 2, "gannet_logins_total": 2, "gannet_messages_in_total": 11, "gannet_deliveries_total": 10,
		"gannet_pings_sent_total": 0, "gannet_closed_by_peer_total": 1, `gannet_dropped_total{reason="slow_reader"}`: 0,
		`gannet_connections_refused_total{reason="full"}`: 0, `gannet_connections_refused_total{reason="draining"}`: 0,
		"gannet_panics_total": 0, "gannet_wake_errors_total": 0, "gannet_memory_trims_total": 0,
		"gannet_delivery_seconds_count": 10, `gannet_delivery_seconds_bucket{le="+Inf"}`: 10,
		`gannet_inbox_capacity{loop="0"}`: 16384, `gannet_inbox_capacity{loop="1"}`: 16384,
		`gannet_auth_total{result="ok"}`: 2, `gannet_auth_total{result="refused"}`: 0, `gannet_auth_total{result="failed"}`: 0,
		`gannet_auth_total{result="queue_full"}`: 0, `gannet_pool_waiting{pool="auth"}`: 0,
		"gannet_handler_waiting": 0, "gannet_handler_dropped_total": 0,
	} {
		if got, ok := m[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %v), want %v", name, got, ok, want)
		}
	}
	for name, least := range map[string]float64{
		"gannet_connections_limit": 1000, "gannet_session_memory_bytes": 10_000, "gannet_frames_in_total": 15, "gannet_bytes_in_total": 500,
		"gannet_bytes_out_total": 500, "gannet_writes_total": 20, "gannet_fanout_runs_total": 1, "gannet_fanout_slices_total": 0,
		"gannet_delivery_seconds_sum": 1e-9, `gannet_loop_lag_seconds{loop="0"}`: 0, `gannet_loop_lag_max_seconds{loop="1"}`: 0,
		`gannet_loop_late_ticks_total{loop="0"}`: 0, `gannet_inbox_depth{loop="0"}`: 0, `gannet_pool_workers{pool="auth"}`: 1,
		`gannet_pool_busy{pool="auth"}`: 0, "go_goroutines": 1,
	} {
		if got, ok := m[name]; !ok || got < least {
			t.Errorf("%s is %v (there: %v), want at least %v", name, got, ok, least)
		}
	}
	if c := m[`gannet_loop_connections{loop="0"}`] + m[`gannet_loop_connections{loop="1"}`]; c != 1 {
		t.Errorf("the loops have %v connections, want 1", c)
	}
	if _, ok := m[`gannet_dropped_total{reason="no_subscribers"}`]; !ok {
		t.Error("no counter for messages that nobody listens to")
	}
}

// Open logins on an address that others can reach are refused unless they are meant, and then everyone who looks is told.
func TestOpenToOthers(t *testing.T) {
	listen := strings.Replace(servertest.Addr(), "127.0.0.1", "0.0.0.0", 1)
	if _, err := servertest.New(server.Options{Listen: listen}); err == nil || !strings.Contains(err.Error(), "--insecure") {
		t.Errorf("error %v, want one that names --insecure", err)
	}
	n := servertest.Start(t, server.Options{Listen: listen, Insecure: true})
	if code, body := call(t, n, "GET", "/readyz", ""); code != 200 || !strings.Contains(body, "insecure") {
		t.Errorf("/readyz: %d %s, want a warning", code, body)
	}
	if v := metricsOf(t, n)["gannet_insecure"]; v != 1 {
		t.Errorf("gannet_insecure is %v", v)
	}
	servertest.Login(t, strings.Replace(listen, "0.0.0.0", "127.0.0.1", 1), "alice", "d").Ping()

	// Not on loopback, and not with credentials.
	safe := servertest.Start(t, server.Options{Insecure: true})
	if _, body := call(t, safe, "GET", "/readyz", ""); strings.Contains(body, "insecure") {
		t.Errorf("/readyz on loopback: %s", body)
	}
	o := withJWT(t)
	o.Listen = strings.Replace(servertest.Addr(), "127.0.0.1", "0.0.0.0", 1)
	checked := servertest.Start(t, o)
	if _, body := call(t, checked, "GET", "/readyz", ""); strings.Contains(body, "insecure") {
		t.Errorf("/readyz with credentials: %s", body)
	}
}

// An admin client that never ends its request does not keep the server from ending.
func TestAdminDoesNotHoldUpTheEnd(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	c, err := net.Dial("tcp", n.AdminAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/kick HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("ending took %v", d)
	}
}
