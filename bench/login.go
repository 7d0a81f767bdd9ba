package bench

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"gannet/codec"
)

// device is what every connection calls its device; each has a user of its own.
const device = "bench"

var errUnexpected = errors.New("not expected now")

// appendUser appends the name of user i.
func (o *Options) appendUser(b []byte, i uint32) []byte {
	return strconv.AppendUint(append(b, o.UserPrefix...), uint64(i), 10)
}

// openDue opens the connections whose time has come, as long as not too many logins are under way.
func (l *loop) openDue(now int64) {
	for range turnBudget {
		if l.opened == len(l.conns) || l.pending >= l.room {
			return
		}
		due := now
		if l.o.Ramp > 0 {
			if due = l.ramp.at(uint64(l.opened)); due > now {
				return
			}
		}
		c := &l.conns[l.opened]
		l.opened++
		l.open(c, due, now)
	}
}

func (l *loop) open(c *conn, due, now int64) {
	fd, err := l.src.connect(l.src.of(c.index))
	if err != nil {
		l.n.connectErrs.add(errnoOf(err))
		l.n.failed++
		c.state = stateClosed
		return
	}
	c.fd, c.since, c.opened = int32(fd), due, uint32((now-l.start)/1e6)
	c.state, c.limit = stateConnecting, codec.LoginLimit
	l.pending++
	if err := l.poll.ctl(unix.EPOLL_CTL_ADD, fd, int(c.slot), unix.EPOLLIN|unix.EPOLLOUT); err != nil {
		l.fail(fmt.Errorf("watching a connection: %w", err))
	}
	c.blocked = true // EPOLLOUT is asked for
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}

// connected is called when a connect succeeded or failed. It says HELLO, and SUB in the same write.
func (l *loop) connected(c *conn) {
	code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || code != 0 {
		errno := unix.Errno(code)
		if err != nil {
			errno = errnoOf(err)
		}
		l.n.connectErrs.add(errno)
		l.drop(c)
		return
	}
	c.state, c.waitWelcome = stateGreeting, true
	user := l.o.appendUser(nil, c.index)
	hello := codec.Hello{
		Version: codec.Version, Heartbeat: uint16(l.o.Heartbeat / time.Second),
		Device: []byte(device), User: user,
	}
	if l.o.Token != nil {
		hello.Token = []byte(l.o.Token(string(user)))
	}
	l.self.greet(c, &hello)
	c.out = codec.AppendHello(l.takeSpare(), hello)
	if kind, name := l.sc.subscription(c.index); len(name) > 0 {
		c.waitSub = true
		c.out = codec.AppendSub(c.out, codec.Sub{Req: 1, Kind: kind, Name: name})
	}
	l.write(c)
}

// greet completes a HELLO. There is nothing to add: nothing is resumed.
func (*loop) greet(*conn, *codec.Hello) {}

// expireLogins gives up on logins that took too long. Connections were opened in the order of their slots.
func (l *loop) expireLogins(now int64) {
	for ; l.oldest < l.opened; l.oldest++ {
		c := &l.conns[l.oldest]
		if c.state != stateConnecting && c.state != stateGreeting {
			continue
		}
		if now-l.start-int64(c.opened)*1e6 < int64(l.o.LoginTimeout) {
			return
		}
		l.n.connectErrs.add(unix.ETIMEDOUT)
		l.drop(c)
	}
}

func (l *loop) welcome(c *conn, f codec.Frame, now int64) error {
	w, err := codec.ConsumeWelcome(f)
	if err != nil {
		return err
	}
	if c.state != stateGreeting || !c.waitWelcome {
		return errUnexpected
	}
	c.waitWelcome = false
	c.limit = min(max(w.MaxFrame, codec.LoginLimit), codec.MaxBody)
	l.meters[qLogin].record(now - c.since)
	if beat := time.Duration(w.Heartbeat) * time.Second; beat > 0 && beat < l.beat {
		l.setBeat(beat)
	}
	l.entered(c, now)
	return nil
}

func (l *loop) subscribed(c *conn, f codec.Frame, now int64) error {
	a, err := codec.ConsumeSubAck(f)
	if err != nil {
		return err
	}
	if c.state != stateGreeting || !c.waitSub {
		return errUnexpected
	}
	if a.Code != codec.CodeOK {
		l.n.refused.add(a.Code)
		l.n.explain(a.Code, "SUB refused")
		l.drop(c)
		return nil
	}
	c.waitSub = false
	l.entered(c, now)
	return nil
}

// entered makes c count as up once WELCOME and, where asked for, SUBACK are there.
func (l *loop) entered(c *conn, now int64) {
	if c.waitSub || c.waitWelcome {
		return
	}
	c.state = stateUp
	l.pending--
	l.n.up++
	l.n.logins++
	l.n.lastLogin = now
}
