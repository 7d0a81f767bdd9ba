package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/store"
	"gannet/store/memory"
)

// deadLetter is an entry of the list as the admin interface gives it.
type deadLetter struct {
	ID       uint64  `json:"id"`
	Reason   string  `json:"reason"`
	Died     uint64  `json:"died"`
	Sender   string  `json:"sender"`
	Receiver string  `json:"receiver"`
	Seq      uint64  `json:"seq"`
	Time     uint64  `json:"time"`
	Content  uint8   `json:"content"`
	Text     *string `json:"text"`
	Payload  []byte  `json:"payload"`
}

type deadList struct {
	Letters []deadLetter `json:"letters"`
	Next    uint64       `json:"next"`
	Total   uint64       `json:"total"`
}

// letters are the dead letters behind an ID.
func letters(t testing.TB, n *servertest.Node, query string) deadList {
	t.Helper()
	code, body := call(t, n, "GET", "/v1/dead-letters"+query, "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	return decoded[deadList](t, body)
}

// die has messages stored that nobody gets, and waits until they are dead letters.
func die(t testing.TB, n *servertest.Node, texts ...string) {
	t.Helper()
	before := letters(t, n, "").Total
	for _, text := range texts {
		body := fmt.Sprintf(`{"kind":"direct","name":"bob","sender":"ann","text":%q,"durable":true,"receipt":true,"ttl":1}`, text)
		if code, answer := call(t, n, "POST", "/v1/publish", body); code != http.StatusOK {
			t.Fatalf("%d %s", code, answer)
		}
	}
	eventually(t, "the letters are there", func() bool { return letters(t, n, "").Total == before+uint64(len(texts)) })
}

func TestDeadLetters(t *testing.T) {
	n := servertest.Start(t, server.Options{Node: "n1"})
	before := uint64(time.Now().UnixMilli())
	die(t, n, "one", `say "two"`, "three")
	binary := base64.StdEncoding.EncodeToString([]byte{0, 255})
	if code, body := call(t, n, "POST", "/v1/publish",
		`{"kind":"direct","name":"bob","sender":"ann","payload":"`+binary+`","content":200,"durable":true,"receipt":true,"ttl":1}`); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	eventually(t, "the fourth letter", func() bool { return letters(t, n, "").Total == 4 })

	list := letters(t, n, "")
	for i, want := range []string{"one", `say "two"`, "three", "\x00\xff"} {
		x := list.Letters[i]
		if string(x.Payload) != want || x.Reason != "ttl" || x.Sender != "ann" || x.Receiver != "bob" || x.Seq != uint64(i+1) ||
			x.Time < before || x.Died != x.Time+1000 || (x.Text == nil) != (x.Content == 200) || x.Text != nil && *x.Text != want {
			t.Errorf("letter %d is %+v", i, x)
		}
	}
	page := letters(t, n, "?limit=3")
	if len(page.Letters) != 3 || page.Next != list.Letters[2].ID || page.Total != 4 || list.Next != 0 {
		t.Errorf("a page of %d, next %d, total %d", len(page.Letters), page.Next, page.Total)
	}
	if rest := letters(t, n, fmt.Sprintf("?limit=3&after=%d", page.Next)); len(rest.Letters) != 1 || rest.Next != 0 || rest.Letters[0].ID != list.Letters[3].ID {
		t.Errorf("behind it %+v", rest)
	}

	// The receiver comes: what is sent again reaches it.
	bob := servertest.Login(t, n.Addr(), "bob", "phone")
	body, _ := json.Marshal(map[string]any{"ids": []uint64{list.Letters[1].ID, 12345}})
	if code, answer := call(t, n, "POST", "/v1/dead-letters/replay", string(body)); code != 200 || !strings.Contains(answer, `"missing":1,"refused":0,"sent":1`) {
		t.Errorf("replay: %d %s", code, answer)
	}
	await := func(want string) {
		t.Helper()
		for {
			f := bob.Next()
			if f.Type != codec.TypeMsg {
				continue
			}
			m, err := codec.ConsumeMsg(f)
			if _, ttl := m.Ext.Uint32(codec.TagTTL); err != nil || ttl || string(m.Payload) != want || string(m.Sender) != "ann" {
				t.Fatalf("bob got %+v, %v, want %q", m, err, want)
			}
			return
		}
	}
	await(`say "two"`)
	if code, answer := call(t, n, "DELETE", fmt.Sprintf("/v1/dead-letters?before=%d", list.Letters[0].Died+1), ""); code != 200 || !strings.Contains(answer, `"cleared":1`) {
		t.Errorf("clear: %d %s", code, answer)
	}
	if code, answer := call(t, n, "POST", "/v1/dead-letters/replay", `{"all":true}`); code != 200 || !strings.Contains(answer, `"sent":2`) {
		t.Errorf("replay of all: %d %s", code, answer)
	}
	await("three")
	await("\x00\xff")
	if got := letters(t, n, ""); got.Total != 0 || len(got.Letters) != 0 || got.Letters == nil {
		t.Errorf("left are %+v", got)
	}
	if code, answer := call(t, n, "DELETE", "/v1/dead-letters", ""); code != 200 || !strings.Contains(answer, `"cleared":0`) {
		t.Errorf("clearing nothing: %d %s", code, answer)
	}
	_, text := call(t, n, "GET", "/metrics", "")
	for _, want := range []string{
		"gannet_dead_letters 0\n", `gannet_dead_letters_added_total{reason="ttl"} 4` + "\n", "gannet_dead_letters_replayed_total 3\n",
		"gannet_dead_letters_cleared_total 1\n", "gannet_dead_letters_dropped_total 0\n", "gannet_retention_errors_total 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %q", want)
		}
	}
}

// What a device acknowledged in time is not dead; the same message to somebody who is away is.
func TestDeliveredIsNotDead(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	bob := servertest.Login(t, n.Addr(), "bob", "phone")
	for _, to := range []string{"bob", "carl"} {
		body := fmt.Sprintf(`{"kind":"direct","name":%q,"sender":"ann","text":"hi","durable":true,"receipt":true,"ttl":1}`, to)
		if code, answer := call(t, n, "POST", "/v1/publish", body); code != http.StatusOK {
			t.Fatalf("%d %s", code, answer)
		}
	}
	pos, got := uint64(0), false
	for pos == 0 || !got {
		switch f := bob.Next(); f.Type {
		case codec.TypeMsg:
			got = true
		case codec.TypePos:
			p, err := codec.ConsumePos(f)
			if err != nil {
				t.Fatal(err)
			}
			pos = p.InboxPos
		}
	}
	bob.Send(codec.AppendAck(nil, codec.Ack{Mode: codec.AckDelivered, InboxPos: pos}))
	eventually(t, "a letter", func() bool { return letters(t, n, "").Total > 0 })
	if list := letters(t, n, ""); len(list.Letters) != 1 || list.Letters[0].Receiver != "carl" {
		t.Errorf("letters %+v", list.Letters)
	}
}

func TestDeadLettersRefuseBadRequests(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	many := strings.TrimSuffix(strings.Repeat("1,", 1001), ",")
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"GET", "/v1/dead-letters?after=x", "", 400, "after"},
		{"GET", "/v1/dead-letters?after=-1", "", 400, "after"},
		{"GET", "/v1/dead-letters?after=18446744073709551616", "", 400, "after"},
		{"GET", "/v1/dead-letters?after=18446744073709551615", "", 200, `"letters":[]`},
		{"GET", "/v1/dead-letters?limit=0", "", 400, "limit"},
		{"GET", "/v1/dead-letters?limit=1001", "", 400, "limit"},
		{"GET", "/v1/dead-letters?limit=", "", 400, "limit"},
		{"GET", "/v1/dead-letters?limit=1&limit=2", "", 400, "limit"},
		{"GET", "/v1/dead-letters?befor=1", "", 400, "befor"},
		{"DELETE", "/v1/dead-letters?before=0", "", 400, "before"},
		{"DELETE", "/v1/dead-letters?before=yesterday", "", 400, "before"},
		{"DELETE", "/v1/dead-letters?befor=1", "", 400, "befor"},
		{"DELETE", "/v1/dead-letters/7", "", 404, ""},
		{"POST", "/v1/dead-letters", "{}", 405, ""},
		{"GET", "/v1/dead-letters/replay", "", 405, ""},
		{"POST", "/v1/dead-letters/replay", "{}", 400, "name 1 to 1000"},
		{"POST", "/v1/dead-letters/replay", `{"ids":[]}`, 400, "name 1 to 1000"},
		{"POST", "/v1/dead-letters/replay", `{"ids":[1],"all":true}`, 400, "name 1 to 1000"},
		{"POST", "/v1/dead-letters/replay", `{"all":false}`, 400, "name 1 to 1000"},
		{"POST", "/v1/dead-letters/replay", `{"ids":[` + many + `]}`, 400, "name 1 to 1000"},
		{"POST", "/v1/dead-letters/replay", `{"ids":["1"]}`, 400, "reading the request"},
		{"POST", "/v1/dead-letters/replay", `{"ids":[-1]}`, 400, "reading the request"},
		{"POST", "/v1/dead-letters/replay", `{"id":[1]}`, 400, "id"},
		{"POST", "/v1/dead-letters/replay", `[1]`, 400, "reading the request"},
		{"POST", "/v1/dead-letters/replay", `{"ids":[1,2,1]}`, 200, `"missing":2,"refused":0,"sent":0`},
		{"POST", "/v1/dead-letters/replay", `{"all":true}`, 200, `"sent":0`},
	} {
		code, body := call(t, n, c.method, c.path, c.body)
		if code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %.40s: %d %s, want %d and %q", c.method, c.path, c.body, code, body, c.code, c.says)
		}
	}
	if code, _ := call(t, n, "GET", "/v1/dead-letters", "", host("evil.example")); code != http.StatusForbidden {
		t.Errorf("another host: %d", code)
	}
}

// A live reader that does not read falls behind what is kept: when it reads again it is told.
func TestSlowReaderBehindRetention(t *testing.T) {
	kept := memory.New(memory.Options{})
	n := servertest.Start(t, server.Options{
		OpenStore: func() (store.Store, error) { return kept, nil }, Retention: server.Retention{TopicCount: 100}, Loops: 1,
		Limits: server.Limits{OutBytes: 64 << 10, SlowReader: time.Minute},
	})
	bob := servertest.Login(t, n.Addr(), "bob", "phone")
	bob.Sub("news")
	text, sent := strings.Repeat("x", 60_000), 0
	say := func(count int) {
		for range count {
			body := fmt.Sprintf(`{"kind":"topic","name":"news","sender":"ann","text":%q,"durable":true}`, text)
			if code, answer := call(t, n, "POST", "/v1/publish", body); code != http.StatusOK {
				t.Fatalf("%d %s", code, answer)
			}
			sent++
		}
	}
	topic := store.Channel{Kind: codec.KindTopic, Name: "news"}
	for n.Stats().Behind == 0 {
		if say(20); sent > 5_000 {
			t.Fatal("the reader does not fall behind")
		}
	}
	say(250)
	eventually(t, "the beginning is removed", func() bool {
		h, err := kept.Head(topic)
		return err == nil && h.Seq-h.First < 110
	})
	at, gaps := uint64(0), 0
	for at < uint64(sent) {
		switch f := bob.Next(); f.Type {
		case codec.TypeMsg:
			m, err := codec.ConsumeMsg(f)
			if err != nil || m.Seq > at+1 {
				t.Fatalf("message %d behind %d and nothing said, %v", m.Seq, at, err)
			}
			at = max(at, m.Seq)
		case codec.TypeGap:
			g, err := codec.ConsumeGap(f)
			if err != nil || g.Kind != codec.KindTopic || string(g.Name) != "news" || g.Reason != codec.GapExpired || g.From > at+1 || g.To <= at {
				t.Fatalf("behind %d came %+v, %v", at, g, err)
			}
			at = g.To
			gaps++
		}
	}
	if gaps == 0 {
		t.Error("nothing was missing: the test is worthless")
	}
}

func TestRetentionOptions(t *testing.T) {
	for _, c := range []struct {
		r    server.Retention
		says string
	}{
		{server.Retention{}, ""},
		{server.Retention{DirectAge: -1, GroupAge: -1, TopicAge: -1, AllAge: -1, TopicCount: -1, AllCount: -1, DeadLetters: -1}, ""},
		{server.Retention{DirectAge: time.Minute, TopicCount: 1}, ""},
		{server.Retention{DirectAge: time.Second}, "retention.direct_age"},
		{server.Retention{GroupAge: 59 * time.Second}, "retention.group_age"},
		{server.Retention{TopicAge: 101 * 365 * 24 * time.Hour}, "retention.topic_age"},
		{server.Retention{AllAge: 1}, "retention.all_age"},
		{server.Retention{DirectCount: 1<<40 + 1}, "retention.direct_count"},
		{server.Retention{GroupCount: 1 << 62}, "retention.group_count"},
		{server.Retention{TopicCount: 1 << 41}, "retention.topic_count"},
		{server.Retention{AllCount: 1 << 41}, "retention.all_count"},
		{server.Retention{DeadLetters: 1_000_001}, "retention.dead_letters"},
	} {
		o := server.Options{Retention: c.r}
		err := o.Validate()
		if (err == nil) != (c.says == "") || err != nil && !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.says)
		}
	}
	o := server.Options{}
	if err := o.Validate(); err != nil || o.Retention.TopicAge != 7*24*time.Hour || o.Retention.DirectAge != 30*24*time.Hour || o.Retention.TopicCount != 100_000 ||
		o.Retention.DirectCount != 0 || o.Retention.DeadLetters != 10_000 {
		t.Errorf("defaults %+v, %v", o.Retention, err)
	}
}
