package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"gannet/client"
)

// chatCmd is a conversation in a terminal.
type chatCmd struct {
	connFlags
	stateFlags
	To        string `help:"User to talk to." xor:"target" placeholder:"USER"`
	Group     string `help:"Group to talk in." xor:"target" placeholder:"NAME"`
	Topic     string `help:"Topic to join." xor:"target" placeholder:"NAME"`
	Ephemeral bool   `help:"Say things only to who is there now. Otherwise what is said to users and groups is stored, if the server stores anything."`
	History   int    `help:"How many of the last messages a conversation begins with. Default: ${default}." default:"20" placeholder:"N"`
}

const chatHelp = `/to USER      talk to a user
/group NAME   talk in a group that you belong to
/topic NAME   join a topic and talk there; the one before is left
/list         your conversations, and what is unread in them
/me           who you are; with text, say what you do: /me waves
/who          who is in the topic
/help         this
/quit         leave, as Ctrl-D does`

// Help is shown by `gannet chat --help`.
func (*chatCmd) Help() string {
	return "Lines that you type are sent; those that begin with a slash are commands:\n\n  " +
		strings.ReplaceAll(chatHelp, "\n", "\n  ") + "\n\nTwo terminals:\n\n" +
		"  gannet chat --user alice --to bob\n  gannet chat --user bob --to alice\n\n" +
		"What you say to users and groups is stored by the server and reaches those who are away later. Ticks tell how far it has got: " +
		"… on its way, ✓ stored, ✓✓ delivered, ✓✓ in colour read (in a group by one member at least), ✗ refused. Without a connection lines wait and are sent " +
		"when there is one; with --state even by the next run.\n\n" +
		"Standard input may be a pipe: the chat then ends when it does and all lines are stored, and with exit code 1 if a line could not be " +
		"sent. Ticks are lines of their own then."
}

// Run implements the command.
func (c *chatCmd) Run() error {
	ctx, stop := interruptible()
	defer stop()
	screen := newChatScreen(os.Stdout, nil)
	if t := openTerminal(os.Stdin, os.Stdout); t != nil {
		defer t.leave()
		screen.width, screen.height = t.width, t.height
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

	// Of a server that stores messages; see chat_durable.go.
	durable   bool                      // what is said to users and groups is stored
	ephemeral bool                      // by wish it is not
	history   int                       // how many messages a conversation begins with
	opening   map[client.Channel]bool   // its history is on its way, so what comes waits
	held      []client.Message          // what waits, bounded
	unread    map[client.Channel]uint64 // came since the conversation was open last; bounded
	own       []*ownLine                // said by this user, bounded; ascending by id, those of histories before and between
	unsent    map[uint64]bool           // IDs of what was said and is not answered; bounded by the outbox
	kept      *state                    // nil: nothing outlives this run

	waiting []chatJob // for the worker
	leaving bool      // no more input; ends when the worker is done and nothing is on its way
	patient time.Time // while leaving: until when
	failed  int       // lines that could not be sent
}

// chatJob is something that waits for the server's answer. The worker does them one after the other, so what is
// said after /topic goes out after the subscription.
type chatJob struct {
	what string // for the message about its failure
	line bool   // it is something that was said
	do   func(context.Context) error
	err  error
	then func(ch *chat, err error) // instead of telling the error; nil: none
}

// maxChatJobs bounds what waits; beyond it standard input waits.
const maxChatJobs = 64

func (c *chatCmd) run(ctx context.Context, stdin io.Reader, screen *chatScreen) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // once more: before the client is closed, see below
	opt := c.options()
	st, err := c.open(&opt, c.Device)
	if err != nil {
		return err
	}
	defer st.close()
	events := make(chan chatEvent)
	chatHandlers(ctx, &opt, events)
	ch := &chat{
		screen: screen, present: map[string]bool{}, typing: map[string]time.Time{}, ephemeral: c.Ephemeral, history: c.History, kept: st,
		unsent: map[uint64]bool{}, opening: map[client.Channel]bool{}, unread: map[client.Channel]uint64{},
	}
	first := c.first()
	if first.Kind != 0 {
		ch.opening[first] = true // what was missed waits for what was said before
	}
	cl, err := dialChat(ctx, opt, events, ch)
	if err != nil {
		return err
	}
	defer cl.Close() // handlers give up once ctx has ended
	defer cancel()
	ch.client = cl
	ch.pending()
	switch {
	case c.Topic != "":
		ch.command("/topic " + c.Topic)
	case first.Kind != 0:
		ch.aim(first)
	default:
		screen.print("* /to USER, /group NAME or /topic NAME says whom you talk to, /help what else there is")
		if ch.durable {
			ch.list()
		}
	}
	input := make(chan []byte)
	go readInput(ctx, stdin, input)
	return explain(ch.loop(ctx, input, events), opt.Addrs)
}

// first is the conversation to begin with; its Kind is 0 when there is none with a history.
func (c *chatCmd) first() client.Channel {
	switch {
	case c.To != "":
		return client.User(c.To)
	case c.Group != "":
		return client.Group(c.Group)
	}
	return client.Channel{}
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
			if ch.leaving && jobs != nil && ch.settled(time.Now()) {
				close(jobs) // the worker ends and closes results
				jobs = nil
			}
		}
		if ch.leaving || len(ch.waiting) >= maxChatJobs {
			in = nil
		}
		select {
		case <-ctx.Done():
			ch.leftOver()
			return nil
		case <-ch.client.Done():
			ch.leftOver()
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
	ch.leftOver()
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
	if job.then != nil {
		job.then(ch, job.err)
		return
	}
	if job.err == nil {
		return
	}
	if job.line {
		ch.failed++
	}
	ch.screen.print(fmt.Sprintf("! %s: %v", job.what, job.err))
}

func (ch *chat) do(job chatJob) { ch.waiting = append(ch.waiting, job) }
