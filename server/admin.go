package server

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Readiness of the server.
const (
	stateStarting = iota
	stateReady
	stateDraining
)

// admin is the HTTP interface for operators and probes.
type admin struct {
	s    *Server
	ln   net.Listener
	srv  *http.Server
	set  *metrics.Set
	addr string
	done chan struct{}

	backups sync.Mutex // held while one is made

	serving bool // owned by Run
}

// Bounds of the admin interface.
const (
	adminBody    = 4 << 20 // bytes of a request
	adminUsers   = 10_000  // users in one look-up
	adminConns   = 128     // connections open at once
	adminTimeout = 10 * time.Second
)

func newAdmin(s *Server) (*admin, error) {
	ln, err := net.Listen("tcp", s.opts.Admin)
	if err != nil {
		return nil, fmt.Errorf("admin: %w%s", err, bindHint(err))
	}
	a := &admin{s: s, ln: newBoundedListener(ln, adminConns), addr: ln.Addr().String(), set: metrics.NewSet(), done: make(chan struct{})}
	a.set.RegisterMetricsWriter(s.writeMetrics)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", a.guard(a.metrics))
	mux.Handle("GET /v1/node", a.guard(a.nodeInfo))
	mux.Handle("GET /v1/sessions", a.guard(a.sessions))
	mux.Handle("POST /v1/sessions", a.guard(a.sessions))
	mux.Handle("POST /v1/kick", a.guard(a.kick))
	mux.Handle("POST /v1/publish", a.guard(a.publish))
	mux.Handle("POST /v1/backup", a.guard(a.backup))
	a.routeGroups(mux)
	a.routeDead(mux)
	mux.Handle("GET /debug/pprof/", a.guard(pprof.Index))
	mux.Handle("GET /debug/pprof/cmdline", a.guard(pprof.Cmdline))
	mux.Handle("GET /debug/pprof/profile", a.guard(pprof.Profile))
	mux.Handle("GET /debug/pprof/symbol", a.guard(pprof.Symbol))
	mux.Handle("GET /debug/pprof/trace", a.guard(pprof.Trace))
	mux.HandleFunc("GET /{$}", a.index)
	a.srv = &http.Server{
		Handler: writeDeadline(mux), ReadHeaderTimeout: adminTimeout, ReadTimeout: adminTimeout,
		IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}
	return a, nil
}

func (a *admin) start() {
	a.serving = true
	go func() {
		defer close(a.done)
		if err := a.srv.Serve(a.ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.s.log.Error("admin HTTP ended", "error", err)
		}
	}()
}

func (a *admin) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if a.srv.Shutdown(ctx) != nil {
		_ = a.srv.Close()
	}
	_ = a.ln.Close()
	if !a.serving {
		return
	}
	select {
	case <-a.done:
	case <-ctx.Done():
	}
}

// writeDeadline bounds the time for an answer, except for profiles, which take as long as they are asked to, and backups.
func writeDeadline(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var until time.Time // none; set all the same, the last request of the connection left its own
		if !strings.HasPrefix(r.URL.Path, "/debug/") && r.URL.Path != "/v1/backup" {
			until = time.Now().Add(2 * adminTimeout)
		}
		_ = http.NewResponseController(w).SetWriteDeadline(until) // a connection of net/http can always do it
		h.ServeHTTP(w, r)
	})
}

// guard lets in who has the token. Without a token only requests that name this machine by its loopback address are
// served: a web page that a person on this machine looks at could else reach the interface through a name of its own.
func (a *admin) guard(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := a.s.opts.AdminToken; want != "" {
			got, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				fail(w, http.StatusUnauthorized, "give the admin token: Authorization: Bearer …")
				return
			}
		} else if !loopbackHost(r.Host) {
			fail(w, http.StatusForbidden, "without an admin token only requests to 127.0.0.1 or localhost are served")
			return
		}
		if r.Method == http.MethodPost && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			fail(w, http.StatusUnsupportedMediaType, "send JSON: Content-Type: application/json")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, adminBody)
		h(w, r)
	})
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

func (a *admin) index(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte(`gannet admin
GET  /healthz                 the process lives
GET  /readyz                  clients can connect, and messages can be stored
GET  /metrics                 counters, Prometheus text
GET  /v1/node                 the same in short, JSON
GET  /v1/sessions?user=U      who is online; POST {"users":[…]} for up to 10,000
POST /v1/kick                 {"user":U,"device":D,"reason":R}
POST /v1/publish              {"kind":"direct|topic|all","name":N,"sender":S,"text":T}
` + groupsIndex + deadIndex + `POST /v1/backup               {"name":N}: a backup below --backup-dir
GET  /debug/pprof/            profiles
`))
}

// readyz tells a probe whether clients can connect and messages can be stored, and whoever looks what is not as it should be.
func (a *admin) readyz(w http.ResponseWriter, _ *http.Request) {
	body := struct {
		Status   string   `json:"status"`
		Reason   string   `json:"reason,omitempty"`
		Warnings []string `json:"warnings,omitempty"`
	}{Status: "ready"}
	code := http.StatusOK
	switch a.s.state.Load() {
	case stateStarting:
		body.Status, code = "starting", http.StatusServiceUnavailable
	case stateDraining:
		body.Status, code = "draining", http.StatusServiceUnavailable
	}
	if err := a.s.durableLog.Status(); err != nil && code == http.StatusOK {
		body.Status, body.Reason, code = "not storing", err.Error(), http.StatusServiceUnavailable
	}
	if a.s.opts.openToOthers() {
		body.Warnings = append(body.Warnings, insecureWarning)
	}
	reply(w, code, body)
}

const insecureWarning = "insecure: logins are not checked and other machines can reach the port; anyone can log in as anyone"

func (a *admin) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	a.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client is gone if it fails
}

func fail(w http.ResponseWriter, code int, format string, args ...any) {
	reply(w, code, map[string]string{"error": fmt.Sprintf(format, args...)})
}
