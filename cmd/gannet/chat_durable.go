package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gannet/client"
	"gannet/codec"
)

// Bounds of what a chat remembers.
const (
	maxOwnLines = 1000 // whose ticks change
	maxHeldOpen = 1000 // messages that wait for a history
	maxUnread   = 10_000
)

// stored says whether what is said there is stored.
func (ch *chat) stored(to client.Channel) bool {
	return ch.durable && (to.Kind == codec.KindDirect || to.Kind == codec.KindGroup)
}

// postBehindHistory is post, but not before the history of the conversation is shown.
func (ch *chat) postBehindHistory(m client.Message, text string) {
	if !ch.opening[m.Channel] {
		ch.post(m, text)
		return
	}
	ch.do(chatJob{
		do:   func(context.Context) error { return nil },
		then: func(ch *chat, _ error) { ch.post(m, text) },
	})
}

// post says something that is stored: with a connection or without one.
func (ch *chat) post(m client.Message, text string) {
	m.Receipt = true
	id, err := ch.client.Post(m)
	if err != nil {
		ch.failed++
		ch.screen.print(fmt.Sprintf("! not sent: %s: %v", printable(text), err))
		return
	}
	m.Sender, m.Time = ch.self.User, time.Now()
	ch.unsent[id] = true
	ch.printOwn(&ownLine{id: id, channel: m.Channel, text: text}, m)
}

// printOwn shows a line that this user said, and remembers it.
func (ch *chat) printOwn(l *ownLine, m client.Message) {
	ch.screen.printOwn(l, chatLine(m, ch.self.User))
	if ch.own = append(ch.own, l); len(ch.own) > maxOwnLines {
		ch.own = slices.Delete(ch.own, 0, maxOwnLines/10)
	}
}

// pending shows what the run before could not send.
func (ch *chat) pending() {
	list := ch.client.Pending()
	if len(list) == 0 {
		return
	}
	ch.screen.print(fmt.Sprintf("* %d lines of the last time are still to be sent", len(list)))
	for _, p := range list {
		m := p.Message
		ch.unsent[p.ID] = true
		m.Sender, m.Time = ch.self.User, time.Now()
		ch.printOwn(&ownLine{id: p.ID, channel: m.Channel, text: payloadText(m)}, m)
	}
}

// status takes news about messages of this user, and that another device of the user has read some.
func (ch *chat) status(s client.Status) {
	if s.ID == 0 {
		if s.User == ch.self.User {
			if s.State == client.Read {
				delete(ch.unread, s.Channel)
			}
			return
		}
		ch.receipt(s)
		return
	}
	delete(ch.unsent, s.ID)
	i := slices.IndexFunc(ch.own, func(l *ownLine) bool { return l.id == s.ID })
	if i < 0 {
		return // so old that it is forgotten
	}
	l := ch.own[i]
	l.seq, l.state = s.Seq, s.State
	ch.screen.retick(l)
	switch {
	case s.State == client.Failed:
		ch.failed++
		ch.screen.print(fmt.Sprintf("! not sent: %s: %v", printable(l.text), s.Err))
	case ch.screen.width == nil:
		ch.screen.print(ticks[s.State] + printable(l.text))
	}
}

// receipt takes how far somebody else has got.
func (ch *chat) receipt(s client.Status) {
	var newest *ownLine // of this run
	for _, l := range ch.own {
		if l.channel == s.Channel && l.seq != 0 && l.seq <= s.Seq && l.state < s.State && l.state != client.Failed {
			l.state = s.State
			ch.screen.retick(l)
			if l.id != 0 {
				newest = l
			}
		}
	}
	if newest != nil && ch.screen.width == nil {
		ch.screen.print(fmt.Sprintf("%s %s %s: %s", ticks[s.State], s.State, by(s), printable(newest.text)))
	}
}

func by(s client.Status) string {
	if s.State == client.Read {
		return "by " + printable(s.User)
	}
	return "to " + printable(s.User)
}

// message shows what came, or keeps it until the history before it is there.
func (ch *chat) message(m client.Message) {
	if ch.opening[m.Channel] && m.Seq != 0 && len(ch.held) < maxHeldOpen {
		ch.held = append(ch.held, m)
		return
	}
	ch.show(m)
}

func (ch *chat) show(m client.Message) {
	ch.screen.print(chatLine(m, ch.self.User))
	switch {
	case m.Seq == 0 || ch.ephemeral:
	case m.Channel == ch.target:
		ch.read(m.Channel, m.Seq)
	case m.Sender != ch.self.User && len(ch.unread) < maxUnread:
		ch.unread[m.Channel]++
	}
}

// read tells that this user has seen a conversation up to here.
func (ch *chat) read(c client.Channel, seq uint64) {
	delete(ch.unread, c)
	_ = ch.client.MarkRead(c, seq) // the name is one that came from the server
}

// gap tells of messages that cannot be had any more.
func (ch *chat) gap(g client.Gap) {
	switch {
	case g.Reason == codec.GapFiltered:
	case g.Channel.Kind == codec.KindInbox:
		ch.screen.print("* older messages are not delivered any more; /list shows your conversations")
	default:
		ch.screen.print("* " + chatName(g.Channel) + ": " + lost(g))
	}
}

// lost says what a gap means.
func lost(g client.Gap) string {
	what := fmt.Sprintf("message %d is", g.From)
	if g.To != g.From {
		what = fmt.Sprintf("messages %d to %d are", g.From, g.To)
	}
	switch g.Reason {
	case codec.GapNoRight:
		return what + " not for you"
	case codec.GapNotSent:
		return what + " left out, there were too many"
	}
	return what + " not kept any more"
}

// open shows the last messages of a conversation, and then what came meanwhile.
func (ch *chat) open(to client.Channel) {
	if !ch.stored(to) {
		ch.release(to, 0)
		return
	}
	ch.opening[to] = true
	var h client.History
	ch.do(chatJob{
		do: func(ctx context.Context) (err error) {
			if ch.history > 0 {
				h, err = ch.client.Last(ctx, to, ch.history)
			}
			return err
		},
		then: func(ch *chat, err error) {
			if err != nil {
				ch.screen.print(fmt.Sprintf("! history of %s: %v", chatName(to), err))
			}
			ch.showHistory(to, h)
		},
	})
}

func (ch *chat) showHistory(to client.Channel, h client.History) {
	last := uint64(0)
	for _, m := range h.Messages {
		last = m.Seq
		if m.Sender == ch.self.User && m.Event == 0 {
			ch.printOwn(&ownLine{channel: to, seq: m.Seq, state: client.Sent, text: payloadText(m)}, m)
		} else {
			ch.screen.print(chatLine(m, ch.self.User))
		}
	}
	if last != 0 && ch.target == to {
		ch.read(to, last)
	}
	ch.release(to, last)
}

// release shows what waited for a history that ends with a seq.
func (ch *chat) release(c client.Channel, last uint64) {
	delete(ch.opening, c)
	held := ch.held
	ch.held = nil
	for _, m := range held {
		switch {
		case m.Channel != c:
			ch.held = append(ch.held, m)
		case m.Seq > last:
			ch.show(m)
		}
	}
}

// list shows the conversations, those with the newest messages first.
func (ch *chat) list() {
	var all client.Conversations
	ch.do(chatJob{
		do: func(ctx context.Context) (err error) {
			all, err = ch.client.List(ctx, 0, 50)
			return err
		},
		then: func(ch *chat, err error) {
			if err != nil {
				ch.screen.print(fmt.Sprintf("! list: %v", err))
				return
			}
			ch.screen.print(listText(all))
		},
	})
}

func listText(all client.Conversations) string {
	if len(all.List) == 0 {
		return "* no conversations yet"
	}
	var lines []string
	for _, c := range all.List {
		unread := "all read"
		if c.Unread > 0 {
			unread = fmt.Sprintf("%d unread", c.Unread)
		}
		when := strings.Repeat(" ", len("2006-01-02 15:04"))
		if !c.Time.IsZero() {
			when = c.Time.Format("2006-01-02 15:04")
		}
		name := chatName(c.Channel)
		if c.Channel.Kind == codec.KindGroup {
			name = "group " + name
		}
		lines = append(lines, fmt.Sprintf("* %s  %-12s %s", when, unread, name))
	}
	if all.Next != 0 {
		lines = append(lines, "* and older ones")
	}
	return strings.Join(lines, "\n")
}

// settled says, while leaving, that nothing is on its way any more, or that waiting longer is no use.
func (ch *chat) settled(now time.Time) bool {
	if ch.patient.IsZero() {
		ch.patient = now.Add(answerTimeout)
	}
	return len(ch.unsent) == 0 || now.After(ch.patient)
}

// leftOver tells, at the end, what was not sent.
func (ch *chat) leftOver() {
	list := ch.client.Pending()
	if len(list) > 0 && ch.kept != nil {
		ch.screen.print(fmt.Sprintf("* %d lines wait in %s and are sent the next time", len(list), ch.kept.dir))
		return
	}
	for _, p := range list {
		ch.failed++
		ch.screen.print("! not sent: " + payloadText(p.Message) + ": no connection to a server")
	}
}
