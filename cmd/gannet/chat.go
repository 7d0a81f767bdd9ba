package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"gannet/client"
)

// chatCmd is a conversation in a terminal.
type chatCmd struct {
	connFlags
	To    string `help:"User to talk to." xor:"target" placeholder:"USER"`
	Topic string `help:"Topic to join." xor:"target" placeholder:"NAME"`
}

const chatHelp = `/to USER      talk to a user
/topic NAME   join a topic and talk there; the one before is left
/me           who you are; with text, say what you do: /me waves
/who          who is in the topic
/help         this
/quit         leave, as Ctrl-D does`

// Help is shown by `gannet chat --help`.
func (*chatCmd) Help() string {
	return "Lines that you type are sent; those that begin with a slash are commands:\n\n  " +
		strings.ReplaceAll(chatHelp, "\n", "\n  ") + "\n\nTwo terminals:\n\n" +
		"  gannet chat --user alice --to bob\n  gannet chat --user bob --to alice\n\nStandard input may be a pipe: " +
		"the chat then ends when it does, and with exit code 1 if a line could not be sent."
}

// Run implements the command.
func (c *chatCmd) Run() error {
	ctx, stop := interruptible()
	defer stop()
	screen := newChatScreen(os.Stdout, nil)
	if t := openTerminal(os.Stdin, os.Stdout); t != nil {
		defer t.leave()
		screen.width = t.width
		goesOn := make(chan os.Signal, 1)
		signal.Notify(goesOn, syscall.SIGCONT, syscall.SIGWINCH)
		screen.changed, screen.enter = goesOn, t.enter
	}
	return c.run(ctx, os.Stdin, screen)
}

// Keys and lifetimes of the states that chats share.
const (
	presenceKey = "presence" // ttl 0: ends with the session
	typingKey   = "typing"
	typingTTL   = 6 * time.Second
	typingEvery = 4 * time.Second // how often it is repeated
)

// chat is one running conversation. Everything belongs to the goroutine of loop; handlers of the client, the reader of
// standard input and the worker reach it through channels.
type chat struct {
	client *client.Client
	screen *chatScreen
	self   client.Welcome

	target  client.Channel       // zero: none yet
	topic   string               // joined, "" for none
	present map[string]bool      // in topic; false: not heard of since the last reconnect
	typing  map[string]time.Time // user: until when
	told    time.Time            // when typing was last told

	waiting []chatJob // for the worker
	leaving bool      // no more input; ends when the worker is done
	failed  int       // lines that could not be sent
}

// chatJob is something that waits for the server's answer. The worker does them one after the other, so what is
// said after /topic goes out after the subscription.
type chatJob struct {
	what string // for the message about its failure
	line bool   // it is something that was said
	do   func(context.Context) error
	err  error
}

// maxChatJobs bounds what waits; beyond it standard input waits.
const maxChatJobs = 64

func (c *chatCmd) run(ctx context.Context, stdin io.Reader, screen *chatScreen) error {
	ctx, cancel := context.WithCancel(ctx)
	opt := c.options()
	events := make(chan chatEvent)
	chatHandlers(ctx, &opt, events)
	ch := &chat{screen: screen, present: map[string]bool{}, typing: map[string]time.Time{}}
	cl, err := dialChat(ctx, opt, events, ch)
	if err != nil {
		cancel()
		return err
	}
	defer cl.Close() // handlers give up once ctx has ended
	defer cancel()
	ch.client = cl
	switch {
	case c.To != "":
		ch.command("/to " + c.To)
	case c.Topic != "":
		ch.command("/topic " + c.Topic)
	default:
		screen.print("* /to USER or /topic NAME says whom you talk to, /help what else there is")
	}
	input := make(chan []byte)
	go readInput(ctx, stdin, input)
	return explain(ch.loop(ctx, input, events), opt.Addrs)
}

// dialChat dials and has the first login told, for which it takes events meanwhile.
func dialChat(ctx context.Context, opt client.Options, events <-chan chatEvent, ch *chat) (cl *client.Client, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		cl, err = dial(ctx, opt)
	}()
	welcomed := false
	var over <-chan struct{} // nil while dialling, which ends by itself
	for dialled := done; ; {
		select {
		case ev := <-events:
			welcomed = welcomed || ev.welcome != nil
			if welcomed { // failures until then are dial's to tell
				ch.event(ev)
			}
			if welcomed && dialled == nil {
				return cl, nil
			}
		case <-dialled:
			if err != nil || welcomed {
				return cl, err
			}
			dialled, over = nil, ctx.Done()
		case <-over:
			return cl, nil
		}
	}
}

// loop is the conversation.
func (ch *chat) loop(ctx context.Context, input <-chan []byte, events <-chan chatEvent) error {
	jobs, results := make(chan chatJob), make(chan chatJob)
	go chatWorker(ctx, jobs, results)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		in, out, next := input, jobs, chatJob{}
		if len(ch.waiting) > 0 {
			next = ch.waiting[0]
		} else {
			out = nil
			if ch.leaving && jobs != nil {
				close(jobs) // the worker ends and closes results
				jobs = nil
			}
		}
		if ch.leaving || len(ch.waiting) >= maxChatJobs {
			in = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ch.client.Done():
			return ch.client.Err()
		case b, ok := <-in:
			ch.typed(b, !ok)
		case ev := <-events:
			ch.event(ev)
		case out <- next:
			ch.waiting = ch.waiting[1:]
		case job, ok := <-results:
			if !ok {
				return ch.outcome()
			}
			ch.result(job)
		case <-ch.screen.changed:
			ch.screen.resume()
		case now := <-tick.C:
			ch.expireTyping(now)
		}
	}
}

func (ch *chat) outcome() error {
	if ch.failed > 0 {
		return fmt.Errorf("%d lines were not sent", ch.failed)
	}
	return nil
}

func chatWorker(ctx context.Context, jobs <-chan chatJob, results chan<- chatJob) {
	defer close(results)
	for job := range jobsUntil(ctx, jobs) {
		one, cancel := context.WithTimeout(ctx, answerTimeout)
		job.err = job.do(one)
		cancel()
		select {
		case results <- job:
		case <-ctx.Done():
			return
		}
	}
}

// jobsUntil yields jobs until there are no more or ctx ends.
func jobsUntil(ctx context.Context, jobs <-chan chatJob) func(func(chatJob) bool) {
	return func(yield func(chatJob) bool) {
		for {
			select {
			case job, ok := <-jobs:
				if !ok || !yield(job) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (ch *chat) result(job chatJob) {
	if job.err == nil {
		return
	}
	if job.line {
		ch.failed++
	}
	ch.screen.print(fmt.Sprintf("! %s: %v", job.what, job.err))
}

func (ch *chat) do(job chatJob) { ch.waiting = append(ch.waiting, job) }

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
		ch.screen.print("! nobody hears you: /to USER or /topic NAME first")
		return
	}
	m := client.Text(ch.target, text)
	ch.told = time.Time{}
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
	if ch.target.Kind == 0 || now.Sub(ch.told) < typingEvery || len(ch.waiting) > 0 {
		return
	}
	ch.told = now
	to := ch.target
	ch.do(chatJob{what: "typing", do: func(ctx context.Context) error {
		_ = ch.client.SetState(ctx, to, typingKey, typingTTL, []byte("1")) // a courtesy: its failure is no news
		return nil
	}})
}
