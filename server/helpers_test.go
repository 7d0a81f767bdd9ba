package server_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/shard"
)

// gnet's package keeps a pool of goroutines of its own for the life of the process.
var gnetPool = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
	goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"), // idle
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, gnetPool...) }

// eventually waits until a condition holds that other goroutines bring about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(servertest.Patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come about that %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// allGone waits until the server counts no connection any more, neither in front of the shards nor in them.
func allGone(t testing.TB, n *servertest.Node) {
	t.Helper()
	eventually(t, "no connection is open", func() bool { return n.Open() == 0 && n.Stats().Connections == 0 })
}

// metricsOf scrapes /metrics: values by name with labels.
func metricsOf(t testing.TB, n *servertest.Node) map[string]float64 {
	t.Helper()
	res, err := http.Get("http://" + n.AdminAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	values := map[string]float64{}
	for sc := bufio.NewScanner(res.Body); sc.Scan(); {
		line := sc.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("metrics line %q: %v", line, err)
		}
		values[line[:at]] = v
	}
	http.DefaultClient.CloseIdleConnections()
	return values
}

// logBuffer is a log that a test reads.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// frame is a frame of any type with any body.
func frame(typ codec.Type, body string) []byte {
	return codec.AppendFrame(nil, codec.Frame{Type: typ, Body: []byte(body)})
}

func topicSend(req uint32, topic, text string) []byte {
	return codec.AppendSend(nil, codec.Send{Req: req, Kind: codec.KindTopic, Name: []byte(topic), Content: codec.ContentText, Payload: []byte(text)})
}

func directSend(req uint32, peer, text string) []byte {
	return codec.AppendSend(nil, codec.Send{Req: req, Kind: codec.KindDirect, Name: []byte(peer), Content: codec.ContentText, Payload: []byte(text)})
}

func allSend(req uint32, text string) []byte {
	return codec.AppendSend(nil, codec.Send{Req: req, Kind: codec.KindAll, Name: []byte(codec.AllName), Content: codec.ContentText, Payload: []byte(text)})
}

// readAll reads the body of a response.
func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// limits is Options with these limits.
func limits(l server.Limits) server.Options { return server.Options{Limits: l} }

// publication is a text to a user, from outside the connections.
func publication(user, text string) shard.Publication {
	return shard.Publication{
		Kind: codec.KindDirect, Name: user, Sender: "outside", Content: codec.ContentText, Payload: []byte(text),
	}
}
