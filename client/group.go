package client

import (
	"encoding/json"
	"fmt"
)

// GroupEvent says which change of a group a message tells. Changes are messages of the group's log, so they have a place
// among what was said. The server alone makes them.
type GroupEvent uint8

// Group events.
const (
	GroupCreated GroupEvent = 1 // users are the first members
	GroupDeleted GroupEvent = 2
	GroupAdded   GroupEvent = 3
	GroupRemoved GroupEvent = 4
	GroupRole    GroupEvent = 5 // users got a role
	GroupPolicy  GroupEvent = 6 // who may post, and who may read what was said before
	GroupGrown   GroupEvent = 7 // too large for inboxes; nothing changes for members
)

var groupEventNames = [...]string{
	GroupCreated: "created", GroupDeleted: "deleted", GroupAdded: "added", GroupRemoved: "removed", GroupRole: "role",
	GroupPolicy: "policy", GroupGrown: "grown",
}

func (e GroupEvent) String() string {
	if int(e) < len(groupEventNames) && e != 0 {
		return groupEventNames[e]
	}
	return fmt.Sprintf("event-%d", uint8(e))
}

// Roles of members, lowest first; a higher one may all that a lower one may.
const (
	RoleMember = "member"
	RoleAdmin  = "admin"
	RoleOwner  = "owner"
)

// GroupChange is what a message with an Event says. A change of many users may come as several messages.
type GroupChange struct {
	Users []string `json:"users"` // whom it is about; with GroupCreated the members
	Role  string   `json:"role"`  // of Users: GroupCreated, GroupAdded, GroupRole
	Owner string   `json:"owner"` // GroupCreated
	Post  string   `json:"post"`  // least role that may post: GroupCreated, GroupPolicy
	Open  bool     `json:"open"`  // members read also what was said before they joined: GroupCreated, GroupPolicy
	By    string   `json:"by"`
}

// Change reads a message that has an Event.
func (m Message) Change() (GroupChange, error) {
	var g GroupChange
	if m.Event == 0 {
		return g, fmt.Errorf("client: message %d of %v tells no change of a group", m.Seq, m.Channel)
	}
	if err := json.Unmarshal(m.Payload, &g); err != nil {
		return g, fmt.Errorf("client: message %d of %v, %v: %w", m.Seq, m.Channel, m.Event, err)
	}
	return g, nil
}
