package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"gannet/codec"
)

// group is a group of the run. The coordinator's goroutine owns it while the run lasts.
type group struct {
	id      ChannelID
	name    string
	members []bool // by user; the first member is the owner and stays
	owner   int
}

// admin speaks to the server's admin API.
type admin struct {
	base  string
	token string
	http  *http.Client
}

const adminTimeout = 10 * time.Second // of one call, retries included

// errRefused is an answer that will be the same next time.
var errRefused = errors.New("the admin API refused")

func newAdmin(o *Options) *admin {
	return &admin{base: "http://" + o.Admin, token: o.AdminToken, http: &http.Client{Timeout: adminTimeout, Transport: &http.Transport{}}}
}

// call makes a request and reads the answer into out. unsure says that it was repeated after a failure, so that nobody knows which
// try did it.
func (a *admin) call(ctx context.Context, method, path string, body, out any) (unsure bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	for {
		if err = a.try(ctx, method, path, body, out); err == nil || errors.Is(err, errRefused) {
			return unsure, err
		}
		unsure = true
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return unsure, err
		}
	}
}

func (a *admin) try(ctx context.Context, method, path string, body, out any) error {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, &text)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	switch {
	case err != nil:
		return err
	case res.StatusCode >= 500:
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, bytes.TrimSpace(answer))
	case res.StatusCode >= 300:
		return fmt.Errorf("%w %s %s: %s: %s", errRefused, method, path, res.Status, bytes.TrimSpace(answer))
	}
	return json.Unmarshal(answer, out)
}

// makeGroups makes the groups with their first members.
func (r *Run) makeGroups(ctx context.Context) error {
	if r.o.Groups == 0 {
		return nil
	}
	a := newAdmin(&r.o)
	rng := rand.New(rand.NewPCG(r.o.Seed, 0))
	for i := range r.o.Groups {
		g := &group{name: fmt.Sprintf("%sgroup-%d", r.o.UserPrefix, i), members: make([]bool, r.o.Users)}
		g.id = r.h.Channel(codec.KindGroup, g.name)
		users := rng.Perm(r.o.Users)[:min(r.o.GroupSize, r.o.Users)]
		g.owner = users[0]
		names := make([]string, len(users))
		for j, u := range users {
			names[j] = r.userName(u)
		}
		body := map[string]any{"name": g.name, "owner": names[0], "members": names[1:]}
		if _, err := a.call(ctx, http.MethodPost, "/v1/groups", body, new(struct{})); err != nil {
			return fmt.Errorf("making group %q: %w", g.name, err)
		}
		for _, u := range users {
			g.members[u] = true
			r.join(codec.KindGroup, g.name, u)
			r.h.Join(g.id, 1, r.devicesOf(u)...)
		}
		r.groups = append(r.groups, g)
	}
	a.http.CloseIdleConnections()
	return nil
}

func (r *Run) devicesOf(user int) (all []*Device) {
	for _, t := range r.terminals[user*r.o.Devices : (user+1)*r.o.Devices] {
		all = append(all, t.h)
	}
	return all
}

// changeMembers adds and removes members until the context ends.
func (r *Run) changeMembers(ctx context.Context) {
	a := newAdmin(&r.o)
	defer a.http.CloseIdleConnections()
	rng := rand.New(rand.NewPCG(r.o.Seed, 1<<32))
	for {
		select {
		case <-time.After(time.Duration(rng.ExpFloat64() / r.o.Members * float64(time.Second))):
		case <-ctx.Done():
			return
		}
		g, u := r.groups[rng.IntN(len(r.groups))], rng.IntN(r.o.Users)
		var err error
		switch {
		case u == g.owner:
			continue
		case g.members[u]:
			err = r.removeMember(ctx, a, g, u)
		default:
			err = r.addMember(ctx, a, g, u)
		}
		if err != nil && ctx.Err() == nil {
			r.complain("changing the members of %s: %v", g.name, err)
		}
		r.n.changes.Add(1)
	}
}

// addMember adds a user, who must get everything from its entry in the log on.
func (r *Run) addMember(ctx context.Context, a *admin, g *group, u int) error {
	var done struct{ Seq uint64 }
	path := "/v1/groups/" + url.PathEscape(g.name)
	// The change is carried out to its end, whatever happens to ctx: what became of it must be known.
	ctx = context.WithoutCancel(ctx)
	unsure, err := a.call(ctx, http.MethodPost, path+"/members", map[string]any{"users": []string{r.userName(u)}}, &done)
	if err != nil {
		return err
	}
	if unsure || done.Seq == 0 {
		var info struct {
			Users []struct {
				User   string
				Joined uint64
			}
		}
		if _, err := a.call(ctx, http.MethodGet, path+"?limit=10000", nil, &info); err != nil {
			return err
		}
		i := slices.IndexFunc(info.Users, func(m struct {
			User   string
			Joined uint64
		}) bool {
			return m.User == r.userName(u)
		})
		if i < 0 {
			return fmt.Errorf("%s was added and is no member", r.userName(u))
		}
		done.Seq = info.Users[i].Joined
	}
	g.members[u] = true
	r.h.Join(g.id, done.Seq, r.devicesOf(u)...)
	r.tell(u, func(t *terminal) {
		t.addTarget(target{to: t.follow(codec.KindGroup, []byte(g.name))})
	})
	return nil
}

// removeMember removes a user, who must get nothing behind its entry in the log.
func (r *Run) removeMember(ctx context.Context, a *admin, g *group, u int) error {
	var done struct{ Seq uint64 }
	path := "/v1/groups/" + url.PathEscape(g.name)
	ctx = context.WithoutCancel(ctx)
	if _, err := a.call(ctx, http.MethodDelete, path+"/members/"+url.PathEscape(r.userName(u)), nil, &done); err != nil {
		return err
	}
	if done.Seq == 0 { // an earlier try did it
		var info struct{ Head uint64 }
		if _, err := a.call(ctx, http.MethodGet, path+"?limit=1", nil, &info); err != nil {
			return err
		}
		done.Seq = info.Head
	}
	g.members[u] = false
	r.h.Leave(g.id, done.Seq, r.devicesOf(u)...)
	r.tell(u, func(t *terminal) { t.dropTarget(g.id) })
	return nil
}

// tell has a user's terminals do something on their own goroutines, if they live.
func (r *Run) tell(user int, do func(*terminal)) {
	for _, t := range r.terminals[user*r.o.Devices : (user+1)*r.o.Devices] {
		select {
		case t.told <- do:
		case <-r.over:
		}
	}
}
