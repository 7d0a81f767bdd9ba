package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

// durableSend is a SEND that is to be stored. Its req is its nonce.
func durableSend(nonce uint64, kind codec.Kind, name, text string) []byte {
	return codec.AppendSend(nil, codec.Send{
		Req: uint32(nonce), Nonce: nonce, Flags: codec.MsgDurable, Kind: kind, Name: []byte(name),
		Content: codec.ContentText, Payload: []byte(text),
	})
}

// resume logs in from a position.
func resume(t testing.TB, addr, user, device string, epoch, pos uint64, positions ...codec.Position) (*servertest.Conn, codec.Welcome) {
	t.Helper()
	h := codec.Hello{Version: codec.Version, User: []byte(user), Device: []byte(device), InboxEpoch: epoch, InboxPos: pos}
	for _, p := range positions {
		h.Positions.Append(p)
	}
	c := servertest.Dial(t, addr)
	c.Send(codec.AppendHello(nil, h))
	return c, c.Welcome()
}

// collect reads until it has n messages; it returns their texts, and the last position told.
func collect(t testing.TB, c *servertest.Conn, n int) (texts []string, pos uint64) {
	t.Helper()
	for len(texts) < n || pos == 0 {
		switch f := c.Next(); f.Type {
		case codec.TypeMsg:
			m, err := codec.ConsumeMsg(f)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(m.Payload))
			if m.Flags&codec.MsgLog != 0 {
				pos = max(pos, 1) // has no place in the inbox
			}
		case codec.TypePos:
			p, err := codec.ConsumePos(f)
			if err != nil {
				t.Fatal(err)
			}
			pos = p.InboxPos
		default:
			t.Fatalf("got %v while waiting for messages; have %q", f.Type, texts)
		}
	}
	return texts, pos
}

// beyondPos is the next frame that is no POS.
func beyondPos(c *servertest.Conn) codec.Frame {
	for {
		if f := c.Next(); f.Type != codec.TypePos {
			return f
		}
	}
}

// acked waits for the SENDACK of a message among POS frames.
func acked(t testing.TB, c *servertest.Conn) codec.SendAck {
	t.Helper()
	for {
		switch f := c.Next(); f.Type {
		case codec.TypePos:
		case codec.TypeSendAck:
			a, err := codec.ConsumeSendAck(f)
			if err != nil {
				t.Fatal(err)
			}
			return a
		default:
			t.Fatalf("got %v while waiting for SENDACK", f.Type)
		}
	}
}

// What is sent to somebody who is away is there when they come, once, in order, also after a restart; and a retry is known.
func TestOfflineThenRestart(t *testing.T) {
	o := server.Options{Loops: 2, Data: t.TempDir(), Store: "pebble"}
	n := servertest.Start(t, o)
	alice := servertest.Login(t, n.Addr(), "alice", "phone")
	for i := range uint64(10) {
		alice.Send(durableSend(i+1, codec.KindDirect, "bob", fmt.Sprint("m", i)))
		if a := acked(t, alice); a.Code != codec.CodeOK || a.Seq != i+1 {
			t.Fatalf("SENDACK %+v, want OK with seq %d", a, i+1)
		}
	}
	bob, w := resume(t, n.Addr(), "bob", "phone", 0, 0)
	if w.InboxState != codec.StateLive || w.InboxEpoch == 0 || w.InboxHead == 0 {
		t.Errorf("WELCOME state %d, epoch %d, head %d", w.InboxState, w.InboxEpoch, w.InboxHead)
	}
	want := "m0 m1 m2 m3 m4 m5 m6 m7 m8 m9"
	texts, pos := collect(t, bob, 10)
	if got := strings.Join(texts, " "); got != want {
		t.Fatalf("bob got %q, want %q", got, want)
	}
	bob.Close()
	n.Stop()

	n = servertest.Start(t, o)
	bob, w = resume(t, n.Addr(), "bob", "phone", w.InboxEpoch, pos)
	if w.InboxState != codec.StateResumed {
		t.Errorf("inbox state %d, want resumed", w.InboxState)
	}
	bob.Ping() // nothing came twice
	alice, w = resume(t, n.Addr(), "alice", "phone", 0, 0)
	if nonce, _ := w.Ext.Uint64(codec.TagNonce); nonce != 10 {
		t.Errorf("WELCOME says that nonce %d is the highest stored, want 10", nonce)
	}
	alice.Send(durableSend(7, codec.KindDirect, "bob", "m6"))
	if a := acked(t, alice); a.Code != codec.CodeDuplicate || a.Seq != 7 {
		t.Errorf("a retry after the restart: %+v, want DUPLICATE with seq 7", a)
	}
	alice.Send(durableSend(11, codec.KindDirect, "bob", "live"))
	if m, err := servertest.Read(beyondPos(bob), codec.TypeMsg, codec.ConsumeMsg); err != nil || string(m.Payload) != "live" || m.Seq != 11 {
		t.Errorf("bob got %q with seq %d, %v", m.Payload, m.Seq, err)
	}
}

// A topic's subscriber resumes by its position, in HELLO and in SUB.
func TestTopicPositions(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	alice := servertest.Login(t, n.Addr(), "alice", "d")
	for i := range uint64(5) {
		alice.Send(durableSend(i+1, codec.KindTopic, "news", fmt.Sprint("n", i+1)))
		if a := acked(t, alice); a.Code != codec.CodeOK {
			t.Fatalf("SENDACK %+v", a)
		}
	}
	bob, w := resume(t, n.Addr(), "bob", "d", 0, 0)
	bob.Send(codec.AppendSub(nil, codec.Sub{Req: 1, Mode: codec.SubFromPosition, Kind: codec.KindTopic, Name: []byte("news"), Epoch: w.InboxEpoch, Seq: 2}))
	a, err := servertest.Read(beyondPos(bob), codec.TypeSubAck, codec.ConsumeSubAck)
	if err != nil || a.Code != codec.CodeOK || a.State != codec.StateResumed || a.Head != 5 {
		t.Fatalf("SUBACK %+v, %v", a, err)
	}
	if texts, _ := collect(t, bob, 3); strings.Join(texts, " ") != "n3 n4 n5" {
		t.Fatalf("bob got %q", texts)
	}
	alice.Send(durableSend(6, codec.KindTopic, "news", "n6"))
	if m := bob.Msg(); m.Seq != 6 || m.Flags&codec.MsgLog == 0 {
		t.Errorf("bob got %+v", m)
	}
	at := codec.Position{Kind: codec.KindTopic, Name: []byte("news"), Epoch: w.InboxEpoch, Seq: 4}
	carol, w := resume(t, n.Addr(), "carol", "d", 0, 0, at)
	for st := range w.States.All() {
		if st.State != codec.StateResumed || st.Head != 6 {
			t.Errorf("state %+v", st)
		}
	}
	if texts, _ := collect(t, carol, 2); strings.Join(texts, " ") != "n5 n6" {
		t.Fatalf("carol got %q", texts)
	}
}

// The admin interface stores messages as well, and its readiness names the store.
func TestPublishStored(t *testing.T) {
	n := servertest.Start(t, server.Options{})
	res, err := http.Post("http://"+n.AdminAddr()+"/v1/publish", "application/json",
		strings.NewReader(`{"kind":"direct","name":"bob","sender":"robot","text":"stored","durable":true}`))
	if err != nil {
		t.Fatal(err)
	}
	body := readAll(t, res.Body)
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != http.StatusOK || !strings.Contains(body, `"seq":1`) {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	bob, _ := resume(t, n.Addr(), "bob", "d", 0, 0)
	if texts, _ := collect(t, bob, 1); texts[0] != "stored" {
		t.Errorf("bob got %q", texts)
	}
	if m := metricsOf(t, n); m["gannet_log_messages_total"] != 1 || m["gannet_store_failed"] != 0 {
		t.Errorf("metrics: %v messages, failed %v", m["gannet_log_messages_total"], m["gannet_store_failed"])
	}
}
