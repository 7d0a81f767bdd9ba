package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/store"
	"gannet/store/memory"
	"gannet/store/pebble"
)

// store5 stores five messages to a topic.
func store5(t *testing.T, addr, user string) {
	t.Helper()
	c := servertest.Login(t, addr, user, "d")
	for i := range uint64(5) {
		c.Send(durableSend(i+1, codec.KindTopic, "news", fmt.Sprint(user, i)))
		if a := acked(t, c); a.Code != codec.CodeOK {
			t.Fatalf("SENDACK %+v", a)
		}
	}
	c.Close()
}

func TestBackup(t *testing.T) {
	o := server.Options{Data: filepath.Join(t.TempDir(), "data"), BackupDir: filepath.Join(t.TempDir(), "backups")}
	n := servertest.Start(t, o)
	store5(t, n.Addr(), "alice")
	code, body := call(t, n, "POST", "/v1/backup", `{"name":"one"}`)
	var made struct {
		Path         string
		Bytes, Place uint64
		Epoch        string
	}
	if err := json.Unmarshal([]byte(body), &made); err != nil || code != 200 {
		t.Fatalf("%d %s %v", code, body, err)
	}
	store5(t, n.Addr(), "bob") // goes on, and is not in it
	r, err := pebble.Check(made.Path, pebble.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Path != filepath.Join(o.BackupDir, "one") || made.Bytes == 0 || made.Epoch != fmt.Sprint(r.Epoch) || made.Place != r.Place || made.Place == 0 {
		t.Errorf("made %+v, the check says %+v", made, r)
	}
	if !r.Sound() || r.Messages != 5 {
		t.Errorf("the backup holds %d messages, findings %v", r.Messages, r.Findings)
	}
	if code, body := call(t, n, "POST", "/v1/backup", `{"name":"one"}`); code != http.StatusConflict || !strings.Contains(body, "another name") {
		t.Errorf("a second one of the name: %d %s", code, body)
	}
	if code, body := call(t, n, "POST", "/v1/backup", `{"name":"two"}`); code != 200 {
		t.Errorf("the next one: %d %s", code, body)
	}
	for _, name := range []string{"", ".", "..", "../one", "a/b", "/tmp/x", `a\\b`, ".hidden", "a b", "ü", "three.partial", strings.Repeat("a", 101)} {
		if code, body := call(t, n, "POST", "/v1/backup", fmt.Sprintf(`{"name":"%s"}`, name)); code != http.StatusBadRequest || !strings.Contains(body, o.BackupDir) {
			t.Errorf("name %q: %d %s", name, code, body)
		}
	}
	if names, err := os.ReadDir(o.BackupDir); err != nil || len(names) != 2 {
		t.Errorf("there are %v, %v", names, err)
	}
}

func TestBackupsThatAreNotMade(t *testing.T) {
	for what, c := range map[string]struct {
		o    server.Options
		code int
		says string
	}{
		"they are off":        {server.Options{Data: t.TempDir()}, http.StatusForbidden, "--backup-dir"},
		"the store is memory": {server.Options{Store: "memory", BackupDir: t.TempDir()}, http.StatusBadRequest, "--store memory"},
		"the folder is a file": {server.Options{Data: t.TempDir(), BackupDir: file(t)}, http.StatusInternalServerError,
			"not a directory"},
	} {
		n := servertest.Start(t, c.o)
		if code, body := call(t, n, "POST", "/v1/backup", `{"name":"one"}`); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d and %q", what, code, body, c.code, c.says)
		}
		store5(t, n.Addr(), "alice") // nothing happened to the store
	}
}

// file is the name of one.
func file(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// badDisk is a store whose disk is broken for as long as it says so.
type badDisk struct {
	store.Store
	broken         *atomic.Bool
	probes, closed *atomic.Int64
}

var errDisk = errors.New("the disk is on fire")

func (b badDisk) Append(batch []store.Message, results []store.Result) error {
	if b.broken.Load() {
		return errDisk
	}
	return b.Store.Append(batch, results)
}

func (b badDisk) Close() error {
	b.closed.Add(1)
	return nil
}

func (b badDisk) Probe() error {
	b.probes.Add(1)
	if b.broken.Load() {
		return errDisk
	}
	return nil
}

// While nothing can be stored /readyz says so and why; it is ready again as soon as messages can be stored.
func TestReadyzOfTheStore(t *testing.T) {
	var broken atomic.Bool
	var probes, closed atomic.Int64
	kept := memory.New(memory.Options{})
	n := servertest.Start(t, server.Options{BackupDir: t.TempDir(), OpenStore: func() (store.Store, error) {
		if broken.Load() {
			return nil, errDisk
		}
		return badDisk{kept, &broken, &probes, &closed}, nil
	}})
	awaitReadyz(t, n, 200, `"ready"`)
	store5(t, n.Addr(), "alice")
	broken.Store(true)
	c := servertest.Login(t, n.Addr(), "bob", "d")
	c.Send(durableSend(1, codec.KindTopic, "news", "lost"))
	if a := acked(t, c); a.Code == codec.CodeOK {
		t.Errorf("SENDACK %v from a broken disk", a.Code)
	}
	awaitReadyz(t, n, 503, errDisk.Error())
	if code, body := call(t, n, "POST", "/v1/backup", `{"name":"one"}`); code < 500 {
		t.Errorf("a backup meanwhile: %d %s", code, body)
	}
	for deadline := time.Now().Add(servertest.Patience); probes.Load() < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody looks whether the disk works again")
		}
	}
	if texts := pullNews(t, n.Addr(), "dave"); len(texts) != 5 || closed.Load() != 0 {
		t.Errorf("meanwhile %d messages can be read, and the store was closed %d times", len(texts), closed.Load())
	}
	broken.Store(false)
	awaitReadyz(t, n, 200, `"ready"`)
	store5(t, n.Addr(), "carol")
}

func TestStoreOptions(t *testing.T) {
	data := t.TempDir()
	for _, c := range []struct {
		field string
		o     server.Options
	}{
		{"store:", server.Options{Store: "redis"}},
		{"store_cache:", server.Options{StoreCache: 100}},
		{"store_memtable:", server.Options{StoreMemtable: -1}},
		{"store_memtable:", server.Options{StoreMemtable: 1 << 32}},
		{"backup_dir:", server.Options{BackupDir: "backups"}},
		{"backup_dir:", server.Options{Data: data, BackupDir: filepath.Join(data, "backups")}},
		{"backup_dir:", server.Options{Data: data, BackupDir: data}},
	} {
		if err := c.o.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.field) {
			t.Errorf("%+v: %v, want an error that begins with %q", c.o, err, c.field)
		}
	}
	o := server.Options{Data: data, BackupDir: data + "-backups"}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if o.Store != "pebble" || o.StoreCache != 64<<20 || o.StoreMemtable != 64<<20 {
		t.Errorf("defaults %+v", o)
	}
}
