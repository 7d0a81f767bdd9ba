package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/store"
	"gannet/store/memory"
)

func TestAdminGroups(t *testing.T) {
	n := servertest.Start(t, server.Options{Node: "n1"})
	long := strings.Repeat("ü", codec.MaxID/2)
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"POST", "/v1/groups", `{"name":"team","owner":"anna","members":["bob","anna"]}`, 201, `{"group":"team","members":2,"seq":1}`},
		{"POST", "/v1/groups", `{"name":"team","owner":"anna"}`, 409, `group \"team\" exists`},
		{"POST", "/v1/groups/team/members", `{"users":["carl","dora"],"role":"admin","by":"desk"}`, 200, `{"group":"team","members":4,"seq":2}`},
		{"POST", "/v1/groups/team/members", `{"users":["carl","anna"]}`, 200, `{"group":"team","members":4,"seq":0}`},
		{"PUT", "/v1/groups/team/members/bob", `{"role":"owner"}`, 200, `"seq":3`},
		{"PUT", "/v1/groups/team/members/emil", `{"role":"owner"}`, 404, `user \"emil\" is no member`},
		{"DELETE", "/v1/groups/team/members/anna?by=desk", "", 200, `{"group":"team","members":3,"seq":4}`},
		{"DELETE", "/v1/groups/team/members/anna", "", 200, `"seq":0`},
		{"DELETE", "/v1/groups/team/members/bob", "", 409, "no owner"},
		{"PUT", "/v1/groups/team/members/bob", `{"role":"member"}`, 409, "no owner"},
		{"PATCH", "/v1/groups/team", `{"post":"admin"}`, 200, `"seq":5`},
		{"PATCH", "/v1/groups/team", `{"open":true}`, 200, `"seq":6`},
		{"PATCH", "/v1/groups/team", `{"post":"admin","open":true}`, 200, `"seq":0`},
		{"GET", "/v1/groups/team", "", 200, `"head":6,"large":false,"members":3,"next":"","open":true,"post":"admin","since":1,"users":[` +
			`{"user":"bob","role":"owner","joined":1},{"user":"carl","role":"admin","joined":2},{"user":"dora","role":"admin","joined":2}]}`},
		{"GET", "/v1/groups/team?limit=2", "", 200, `"next":"carl"`},
		{"GET", "/v1/groups/team?limit=2&after=carl", "", 200, `"users":[{"user":"dora","role":"admin","joined":2}]}`},
		{"GET", "/v1/users/carl/groups", "", 200, `{"groups":["team"],"user":"carl"}`},
		{"GET", "/v1/users/anna/groups", "", 200, `{"groups":[],"user":"anna"}`},
		{"DELETE", "/v1/groups/team", "", 200, `{"group":"team","members":0,"seq":7}`},
		{"DELETE", "/v1/groups/team", "", 404, `no group \"team\"`},
		{"GET", "/v1/groups/team", "", 404, `no group \"team\"`},
		{"GET", "/v1/users/carl/groups", "", 200, `"groups":[]`},
		{"POST", "/v1/groups", `{"name":"team","owner":"carl","open":true,"post":"owner"}`, 201, `"seq":8`},

		// Names that a path has to escape.
		{"POST", "/v1/groups", `{"name":"a/b ?","owner":".."}`, 201, `"seq":1`},
		{"GET", "/v1/groups/a%2Fb%20%3F", "", 200, `"user":".."`},
		{"GET", "/v1/users/%2E%2E/groups", "", 200, `"groups":["a/b ?"]`},
		{"POST", "/v1/groups", fmt.Sprintf(`{"name":%q,"owner":%q}`, long, long), 201, `"seq":1`},
		{"DELETE", "/v1/groups/" + long, "", 200, `"seq":2`},
	} {
		if code, body := call(t, n, c.method, c.path, c.body); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %s: %d %s, want %d and %s", c.method, c.path, c.body, code, body, c.code, c.says)
		}
	}
	if m := metricsOf(t, n); m["gannet_panics_total"] != 0 {
		t.Errorf("%v panics", m["gannet_panics_total"])
	}
}

func TestAdminGroupsBadRequests(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	if code, body := call(t, n, "POST", "/v1/groups", `{"name":"g","owner":"anna"}`); code != 201 {
		t.Fatal(code, body)
	}
	users := func(count int) string {
		names := make([]string, count)
		for i := range names {
			names[i] = fmt.Sprint("user", i)
		}
		b, _ := json.Marshal(names)
		return string(b)
	}
	long := strings.Repeat("n", codec.MaxID+1)
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"POST", "/v1/groups", `{}`, 400, "name of a group"},
		{"POST", "/v1/groups", `{"name":"h"}`, 400, "owner"},
		{"POST", "/v1/groups", `{"name":"` + long + `","owner":"a"}`, 400, "1 to 64 bytes"},
		{"POST", "/v1/groups", `{"name":"a\u001fb","owner":"a"}`, 400, "control"},
		{"POST", "/v1/groups", `{"name":"h","owner":"a\n"}`, 400, "no user"},
		{"POST", "/v1/groups", `{"name":"h","owner":"a","members":["b",""]}`, 400, "no user"},
		{"POST", "/v1/groups", `{"name":"h","owner":"a","by":"\u0000"}`, 400, "who asked"},
		{"POST", "/v1/groups", `{"name":"h","owner":"a","post":"everyone"}`, 400, `post: \"everyone\" is not`},
		{"POST", "/v1/groups", `{"name":"h","owner":"a","role":"none"}`, 400, `role: \"none\" is not`},
		{"POST", "/v1/groups", `{"name":"h","owner":"a","members":` + users(10_000) + `}`, 400, "at most 10000"},
		{"POST", "/v1/groups", `{"name":"h","user":"a"}`, 400, "unknown field"},
		{"POST", "/v1/groups", `{"name":"h","owner":7}`, 400, "reading the request"},
		{"POST", "/v1/groups", `{"name":"h"`, 400, "reading the request"},
		{"POST", "/v1/groups", `{"name":"` + strings.Repeat("x", 5<<20) + `"}`, 413, "longer than"},
		{"POST", "/v1/groups/g/members", `{"users":[]}`, 400, "name a user"},
		{"POST", "/v1/groups/g/members", `{"users":` + users(10_001) + `}`, 400, "at most 10000"},
		{"POST", "/v1/groups/g/members", `{"users":["` + long + `"]}`, 400, "no user"},
		{"POST", "/v1/groups/g/members", `{"users":["b"],"role":"boss"}`, 400, "boss"},
		{"POST", "/v1/groups/h/members", `{"users":["b"]}`, 404, `no group \"h\"`},
		{"POST", "/v1/groups/" + long + "/members", `{"users":["b"]}`, 400, "1 to 64 bytes"},
		{"PUT", "/v1/groups/g/members/anna", `{}`, 400, "role"},
		{"PUT", "/v1/groups/g/members/anna", `{"role":""}`, 400, "role"},
		{"PUT", "/v1/groups/g/members/anna", ``, 400, "reading the request"},
		{"PUT", "/v1/groups/g/members/%00", `{"role":"owner"}`, 400, "no user"},
		{"PUT", "/v1/groups/h/members/anna", `{"role":"owner"}`, 404, `no group \"h\"`},
		{"PATCH", "/v1/groups/g", `{}`, 400, "say who may post"},
		{"PATCH", "/v1/groups/g", `{"post":"nobody"}`, 400, "nobody"},
		{"PATCH", "/v1/groups/g", `{"open":"yes"}`, 400, "reading the request"},
		{"PATCH", "/v1/groups/h", `{"open":true}`, 404, `no group \"h\"`},
		{"GET", "/v1/groups/" + long, "", 404, "no group"},
		{"GET", "/v1/groups/%FF", "", 404, "no group"},
		{"GET", "/v1/groups/g?limit=0", "", 400, "limit"},
		{"GET", "/v1/groups/g?limit=10001", "", 400, "limit"},
		{"GET", "/v1/groups/g?limit=x", "", 400, "limit"},
		{"GET", "/v1/users/" + long + "/groups", "", 400, "no user"},
		{"DELETE", "/v1/groups/g/members/a%0Ab", "", 400, "no user"},
		{"DELETE", "/v1/groups/g/members/anna?by=%00", "", 400, "who asked"},
		{"DELETE", "/v1/groups/h", "", 404, `no group \"h\"`},
	} {
		if code, body := call(t, n, c.method, c.path, c.body); code != c.code || !strings.Contains(body, c.says) || !strings.HasPrefix(body, `{"error":`) {
			t.Errorf("%s %.60s %.60s: %d %.200s, want %d and %q", c.method, c.path, c.body, code, body, c.code, c.says)
		}
	}
	for _, path := range []string{"/v1/groups", "/v1/groups/g/members"} {
		if code, _ := call(t, n, "POST", path, `{"name":"h","owner":"a"}`, header("Content-Type", "text/plain")); code != 415 {
			t.Errorf("%s as a form that a web page can send: %d, want 415", path, code)
		}
	}
	for _, c := range [][2]string{{"GET", "/v1/groups"}, {"PUT", "/v1/groups/g"}, {"GET", "/v1/groups/g/members"}, {"POST", "/v1/users/anna/groups"}} {
		if code, _ := call(t, n, c[0], c[1], ""); code != 405 {
			t.Errorf("%s %s: %d, want 405", c[0], c[1], code)
		}
	}
	if _, body := call(t, n, "GET", "/v1/groups/g", ""); !strings.Contains(body, `"head":1,`) {
		t.Errorf("a bad request left an entry: %s", body)
	}
}

func TestAdminGroupsNeedTheToken(t *testing.T) {
	n := servertest.Start(t, server.Options{AdminToken: "0123456789abcdef"})
	for _, c := range [][2]string{
		{"POST", "/v1/groups"}, {"GET", "/v1/groups/g"}, {"PATCH", "/v1/groups/g"}, {"DELETE", "/v1/groups/g"}, {"POST", "/v1/groups/g/members"},
		{"PUT", "/v1/groups/g/members/u"}, {"DELETE", "/v1/groups/g/members/u"}, {"GET", "/v1/users/u/groups"},
	} {
		if code, _ := call(t, n, c[0], c[1], ""); code != 401 {
			t.Errorf("%s %s without the token: %d", c[0], c[1], code)
		}
	}
}

// brokenStore is a store whose disk breaks when a test says so.
type brokenStore struct {
	store.Store
	broken *atomic.Bool
}

func (s brokenStore) Append(batch []store.Message, results []store.Result) error {
	if s.broken.Load() {
		return fmt.Errorf("%w: input/output error", store.ErrFailed)
	}
	return s.Store.Append(batch, results)
}

// While the store is failed nothing is changed and the answer says why; what is there can be looked at.
func TestAdminGroupsWithoutStore(t *testing.T) {
	var broken atomic.Bool
	kept := memory.New(memory.Options{})
	n := servertest.Start(t, server.Options{OpenStore: func() (store.Store, error) {
		if broken.Load() {
			return nil, errors.New("input/output error")
		}
		return brokenStore{kept, &broken}, nil
	}})
	if code, body := call(t, n, "POST", "/v1/groups", `{"name":"g","owner":"anna"}`); code != 201 {
		t.Fatal(code, body)
	}
	broken.Store(true)
	for range 2 {
		for _, c := range [][3]string{
			{"POST", "/v1/groups", `{"name":"h","owner":"anna"}`}, {"PATCH", "/v1/groups/g", `{"post":"owner"}`}, {"DELETE", "/v1/groups/g", ""},
			{"POST", "/v1/groups/g/members", `{"users":["bob"]}`},
		} {
			if code, body := call(t, n, c[0], c[1], c[2]); code != http.StatusServiceUnavailable || !strings.Contains(body, "input/output error") {
				t.Errorf("%s %s: %d %s", c[0], c[1], code, body)
			}
		}
	}
}

// A session of a member hears of every change that concerns it, at its place among the messages.
func TestGroupChangesReachMembers(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	do := func(method, path, body string) {
		t.Helper()
		if code, answer := call(t, n, method, path, body); code != 200 && code != 201 {
			t.Fatalf("%s %s %s: %d %s", method, path, body, code, answer)
		}
	}
	members := map[string]*servertest.Conn{}
	for _, u := range []string{"anna", "bob", "carl"} {
		members[u] = servertest.Login(t, n.Addr(), u, "phone")
	}
	eventually(t, "all are logged in", func() bool { return n.Stats().Sessions == 3 })
	hear := func(users string, seq uint64, event uint8, says string) {
		t.Helper()
		for _, u := range strings.Fields(users) {
			m := nextMsg(members[u])
			tag, _ := m.Ext.Get(codec.TagEvent)
			if m.Seq != seq || len(tag) != 1 || tag[0] != event || string(m.Payload) != says || string(m.Name) != "team" || m.Flags != codec.MsgDurable {
				t.Errorf("%s heard %d, event %v, flags %x: %s; want %d, event %d: %s", u, m.Seq, tag, m.Flags, m.Payload, seq, event, says)
			}
		}
	}
	do("POST", "/v1/groups", `{"name":"team","owner":"anna","members":["bob"]}`)
	hear("anna bob", 1, 1, `{"event":"created","users":["anna","bob"],"role":"member","owner":"anna","post":"member","open":false,"by":"gannet"}`)
	do("POST", "/v1/groups/team/members", `{"users":["carl"],"by":"desk"}`)
	hear("anna bob carl", 2, 3, `{"event":"added","users":["carl"],"role":"member","by":"desk"}`)
	do("PUT", "/v1/groups/team/members/bob", `{"role":"admin"}`)
	hear("anna bob carl", 3, 5, `{"event":"role","users":["bob"],"role":"admin","by":"gannet"}`)
	do("PATCH", "/v1/groups/team", `{"post":"admin","open":true}`)
	hear("anna bob carl", 4, 6, `{"event":"policy","post":"admin","open":true,"by":"gannet"}`)
	do("DELETE", "/v1/groups/team/members/carl", "")
	hear("anna bob carl", 5, 4, `{"event":"removed","users":["carl"],"by":"gannet"}`)
	do("DELETE", "/v1/groups/team", "")
	hear("anna bob", 6, 2, `{"event":"deleted","by":"gannet"}`)
	carl := members["carl"]
	carl.Send(codec.AppendPing(nil, codec.Ping{}))
	if f := nextBut(carl, codec.TypePos); f.Type != codec.TypePong {
		t.Errorf("who was removed got %v after it", f.Type)
	}
}

// nextMsg is the next MSG.
func nextMsg(c *servertest.Conn) codec.Msg {
	m, _ := servertest.Read(nextBut(c, codec.TypePos), codec.TypeMsg, codec.ConsumeMsg)
	return m
}

// nextBut is the next frame of another type.
func nextBut(c *servertest.Conn, but codec.Type) codec.Frame {
	for {
		if f := c.Next(); f.Type != but {
			return f
		}
	}
}

// A group that grows while its members are here goes on without a hole for them.
func TestGroupGrowsUnderItsMembers(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	names := make([]string, 499)
	for i := range names {
		names[i] = fmt.Sprintf("user%03d", i)
	}
	first, _ := json.Marshal(map[string]any{"name": "team", "owner": "anna", "members": names})
	if code, body := call(t, n, "POST", "/v1/groups", string(first)); code != 201 {
		t.Fatal(code, body)
	}
	old, fresh := servertest.Login(t, n.Addr(), "anna", "phone"), servertest.Login(t, n.Addr(), "zoe", "phone")
	eventually(t, "both are logged in", func() bool { return n.Stats().Sessions == 2 })
	if code, body := call(t, n, "POST", "/v1/groups/team/members", `{"users":["zoe"]}`); code != 200 || !strings.Contains(body, `"members":501`) {
		t.Fatal(code, body)
	}
	if code, body := call(t, n, "POST", "/v1/publish", `{"kind":"group","name":"team","sender":"anna","text":"hello","durable":true}`); code != 200 {
		t.Fatal(code, body)
	}
	events := func(c *servertest.Conn, until string) map[uint64]string {
		heard := map[uint64]string{}
		for {
			m := nextMsg(c)
			tag, _ := m.Ext.Get(codec.TagEvent)
			heard[m.Seq] = fmt.Sprintf("%d %x", tag, m.Flags)
			if string(m.Payload) == until {
				return heard
			}
		}
	}
	heard := events(old, "hello")
	seqs := slices.Sorted(maps.Keys(heard))
	last := seqs[len(seqs)-1]
	if heard[last] != "[] 9" || heard[last-1] != "[3] 9" || heard[last-2] != "[7] 1" {
		t.Errorf("a member heard %v", heard)
	}
	if got := events(fresh, "hello"); len(got) != 2 || got[last] != "[] 9" || got[last-1] != "[3] 9" {
		t.Errorf("who was added heard %v", got)
	}
}

// The limit above which a group is read from its own log is the operator's.
func TestGroupFanoutLimit(t *testing.T) {
	n := servertest.Start(t, server.Options{Limits: server.Limits{InboxFanoutMax: 2}})
	for members, large := range map[string]string{`["bob"]`: `"large":false`, `["bob","carol"]`: `"large":true`} {
		name := fmt.Sprint("g", len(members))
		res, err := http.Post("http://"+n.AdminAddr()+"/v1/groups", "application/json",
			strings.NewReader(`{"name":"`+name+`","owner":"alice","members":`+members+`}`))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res, err = http.Get("http://" + n.AdminAddr() + "/v1/groups/" + name); err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, res.Body); !strings.Contains(body, large) {
			t.Errorf("%s with %s: %s, want %s", name, members, body, large)
		}
		res.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}
