package shard

import (
	"time"

	"gannet/codec"
)

// Heartbeats advised to clients that wish for none, in seconds.
var advisedHeartbeat = [...]uint16{
	codec.ClassOther: 60, codec.ClassMobile: 30, codec.ClassDesktop: 60,
	codec.ClassWeb: 15, codec.ClassIoT: 300, codec.ClassService: 60,
}

// heartbeat is the interval in force for a client's wish, in seconds.
func (sh *Shard) heartbeat(wish uint16, class uint8) uint16 {
	if wish == 0 {
		wish = 60
		if int(class) < len(advisedHeartbeat) {
			wish = advisedHeartbeat[class]
		}
	}
	lo, hi := uint16(sh.cfg.HeartbeatMin/time.Second), uint16(sh.cfg.HeartbeatMax/time.Second)
	return min(max(wish, lo, 1), hi)
}

// hello begins the login. It is false when the HELLO must be judged off the loop first; it stays in the
// connection's buffer, with all that comes behind it.
func (sh *Shard) hello(s *Session, f codec.Frame) bool {
	h, err := codec.ConsumeHello(f)
	open := sh.cfg.OpenRights != nil
	switch {
	case err != nil:
		sh.malformed(s, err)
	case h.Version == 0:
		sh.bye(s, codec.CodeVersion, "version 0 does not exist")
	case !codec.ValidID(h.Device):
		sh.bye(s, codec.CodeMalformed, "invalid device id")
	case !codec.ValidID(h.User) && (open || len(h.User) > 0):
		sh.bye(s, codec.CodeMalformed, "invalid user id")
	case sh.node.draining.Load():
		sh.bye(s, codec.CodeDraining, "the server is stopping")
	case open:
		sh.login(s, h, h.User, sh.cfg.OpenRights, time.Time{})
	default:
		return !sh.judge(s, AuthRequest{
			User: string(h.User), Device: string(h.Device), Class: h.Class, Token: append([]byte(nil), h.Token...),
		})
	}
	return true
}

// judge sends a credential off the loop. The place for the answer is reserved first, so the answer cannot be lost.
func (sh *Shard) judge(s *Session, r AuthRequest) bool {
	r.Ref, r.Remote = sh.ref(s), sh.conn(s).RemoteAddr()
	if sh.inbox.Reserve(1) == 1 {
		if sh.node.host.Authenticate(r) {
			if !r.Refresh {
				s.phase = phaseAuth
				s.seen = sh.nowTick
				sh.setDue(s)
			}
			return true
		}
		sh.inbox.Release(1)
	}
	if !r.Refresh {
		sh.bye(s, codec.CodeOverloaded, "too many logins at once")
	}
	return false
}

// reauth is AUTH on a live session: a fresh credential before the old one expires.
func (sh *Shard) reauth(s *Session, f codec.Frame) error {
	a, err := codec.ConsumeAuthToken(f)
	if err != nil {
		return err
	}
	code := codec.CodeBusy
	switch {
	case sh.cfg.OpenRights != nil:
		code = codec.CodeOK
	case s.flags&flagRefresh == 0:
		r := AuthRequest{
			Refresh: true, User: string(sh.user(s)), Device: string(sh.device(s)), Class: s.class,
			Token: append([]byte(nil), a.Token...),
		}
		if sh.judge(s, r) {
			s.flags |= flagRefresh
			return nil
		}
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendAuthResult(ob.buf, codec.AuthResult{Code: code})
	return nil
}

// answered takes the verdict on a credential.
func (sh *Shard) answered(ref SessionRef, a *AuthAnswer) {
	if ref.Slot() >= sh.sessions.n {
		return
	}
	s := sh.sessions.at(ref.Slot())
	if s.gen != ref.Gen() {
		return // it did not wait
	}
	switch {
	case s.phase == phaseLive && s.flags&flagRefresh != 0:
		sh.refreshed(s, a)
	case s.phase != phaseAuth:
	case a.Code != codec.CodeOK:
		sh.bye(s, a.Code, a.Reason)
	default:
		sh.admit(s, a)
	}
}

func (sh *Shard) refreshed(s *Session, a *AuthAnswer) {
	s.flags &^= flagRefresh
	code := a.Code
	switch {
	case code.Reconnect():
		code = codec.CodeBusy // it could not be judged now; the connection does not end
	case code != codec.CodeOK || a.User != string(sh.user(s)):
		code = codec.CodeUnauthorized
	}
	r := codec.AuthResult{Code: code}
	if code == codec.CodeOK {
		sh.dropRights(s.rights)
		s.rights = sh.keepRights(a.Rights)
		sh.setExpiry(s, a.Expires)
		if !a.Expires.IsZero() {
			r.Expires = uint64(a.Expires.UnixMilli())
		}
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendAuthResult(ob.buf, r)
}

// admit goes on with a HELLO that was judged: it is still in the connection's buffer.
func (sh *Shard) admit(s *Session, a *AuthAnswer) {
	c := sh.conn(s)
	buf, err := c.Peek(c.InboundBuffered())
	if err != nil {
		return
	}
	f, n, err := codec.ConsumeFrame(buf, codec.LoginLimit)
	if err != nil || n == 0 {
		sh.bye(s, codec.CodeInternal, "HELLO was lost")
		return
	}
	h, _ := codec.ConsumeHello(f) // it was read before
	gen := s.gen
	s.phase = phaseNew
	sh.login(s, h, []byte(a.User), a.Rights, a.Expires)
	if s.gen != gen || s.phase != phaseLive && s.phase != phaseResume {
		return
	}
	_, _ = c.Discard(n)
	sh.stats.FramesIn++
	sh.stats.BytesIn += uint64(n)
	if s.phase == phaseResume {
		return // what came behind HELLO waits for WELCOME
	}
	sh.touch(s, 1, false)
	if c.InboundBuffered() > 0 {
		sh.read(s, c)
	}
}

func (sh *Shard) setExpiry(s *Session, at time.Time) {
	s.expires = 0
	if !at.IsZero() {
		const longest = 10 * 365 * 24 * time.Hour // further away a Duration would overflow
		left := min(at.UnixMilli()-int64(sh.nowMilli), longest.Milliseconds())
		s.expires = sh.nowTick + ticks(time.Duration(left)*time.Millisecond)
	}
	sh.setDue(s)
}

// login makes the session live: it gets its number and its place in the directory, WELCOME goes out, older sessions of
// the same device end.
func (sh *Shard) login(s *Session, h codec.Hello, user []byte, rights Rights, expires time.Time) {
	hash := sh.node.dir.Hash(user)
	if sh.node.dir.Count(hash, sh.cfg.MaxSessionsPerUser) >= sh.cfg.MaxSessionsPerUser {
		sh.bye(s, codec.CodeOverloaded, "too many sessions of this user")
		return
	}
	s.id = sh.node.nextSession.Add(1)
	s.class = h.Class
	s.heartbeat = sh.heartbeat(h.Heartbeat, h.Class)
	s.name = sh.names.put(user, h.Device)
	s.userLen, s.deviceLen = uint8(len(user)), uint8(len(h.Device))
	s.rights = sh.keepRights(rights)
	s.phase, s.seen = phaseLive, sh.nowTick
	sh.setExpiry(s, expires)
	if sh.cfg.SendRate > 0 {
		s.rateAt, s.rateTokens = sh.nowTick, uint16(2*sh.cfg.SendRate)
	}
	sh.node.dir.Add(hash, sh.ref(s))
	sh.stats.Sessions++
	sh.stats.Logins++
	if sh.cfg.Events&EventOnline != 0 {
		sh.event(s, EventOnline, codec.CodeOK)
	}
	if sh.cfg.Log != nil {
		sh.askResume(s, h, expires)
	} else {
		sh.welcome(s, h, expires)
	}
	if s.phase == phaseLive {
		sh.replaceOthers(s)
	}
}

// welcomeOf is the WELCOME as far as it does not depend on what is kept.
func (sh *Shard) welcomeOf(s *Session) codec.Welcome {
	return codec.Welcome{
		Version: codec.Version, Heartbeat: s.heartbeat, Session: s.id, Time: sh.nowMilli,
		MaxFrame: uint32(sh.cfg.MaxFrame), Window: sh.cfg.Window,
		Node: []byte(sh.cfg.Node), User: sh.user(s),
	}
}

func (sh *Shard) welcome(s *Session, h codec.Hello, expires time.Time) {
	w := sh.welcomeOf(s)
	var joined []*topic
	for p := range h.Positions.All() {
		state := codec.State{State: codec.StateLive}
		t, code := sh.subscribe(s, p.Kind, p.Name, nil)
		if code != codec.CodeOK {
			state.State = codec.StateRefused
		} else if t != nil {
			joined = append(joined, t)
		}
		w.States.Append(state)
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendWelcome(ob.buf, w)
	if !expires.IsZero() {
		ob.buf = codec.AppendAuthResult(ob.buf, codec.AuthResult{Expires: uint64(expires.UnixMilli())})
	}
	sh.askStates(s, sh.node.all)
	for _, t := range joined {
		sh.askStates(s, t)
	}
}

// replaceOthers ends older sessions of the same user and device, wherever they are. A session that is newer ends this
// one instead: ids decide, not the order in which the news arrives.
func (sh *Shard) replaceOthers(s *Session) {
	hash := sh.node.dir.Hash(sh.user(s))
	self := sh.ref(s)
	sh.refs = sh.node.dir.Lookup(hash, sh.refs[:0])
	if len(sh.refs) < 2 {
		return
	}
	c := &command{user: string(sh.user(s)), device: string(sh.device(s)), session: s.id, from: self}
	for _, ref := range sh.refs {
		switch {
		case ref == self:
		case ref.Shard() == uint32(sh.index):
			sh.replaceIfOlder(ref, c)
		default:
			sh.owe(ref.Shard(), item{op: opReplace, ref: ref, cmd: c})
		}
	}
}

func (sh *Shard) replaceIfOlder(ref SessionRef, c *command) {
	s := sh.resolveAny(ref)
	if s == nil || !sh.isUser(s, c.user, c.device) || s.id == c.session {
		return
	}
	if s.phase == phaseResume && s.id > c.session {
		return // it may have ended already; it comes back to this when it is welcomed
	}
	if s.id < c.session || s.flags&flagHalf != 0 {
		sh.bye(s, codec.CodeReplaced, "this device logged in again")
		return
	}
	// The other one is older after all.
	back := &command{user: c.user, device: c.device, session: s.id, from: ref}
	if c.from.Shard() == uint32(sh.index) {
		sh.replaceIfOlder(c.from, back)
	} else {
		sh.owe(c.from.Shard(), item{op: opReplace, ref: c.from, cmd: back})
	}
}
