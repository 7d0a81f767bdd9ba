package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"gannet/codec"
	"gannet/shard"
)

// decode reads a JSON body; unknown fields are errors, so that a misspelt one is not ignored in silence.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil && d.Decode(&struct{}{}) != io.EOF {
		err = errors.New("more than one JSON value")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		fail(w, http.StatusRequestEntityTooLarge, "the request is longer than %d bytes", tooLarge.Limit)
	case err != nil:
		fail(w, http.StatusBadRequest, "reading the request: %v", err)
	}
	return err == nil
}

func (a *admin) nodeInfo(w http.ResponseWriter, _ *http.Request) {
	st := a.s.Stats()
	dropped := map[string]uint64{}
	for _, d := range shard.Drops() {
		dropped[d.String()] = st.Dropped[d]
	}
	reply(w, http.StatusOK, map[string]any{
		"node": a.s.opts.Node, "listen": a.s.Addr(), "loops": a.s.opts.Loops,
		"connections": st.Connections, "sessions": st.Sessions, "subscriptions": st.Subscriptions,
		"max_connections": a.s.opts.Limits.Connections, "logins": st.Logins, "messages_in": st.MessagesIn,
		"deliveries": st.Deliveries, "dropped": dropped, "draining": a.s.node.Draining(),
	})
}

// sessions answers who is online: every user asked for, with its sessions.
func (a *admin) sessions(w http.ResponseWriter, r *http.Request) {
	users := r.URL.Query()["user"]
	if r.Method == http.MethodPost {
		var body struct {
			Users []string `json:"users"`
		}
		if !decode(w, r, &body) {
			return
		}
		users = body.Users
	}
	if len(users) == 0 || len(users) > adminUsers {
		fail(w, http.StatusBadRequest, "name 1 to %d users: ?user=alice, or POST {\"users\":[\"alice\"]}", adminUsers)
		return
	}
	slices.Sort(users)
	users = slices.Compact(users) // a user named often is looked up once
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	found, err := a.s.Sessions(ctx, users)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "%v", err)
		return
	}
	by := make(map[string][]shard.SessionInfo, len(users))
	for _, u := range users {
		by[u] = []shard.SessionInfo{}
	}
	for _, s := range found {
		by[s.User] = append(by[s.User], s)
	}
	online := 0
	for _, s := range by {
		if len(s) > 0 {
			online++
		}
	}
	reply(w, http.StatusOK, map[string]any{"online": online, "users": by})
}

func (a *admin) kick(w http.ResponseWriter, r *http.Request) {
	var body struct {
		User   string `json:"user"`
		Device string `json:"device"`
		Reason string `json:"reason"`
	}
	if !decode(w, r, &body) {
		return
	}
	if !codec.ValidID([]byte(body.User)) || body.Device != "" && !codec.ValidID([]byte(body.Device)) {
		fail(w, http.StatusBadRequest, "name a user, and a device if only that one is meant")
		return
	}
	asked, code := a.s.Kick(body.User, body.Device, body.Reason)
	if code != codec.CodeOK {
		fail(w, http.StatusServiceUnavailable, "%v: %d sessions were asked to end before an inbox was full, try again", code, asked)
		return
	}
	reply(w, http.StatusOK, map[string]int{"sessions": asked})
}

var publishKinds = map[string]codec.Kind{
	"direct": codec.KindDirect, "group": codec.KindGroup, "topic": codec.KindTopic, "all": codec.KindAll,
}

func (a *admin) publish(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Kind    string   `json:"kind"`
		Name    string   `json:"name"`
		Sender  string   `json:"sender"`
		Text    string   `json:"text"`    // content 1
		Payload []byte   `json:"payload"` // base64, with content
		Content uint8    `json:"content"`
		Tags    []string `json:"tags"`
		Urgent  bool     `json:"urgent"`
		Durable bool     `json:"durable"` // stored before it is answered
		Receipt bool     `json:"receipt"`
		TTL     uint32   `json:"ttl"` // seconds after which it need not be delivered any more; 0: none
	}
	if !decode(w, r, &body) {
		return
	}
	kind, ok := publishKinds[body.Kind]
	if !ok || body.Text != "" && len(body.Payload) > 0 {
		fail(w, http.StatusBadRequest, "kind must be direct, group, topic or all, and either text or payload (base64) be given")
		return
	}
	p := shard.Publication{Kind: kind, Name: body.Name, Sender: body.Sender, Content: body.Content, Payload: body.Payload}
	or(&p.Sender, a.s.opts.Node)
	if kind == codec.KindAll {
		or(&p.Name, codec.AllName)
	}
	if body.Text != "" {
		p.Content, p.Payload = codec.ContentText, []byte(body.Text)
	}
	for flag, on := range map[uint8]bool{codec.MsgUrgent: body.Urgent, codec.MsgDurable: body.Durable, codec.MsgReceipt: body.Receipt} {
		if on {
			p.Flags |= flag
		}
	}
	if body.TTL > 0 {
		p.Ext = p.Ext.AppendUint32(codec.TagTTL, body.TTL)
	}
	for _, t := range body.Tags {
		if len(t) > codec.MaxID {
			fail(w, http.StatusBadRequest, "tags are 1 to %d bytes", codec.MaxID)
			return
		}
		p.Ext = p.Ext.Append(codec.TagRoute, []byte(t))
	}
	if body.Durable || kind == codec.KindGroup {
		a.publishStored(w, r, p)
		return
	}
	targets, code := a.s.Publish(p)
	reply(w, publishStatus(code), map[string]any{"code": code.String(), "targets": targets, "time": time.Now().UnixMilli()})
}

func (a *admin) publishStored(w http.ResponseWriter, r *http.Request, p shard.Publication) {
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	st, err := a.s.PublishStored(ctx, p)
	if err != nil {
		fail(w, http.StatusGatewayTimeout, "the store did not answer in time; the message may be stored or not")
		return
	}
	reply(w, publishStatus(st.Code), map[string]any{"code": st.Code.String(), "seq": st.Seq, "time": st.Time})
}

func publishStatus(c codec.Code) int {
	switch c {
	case codec.CodeOK:
		return http.StatusOK
	case codec.CodeBusy, codec.CodeUnavailable:
		return http.StatusServiceUnavailable
	case codec.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case codec.CodeNotFound:
		return http.StatusNotFound
	}
	return http.StatusBadRequest
}
