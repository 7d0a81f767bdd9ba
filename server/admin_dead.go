package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"gannet/codec"
	"gannet/server/durable"
)

// Dead letters in one answer, and in one request to send some again.
const (
	deadPage    = 100
	deadPageMax = 1_000
	deadBytes   = 4 << 20 // of their payloads, about
)

func (a *admin) routeDead(mux *http.ServeMux) {
	mux.Handle("GET /v1/dead-letters", a.guard(a.deadLetters))
	mux.Handle("DELETE /v1/dead-letters", a.guard(a.clearDead))
	mux.Handle("POST /v1/dead-letters/replay", a.guard(a.replayDead))
}

const deadIndex = `GET  /v1/dead-letters?after=I undelivered messages with RECEIPT, ?limit=N; DELETE, ?before=MS
POST /v1/dead-letters/replay  {"ids":[…]} or {"all":true}: sends them again
`

// number reads a number of the query; def when it is not there.
func number(w http.ResponseWriter, query url.Values, name string, def, low, high uint64) (n uint64, ok bool) {
	if !query.Has(name) {
		return def, true
	}
	n, err := strconv.ParseUint(query.Get(name), 10, 64)
	if err != nil || n < low || n > high {
		fail(w, http.StatusBadRequest, "%s: %q is not a number from %d to %d", name, query.Get(name), low, high)
		return 0, false
	}
	return n, true
}

// known refuses a query with a name that is none: a misspelt one must not mean everything.
func known(w http.ResponseWriter, query url.Values, names ...string) bool {
	for name, values := range query {
		if !slices.Contains(names, name) || len(values) > 1 {
			fail(w, http.StatusBadRequest, "%q is no parameter of this request, or was given twice", name)
			return false
		}
	}
	return true
}

func (a *admin) deadLetters(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !known(w, query, "after", "limit") {
		return
	}
	after, ok := number(w, query, "after", 0, 0, 1<<64-1)
	if !ok {
		return
	}
	limit, ok := number(w, query, "limit", deadPage, 1, deadPageMax)
	if !ok {
		return
	}
	list, more, err := a.s.durableLog.DeadLetters(after, int(limit), deadBytes)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "%v", err)
		return
	}
	type letter struct {
		ID       uint64  `json:"id"`
		Reason   string  `json:"reason"`
		Died     uint64  `json:"died"` // Unix milliseconds
		Sender   string  `json:"sender"`
		Receiver string  `json:"receiver"`
		Seq      uint64  `json:"seq"`
		Time     uint64  `json:"time"` // Unix milliseconds
		Content  uint8   `json:"content"`
		Text     *string `json:"text,omitempty"` // of content 1 and 2
		Payload  []byte  `json:"payload"`        // base64
		Cut      bool    `json:"cut,omitempty"`
	}
	letters, next := make([]letter, len(list)), uint64(0)
	for i, x := range list {
		letters[i] = letter{x.ID, x.Reason.String(), x.Died, x.Sender, x.Receiver, x.Seq, x.Time, x.Content, nil, x.Payload, x.Cut}
		if x.Content == codec.ContentText || x.Content == codec.ContentJSON {
			text := string(x.Payload)
			letters[i].Text = &text
		}
	}
	if more && len(list) > 0 {
		next = list[len(list)-1].ID
	}
	reply(w, http.StatusOK, map[string]any{"letters": letters, "next": next, "total": a.s.durableLog.RetentionStats().Letters})
}

func (a *admin) clearDead(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !known(w, query, "before") {
		return
	}
	before, ok := number(w, query, "before", 0, 1, 1<<64-1)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	n, err := a.s.durableLog.ClearDeadLetters(ctx, before)
	if err != nil {
		failDead(w, err, fmt.Sprintf("%d letters were removed", n))
		return
	}
	reply(w, http.StatusOK, map[string]int{"cleared": n})
}

func (a *admin) replayDead(w http.ResponseWriter, r *http.Request) {
	var body struct {
		IDs []uint64 `json:"ids"`
		All bool     `json:"all"`
	}
	if !decode(w, r, &body) {
		return
	}
	if body.All == (len(body.IDs) > 0) || len(body.IDs) > deadPageMax {
		fail(w, http.StatusBadRequest, "name 1 to %d ids, or say {\"all\":true}", deadPageMax)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	done, err := a.s.durableLog.ReplayDeadLetters(ctx, body.IDs)
	if err != nil {
		failDead(w, err, fmt.Sprintf("%d letters were sent", done.Sent))
		return
	}
	code := http.StatusOK
	if done.Refused > 0 {
		code = publishStatus(done.Code)
	}
	reply(w, code, map[string]any{"sent": done.Sent, "missing": done.Missing, "refused": done.Refused, "code": done.Code.String()})
}

// failDead says what was done before an error.
func failDead(w http.ResponseWriter, err error, did string) {
	code := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = http.StatusGatewayTimeout
	case errors.Is(err, durable.ErrReplaying):
		code = http.StatusConflict
	}
	fail(w, code, "%v; %s", err, did)
}
