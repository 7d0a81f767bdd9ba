package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"gannet/client"
	"gannet/codec"
)

// chatEvent is what the client's handlers hand to the chat; one field is set.
type chatEvent struct {
	message *client.Message
	state   *client.State
	welcome *client.Welcome
	retry   *client.Retry
	status  *client.Status
	gap     *client.Gap
	err     error
}

// chatHandlers makes the client's handlers feed events until ctx ends.
func chatHandlers(ctx context.Context, opt *client.Options, events chan<- chatEvent) {
	post := func(ev chatEvent) {
		select {
		case events <- ev:
		case <-ctx.Done():
		}
	}
	opt.OnMessage = func(m client.Message) { post(chatEvent{message: &m}) }
	opt.OnState = func(s client.State) { post(chatEvent{state: &s}) }
	opt.OnConnect = func(w client.Welcome) { post(chatEvent{welcome: &w}) }
	opt.OnStatus = func(s client.Status) { post(chatEvent{status: &s}) }
	opt.OnGap = func(g client.Gap) { post(chatEvent{gap: &g}) }
	opt.OnRetry = func(r client.Retry) { post(chatEvent{retry: &r}) }
	opt.OnError = func(err error) { post(chatEvent{err: err}) }
}

// readInput hands standard input over in pieces and closes input at its end. A read cannot be interrupted: when the
// chat ends first, this goroutine ends with the process.
func readInput(ctx context.Context, stdin io.Reader, input chan<- []byte) {
	defer close(input)
	for {
		b := make([]byte, 4<<10)
		n, err := stdin.Read(b)
		if n > 0 {
			select {
			case input <- b[:n]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (ch *chat) event(ev chatEvent) {
	switch {
	case ev.message != nil:
		delete(ch.typing, ev.message.Sender)
		ch.showTyping()
		ch.message(*ev.message)
	case ev.status != nil:
		ch.status(*ev.status)
	case ev.gap != nil:
		ch.gap(*ev.gap)
	case ev.state != nil:
		ch.state(*ev.state)
	case ev.welcome != nil:
		ch.welcome(*ev.welcome)
	case ev.retry != nil:
		ch.screen.print(fmt.Sprintf("* no connection (%s), next try in %.1f s", cause(ev.retry.Err), ev.retry.After.Seconds()))
	case ev.err != nil:
		ch.screen.print(fmt.Sprintf("! %v", ev.err))
	}
}

// welcome follows each login. The server sends the topic's presence again, so those who are not in it have
// left meanwhile.
func (ch *chat) welcome(w client.Welcome) {
	ch.self, ch.durable = w, w.Epoch != 0 && !ch.ephemeral
	ch.screen.print(fmt.Sprintf("* connected to %s as %s", w.Addr, printable(w.User)))
	for user := range ch.present {
		ch.present[user] = false
	}
	if ch.topic != "" {
		ch.appear()
	}
}

func (ch *chat) state(s client.State) {
	switch {
	case s.Key == presenceKey && s.Channel == client.Topic(ch.topic):
		ch.presence(s.User, len(s.Payload) > 0)
	case s.Key == typingKey && s.Channel == ch.target && s.User != ch.self.User:
		delete(ch.typing, s.User)
		if len(s.Payload) > 0 && len(ch.typing) < 16 {
			ch.typing[s.User] = time.Now().Add(min(s.TTL, typingTTL))
		}
		ch.showTyping()
	}
}

// maxPresent bounds the list of who is in a topic.
const maxPresent = 10_000

func (ch *chat) presence(user string, here bool) {
	_, known := ch.present[user]
	switch {
	case here && (known || len(ch.present) < maxPresent):
		ch.present[user] = true
		if !known {
			ch.screen.print(fmt.Sprintf("* %s is in #%s", printable(user), printable(ch.topic)))
		}
	case !here && known:
		delete(ch.present, user)
		ch.screen.print(fmt.Sprintf("* %s has left #%s", printable(user), printable(ch.topic)))
	}
}

func (ch *chat) expireTyping(now time.Time) {
	n := len(ch.typing)
	maps.DeleteFunc(ch.typing, func(_ string, until time.Time) bool { return now.After(until) })
	if len(ch.typing) != n {
		ch.showTyping()
	}
}

func (ch *chat) showTyping() {
	if ch.target.Kind == 0 {
		return
	}
	prompt := chatName(ch.target)
	if len(ch.typing) > 0 {
		prompt += " (" + printable(strings.Join(slices.Sorted(maps.Keys(ch.typing)), ", ")) + " typing)"
	}
	ch.screen.setPrompt(prompt + "> ")
}

func chatName(c client.Channel) string {
	switch c.Kind {
	case codec.KindTopic:
		return "#" + printable(c.Name)
	case codec.KindAll:
		return "everyone"
	}
	return printable(c.Name)
}

// changeText tells a change of a group.
func changeText(m client.Message) string {
	g, err := m.Change()
	if err != nil {
		return "the group has changed"
	}
	users := printable(strings.Join(g.Users, ", "))
	if len(g.Users) > 10 {
		users = fmt.Sprintf("%s and %d others", printable(strings.Join(g.Users[:9], ", ")), len(g.Users)-9)
	}
	by := printable(g.By)
	switch m.Event {
	case client.GroupCreated:
		return fmt.Sprintf("%s made the group of %s", by, users)
	case client.GroupDeleted:
		return by + " deleted the group"
	case client.GroupAdded:
		return by + " added " + users
	case client.GroupRemoved:
		return by + " removed " + users
	case client.GroupRole:
		return fmt.Sprintf("%s made %s %s", by, users, printable(g.Role))
	case client.GroupPolicy:
		return fmt.Sprintf("%s changed the rules: to post takes the role of %s", by, printable(g.Post))
	case client.GroupGrown:
		return "the group is a large one now"
	}
	return "the group has changed: " + m.Event.String()
}

// chatLine shows a message: "15:04 bob: hi", "15:04 alice → bob: hi" for what self said, "15:04 #room bob: hi" in a
// topic.
func chatLine(m client.Message, self string) string {
	who := printable(m.Sender)
	direct := m.Channel.Kind == codec.KindDirect
	switch {
	case direct && m.Sender == self:
		who += " → " + chatName(m.Channel)
	case !direct:
		who = chatName(m.Channel) + " " + who
	}
	text := payloadText(m)
	if m.Event != 0 {
		return fmt.Sprintf("%s * %s: %s", m.Time.Format("15:04"), chatName(m.Channel), changeText(m))
	}
	if action, ok := strings.CutPrefix(text, "/me "); ok {
		return fmt.Sprintf("%s * %s %s", m.Time.Format("15:04"), who, action)
	}
	return fmt.Sprintf("%s %s: %s", m.Time.Format("15:04"), who, text)
}
