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

// Served brings answered reads back to the shard that asked; all of them are of one. Any goroutine may call it.
func (n *Node) Served(reads ...*Read) {
	if len(reads) > 0 {
		sh := n.shards[reads[0].Ref.Shard()]
		sh.mail.serve(reads, sh)
	}
}
