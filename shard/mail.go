package shard

import "sync"

// mail is what the log has for a shard: commits in their order, and answers to reads. Any goroutine puts, the loop takes.
// It is bounded by who puts: commits by slots, reads by what the log accepts.
type mail struct {
	slots chan struct{} // one for each commit that was put and not taken

	mu      sync.Mutex
	commits []*Commit // guarded by mu
	reads   []*Read   // guarded by mu
	free    []*Commit // guarded by mu; to be used again
}

func (m *mail) init() { m.slots = make(chan struct{}, courierDepth) }

// spare returns an empty Commit.
func (m *mail) spare() *Commit {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.free); n > 0 {
		c := m.free[n-1]
		m.free = m.free[:n-1]
		return c
	}
	return &Commit{}
}

func (m *mail) put(c *Commit, sh *Shard, stop <-chan struct{}) bool {
	select {
	case m.slots <- struct{}{}:
	default:
		select {
		case m.slots <- struct{}{}:
		case <-stop:
			return false
		}
	}
	m.mu.Lock()
	wake := len(m.commits)+len(m.reads) == 0
	m.commits = append(m.commits, c)
	m.mu.Unlock()
	if wake {
		sh.wake()
	}
	return true
}

func (m *mail) serve(reads []*Read, sh *Shard) {
	m.mu.Lock()
	wake := len(m.commits)+len(m.reads) == 0
	m.reads = append(m.reads, reads...)
	m.mu.Unlock()
	if wake {
		sh.wake()
	}
}

// take empties the mailbox; the slices go back with giveBack.
func (m *mail) take(commits []*Commit, reads []*Read) ([]*Commit, []*Read) {
	m.mu.Lock()
	m.commits, commits = commits, m.commits
	m.reads, reads = reads, m.reads
	m.mu.Unlock()
	return commits, reads
}

// keepSteps is the number of steps and answers up to which a Commit is used again.
const keepSteps = 4096

// done returns a commit that was taken.
func (m *mail) done(c *Commit) {
	clear(c.Steps)
	c.Steps, c.Answers = c.Steps[:0], c.Answers[:0]
	m.mu.Lock()
	if len(m.free) < 2 && cap(c.Steps) <= keepSteps && cap(c.Answers) <= keepSteps {
		m.free = append(m.free, c)
	}
	m.mu.Unlock()
	<-m.slots
}

// trim lets go of what is kept to be used again.
func (m *mail) trim() {
	m.mu.Lock()
	m.free = nil
	if len(m.commits) == 0 {
		m.commits = nil
	}
	if len(m.reads) == 0 {
		m.reads = nil
	}
	m.mu.Unlock()
}

// takeMail takes what the log has for this shard.
func (sh *Shard) takeMail() {
	if sh.cfg.Log == nil {
		return
	}
	sh.commits, sh.served = sh.mail.take(sh.commits[:0], sh.served[:0])
	for i, c := range sh.commits {
		sh.takeCommit(c)
		sh.mail.done(c)
		sh.commits[i] = nil
	}
	for i, r := range sh.served {
		sh.takeRead(r)
		sh.served[i] = nil
	}
	sh.tellPositions()
}

func (sh *Shard) takeCommit(c *Commit) {
	sh.items += uint64(len(c.Steps) + len(c.Answers))
	for i := range c.Steps {
		st := &c.Steps[i]
		switch {
		case st.member != nil:
			sh.membership(st.member)
		case st.room != nil:
			sh.enqueue(st.room, st.Frame, st.Born)
		default:
			sh.delivery(&st.Delivery)
		}
	}
	for i := range c.Answers {
		sh.sendAnswer(&c.Answers[i])
	}
}

// delivery takes a message for one session.
func (sh *Shard) delivery(d *Delivery) {
	sh.heard, sh.took = max(sh.heard, d.Place), max(sh.took, d.Place)
	s := sh.receiver(d.Ref, d.User)
	switch {
	case s == nil:
		if d.Frame != nil {
			sh.stats.drop(DropStaleSession, 1)
		}
	case d.Place != 0:
		sh.inboxMessage(s, d)
	case s.phase == phaseLive:
		sh.deliver(s, d.Frame, d.Born)
	default:
		sh.stats.drop(DropCatchingUp, 1)
	}
}

// Served brings answered reads back to the shard that asked; all of them are of one. Any goroutine may call it.
func (n *Node) Served(reads ...*Read) {
	if len(reads) > 0 {
		sh := n.shards[reads[0].Ref.Shard()]
		sh.mail.serve(reads, sh)
	}
}
