package server_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/store/pebble"
)

// smallDisk mounts a file system of some bytes for a test.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// diskPayload is of the i-th message: large, and like no other.
func diskPayload(i uint64) string { return strings.Repeat(fmt.Sprint("message ", i, " "), 700) }

// sendNext sends a durable message, or the one that was refused again; acks are nonces by seq.
func sendNext(t *testing.T, c *servertest.Conn, acks map[uint64]uint64) codec.Code {
	t.Helper()
	nonce := uint64(len(acks)) + 1
	c.Send(durableSend(nonce, codec.KindTopic, "news", diskPayload(nonce)))
	a := acked(t, c)
	if a.Code == codec.CodeOK || a.Code == codec.CodeDuplicate { // one whose answer came too late
		acks[a.Seq] = nonce
		return codec.CodeOK
	}
	return a.Code
}

// sendUntil sends until the answer is (or is not) OK.
func sendUntil(t *testing.T, c *servertest.Conn, ok bool, acks map[uint64]uint64) codec.Code {
	t.Helper()
	for deadline := time.Now().Add(2 * servertest.Patience); ; {
		code := sendNext(t, c, acks)
		if (code == codec.CodeOK) == ok {
			return code
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are stored, and the answer is still %v", len(acks), code)
		}
		if ok {
			time.Sleep(10 * time.Millisecond) // as a client would
		}
	}
}

// pullNews reads a topic from the beginning; texts by seq.
func pullNews(t *testing.T, addr, user string) map[uint64]string {
	t.Helper()
	c := servertest.Login(t, addr, user, "d")
	defer c.Close()
	texts := map[uint64]string{}
	for from := uint64(1); ; {
		c.Send(codec.AppendPull(nil, codec.Pull{Req: 1, Kind: codec.KindTopic, Name: []byte("news"), From: from, Limit: 50}))
		n := -1
		for n != 0 {
			switch f := c.Next(); f.Type {
			case codec.TypeRange:
				r, err := codec.ConsumeRange(f)
				if err != nil || r.Code != codec.CodeOK {
					t.Fatalf("RANGE %+v, %v", r, err)
				}
				if r.Count == 0 {
					return texts
				}
				n, from = int(r.Count), r.Next
			case codec.TypeMsg:
				m, err := codec.ConsumeMsg(f)
				if err != nil {
					t.Fatal(err)
				}
				texts[m.Seq] = string(m.Payload)
				n--
			}
		}
	}
}

// missing tells which acknowledged message is not there as it was sent.
func missing(texts map[uint64]string, acks map[uint64]uint64) error {
	for seq, nonce := range acks {
		if texts[seq] != diskPayload(nonce) {
			return fmt.Errorf("message %d was acknowledged and is %.30q", seq, texts[seq])
		}
	}
	return nil
}

// The disk fills up under a server: nothing is acknowledged that is not stored, readers go on, /readyz says why, and when there is
// room again so is the server, without a restart.
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t, 24<<20)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, bytes.Repeat([]byte{1}, 18<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	o := server.Options{Data: filepath.Join(disk, "data"), StoreMemtable: 1 << 20, StoreCache: 1 << 20}
	n := servertest.Start(t, o)
	c := servertest.Login(t, n.Addr(), "alice", "d")
	acks := map[uint64]uint64{}
	sendUntil(t, c, true, acks)
	if code := sendUntil(t, c, false, acks); code != codec.CodeUnavailable && code != codec.CodeBusy {
		t.Errorf("on a full disk SENDACK says %v", code)
	}
	full := len(acks)
	if full < 100 {
		t.Fatalf("the disk was full after %d messages", full)
	}
	awaitReadyz(t, n, 503, "no space left")
	if err := missing(pullNews(t, n.Addr(), "bob"), acks); err != nil {
		t.Errorf("on a full disk: %v", err)
	}
	for range 20 {
		sendNext(t, c, acks) // some may fit in; then they have to be there
	}
	c.Ping()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	sendUntil(t, c, true, acks)
	awaitReadyz(t, n, 200, `"ready"`)
	for range 50 {
		sendUntil(t, c, true, acks)
	}
	if err := missing(pullNews(t, n.Addr(), "carol"), acks); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
	if r, err := pebble.Check(o.Data, pebble.CheckOptions{}); err != nil || !r.Sound() || !r.Clean {
		t.Errorf("check: %+v, %v", r, err)
	}
	if err := missing(pullNews(t, servertest.Start(t, o).Addr(), "dave"), acks); err != nil {
		t.Errorf("behind a restart: %v", err)
	}
}

// awaitReadyz waits until /readyz answers as wanted.
func awaitReadyz(t *testing.T, n *servertest.Node, want int, says string) {
	t.Helper()
	for deadline := time.Now().Add(servertest.Patience); ; time.Sleep(5 * time.Millisecond) {
		code, body := call(t, n, "GET", "/readyz", "")
		if code == want && strings.Contains(body, says) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz: %d %s, want %d and %q", code, body, want, says)
		}
	}
}
