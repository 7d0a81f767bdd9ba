package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"gannet/codec"
	"gannet/server/durable"
)

// Members in one answer.
const (
	groupPage    = 1_000
	groupPageMax = 10_000
)

// routeGroups adds what manages groups. Who may use the admin interface may change every group; roles bind clients.
func (a *admin) routeGroups(mux *http.ServeMux) {
	mux.Handle("POST /v1/groups", a.guard(a.createGroup))
	mux.Handle("GET /v1/groups/{group}", a.guard(a.groupInfo))
	mux.Handle("PATCH /v1/groups/{group}", a.guard(a.groupPolicy))
	mux.Handle("DELETE /v1/groups/{group}", a.guard(a.deleteGroup))
	mux.Handle("POST /v1/groups/{group}/members", a.guard(a.addMembers))
	mux.Handle("PUT /v1/groups/{group}/members/{user}", a.guard(a.setRole))
	mux.Handle("DELETE /v1/groups/{group}/members/{user}", a.guard(a.removeMember))
	mux.Handle("GET /v1/users/{user}/groups", a.guard(a.groupsOf))
}

const groupsIndex = `POST /v1/groups               {"name":G,"owner":U,"members":[…],"post":"member|admin|owner","open":B}
GET  /v1/groups/G?after=U     what it is and its members, ?limit=N; DELETE, PATCH {"post":R,"open":B}
POST /v1/groups/G/members     {"users":[…],"role":"member|admin|owner"}
PUT  /v1/groups/G/members/U   {"role":R}; DELETE
GET  /v1/users/U/groups       the groups of a user
`

func (a *admin) createGroup(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name    string   `json:"name"`
		Owner   string   `json:"owner"`
		Members []string `json:"members"`
		Role    string   `json:"role"` // of the members
		Post    string   `json:"post"` // least role that may post
		Open    bool     `json:"open"` // members read also what was said before they joined
		By      string   `json:"by"`   // who asks, for the record; everywhere
	}
	if !decode(w, r, &body) {
		return
	}
	ch := durable.Change{Op: durable.ChangeCreate, Group: body.Name, User: body.Owner, Users: body.Members, Open: &body.Open, By: body.By}
	if role(w, "role", body.Role, &ch.Role) && role(w, "post", body.Post, &ch.Post) {
		a.change(w, r, http.StatusCreated, ch)
	}
}

func (a *admin) deleteGroup(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, http.StatusOK, durable.Change{Op: durable.ChangeDelete, Group: r.PathValue("group"), By: r.URL.Query().Get("by")})
}

func (a *admin) groupPolicy(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Post string `json:"post"`
		Open *bool  `json:"open"`
		By   string `json:"by"`
	}
	if !decode(w, r, &body) {
		return
	}
	ch := durable.Change{Op: durable.ChangePolicy, Group: r.PathValue("group"), Open: body.Open, By: body.By}
	if role(w, "post", body.Post, &ch.Post) {
		a.change(w, r, http.StatusOK, ch)
	}
}

func (a *admin) addMembers(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Users []string `json:"users"`
		Role  string   `json:"role"` // "": those who are members keep theirs, new ones are "member"
		By    string   `json:"by"`
	}
	if !decode(w, r, &body) {
		return
	}
	ch := durable.Change{Op: durable.ChangeAdd, Group: r.PathValue("group"), Users: body.Users, By: body.By}
	if role(w, "role", body.Role, &ch.Role) {
		a.change(w, r, http.StatusOK, ch)
	}
}

func (a *admin) setRole(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Role string `json:"role"`
		By   string `json:"by"`
	}
	if !decode(w, r, &body) {
		return
	}
	ch := durable.Change{Op: durable.ChangeRole, Group: r.PathValue("group"), User: r.PathValue("user"), By: body.By}
	if role(w, "role", body.Role, &ch.Role) {
		a.change(w, r, http.StatusOK, ch)
	}
}

func (a *admin) removeMember(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, http.StatusOK, durable.Change{
		Op: durable.ChangeRemove, Group: r.PathValue("group"), User: r.PathValue("user"), By: r.URL.Query().Get("by"),
	})
}

// role reads the name of a role; an empty one leaves it to the change.
func role(w http.ResponseWriter, field, name string, into *durable.Role) (ok bool) {
	if name == "" {
		return true
	}
	if *into, ok = durable.ParseRole(name); !ok {
		fail(w, http.StatusBadRequest, "%s: %q is not member, admin or owner", field, name)
	}
	return ok
}

// change answers with the seq of the entry in the group's log, 0 when all was so already.
func (a *admin) change(w http.ResponseWriter, r *http.Request, ok int, ch durable.Change) {
	or(&ch.By, a.s.opts.Node)
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	done, err := a.s.durableLog.Change(ctx, ch)
	if err != nil {
		failGroup(w, err)
		return
	}
	reply(w, ok, map[string]any{"group": ch.Group, "seq": done.Seq, "members": done.Members})
}

func failGroup(w http.ResponseWriter, err error) {
	code := http.StatusServiceUnavailable
	for _, c := range []struct {
		is   error
		code int
	}{
		{durable.ErrInvalid, http.StatusBadRequest},
		{durable.ErrNotFound, http.StatusNotFound},
		{durable.ErrConflict, http.StatusConflict},
		{context.DeadlineExceeded, http.StatusGatewayTimeout},
	} {
		if errors.Is(err, c.is) {
			code = c.code
			break
		}
	}
	fail(w, code, "%v", err)
}

func (a *admin) groupInfo(w http.ResponseWriter, r *http.Request) {
	limit := groupPage
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > groupPageMax {
			fail(w, http.StatusBadRequest, "limit: %q is not a number from 1 to %d", s, groupPageMax)
			return
		}
		limit = n
	}
	g, err := a.s.durableLog.Group(r.PathValue("group"), r.URL.Query().Get("after"), limit)
	if err != nil {
		failGroup(w, err)
		return
	}
	type user struct {
		User   string `json:"user"`
		Role   string `json:"role"`
		Joined uint64 `json:"joined"` // seq
	}
	users, next := make([]user, len(g.Page)), ""
	for i, m := range g.Page {
		users[i] = user{m.User, m.Role.String(), m.Joined}
	}
	if g.More {
		next = users[len(users)-1].User
	}
	reply(w, http.StatusOK, map[string]any{
		"group": g.Name, "post": g.Post.String(), "open": g.Open, "large": g.Large, "since": g.Since, "head": g.Head, "created": g.Created,
		"members": g.Members, "users": users, "next": next,
	})
}

func (a *admin) groupsOf(w http.ResponseWriter, r *http.Request) {
	user := r.PathValue("user")
	if !codec.ValidID([]byte(user)) {
		fail(w, http.StatusBadRequest, "%q is no user", user)
		return
	}
	names, err := a.s.durableLog.GroupsOf(user)
	if err != nil {
		failGroup(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"user": user, "groups": names})
}
