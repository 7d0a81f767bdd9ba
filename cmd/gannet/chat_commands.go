package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gannet/client"
	"gannet/codec"
)

// typed takes a piece of standard input.
func (ch *chat) typed(b []byte, eof bool) {
	if eof {
		ch.leaving = true
	}
	lines, end := ch.screen.feed(b, eof)
	for _, l := range lines {
		if !ch.leaving || eof {
			ch.line(l)
		}
	}
	if end {
		ch.leaving = true
	}
	if ch.screen.editing() && len(lines) == 0 {
		ch.tellTyping(time.Now())
	}
}

func (ch *chat) line(l string) {
	l = strings.TrimSpace(l)
	switch {
	case l == "":
	case strings.HasPrefix(l, "/") && !strings.HasPrefix(l, "/me "):
		ch.command(l)
	default:
		ch.say(l)
	}
}

func (ch *chat) say(text string) {
	if ch.target.Kind == 0 {
		ch.failed++
		ch.screen.print("! nobody hears you: /to USER, /group NAME or /topic NAME first")
		return
	}
	m := client.Text(ch.target, text)
	ch.told = time.Time{}
	if ch.stored(ch.target) {
		ch.postBehindHistory(m, text)
		return
	}
	ch.do(chatJob{what: "not sent: " + printable(text), line: true, do: func(ctx context.Context) error {
		_, err := ch.client.Send(ctx, m)
		return err
	}})
	m.Sender, m.Time = ch.self.User, time.Now()
	ch.screen.print(chatLine(m, ch.self.User))
}

func (ch *chat) command(l string) {
	name, arg, _ := strings.Cut(l, " ")
	arg = strings.TrimSpace(arg)
	switch {
	case name == "/to" && arg != "":
		ch.aim(client.User(arg))
	case name == "/group" && arg != "":
		ch.aim(client.Group(arg))
	case name == "/list":
		ch.list()
	case name == "/topic" && arg != "":
		ch.join(strings.TrimPrefix(arg, "#"))
	case name == "/me":
		ch.screen.print(fmt.Sprintf("* you are %s, session %d on node %s", printable(ch.self.User), ch.self.Session, printable(ch.self.Node)))
	case name == "/who":
		ch.who()
	case name == "/quit":
		ch.leaving = true
	case name == "/help":
		ch.screen.print(chatHelp)
	default:
		ch.screen.print("! " + printable(l) + " is no command, or something is missing; /help lists them")
	}
}

func (ch *chat) aim(to client.Channel) {
	ch.target = to
	clear(ch.typing)
	ch.screen.setPrompt(chatName(to) + "> ")
	ch.screen.print("* you talk to " + chatName(to))
	ch.open(to)
}

func (ch *chat) join(topic string) {
	if old := ch.topic; old != "" && old != topic {
		ch.do(chatJob{what: "leave #" + printable(old), do: func(ctx context.Context) error {
			return errors.Join(ch.client.SetState(ctx, client.Topic(old), presenceKey, 0, nil), ch.client.Unsubscribe(ctx, old))
		}})
	}
	if ch.topic != topic {
		clear(ch.present)
		ch.topic = topic
		ch.do(chatJob{what: "join #" + printable(topic), do: func(ctx context.Context) error { return ch.client.Subscribe(ctx, topic) }})
		ch.appear()
	}
	ch.aim(client.Topic(topic))
}

// appear tells the topic that this user is there, as long as this session lasts.
func (ch *chat) appear() {
	topic := ch.topic
	ch.do(chatJob{what: "presence in #" + printable(topic), do: func(ctx context.Context) error {
		return ch.client.SetState(ctx, client.Topic(topic), presenceKey, 0, []byte("here"))
	}})
}

func (ch *chat) who() {
	if ch.topic == "" {
		ch.screen.print("* you are in no topic; /topic NAME joins one")
		return
	}
	var names []string
	for user, fresh := range ch.present {
		if fresh {
			names = append(names, printable(user))
		}
	}
	slices.Sort(names)
	ch.screen.print(fmt.Sprintf("* in #%s: %s", printable(ch.topic), strings.Join(names, ", ")))
}

func (ch *chat) tellTyping(now time.Time) {
	if ch.target.Kind == 0 || ch.target.Kind == codec.KindGroup || now.Sub(ch.told) < typingEvery || len(ch.waiting) > 0 {
		return
	}
	ch.told = now
	to := ch.target
	ch.do(chatJob{what: "typing", do: func(ctx context.Context) error {
		_ = ch.client.SetState(ctx, to, typingKey, typingTTL, []byte("1")) // a courtesy: its failure is no news
		return nil
	}})
}
