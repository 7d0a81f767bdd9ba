package shard

import "gannet/codec"

// pull answers a PULL from the log.
func (sh *Shard) pull(s *Session, f codec.Frame) error {
	p, err := codec.ConsumePull(f)
	if err != nil {
		return err
	}
	code := codec.CodeOK
	switch {
	case !p.Kind.Valid() || !codec.ValidName(p.Kind, p.Name):
		code = codec.CodeInvalid
	case sh.cfg.Log == nil:
		code = codec.CodeNotFound
	case p.Limit == 0:
		code = codec.CodeInvalid
	case p.Kind == codec.KindDirect && !sh.inPair(s, p.Name):
		code = codec.CodeForbidden
	case p.Kind == codec.KindTopic && !sh.rights[s.rights].rights.MaySubscribe(p.Name):
		code = codec.CodeForbidden
	case !sh.mayAsk(s, sh.cfg.MaxReads):
		code = codec.CodeBusy
	}
	if code == codec.CodeOK {
		sh.ask(&Read{
			Op: ReadPull, Ref: sh.ref(s), User: string(sh.user(s)), Kind: p.Kind, Name: string(p.Name),
			After: p.From, Limit: int(p.Limit), MaxBytes: sh.readChunk(), Req: p.Req,
		})
		return nil
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendRange(ob.buf, codec.Range{Req: p.Req, Code: code})
	return nil
}

// list answers a LIST.
func (sh *Shard) list(s *Session, f codec.Frame) error {
	l, err := codec.ConsumeList(f)
	if err != nil {
		return err
	}
	code := codec.CodeOK
	switch {
	case sh.cfg.Log == nil:
		code = codec.CodeNotFound
	case l.Limit == 0:
		code = codec.CodeInvalid
	case !sh.mayAsk(s, sh.cfg.MaxReads):
		code = codec.CodeBusy
	}
	if code == codec.CodeOK {
		sh.ask(&Read{
			Op: ReadList, Ref: sh.ref(s), User: string(sh.user(s)), After: l.After, Limit: int(l.Limit),
			MaxBytes: min(sh.readChunk(), sh.cfg.MaxFrame), Req: l.Req,
		})
		return nil
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendListed(ob.buf, codec.Listed{Req: l.Req, Code: code})
	return nil
}

// maxSubReads is how many SUBs of a session may wait for the log: a client that resumes sends all of them at once.
const maxSubReads = 4096

// mayAsk takes one of the reads that a session may have with the log.
func (sh *Shard) mayAsk(s *Session, most int) bool {
	f := sh.flowOf(s, 0)
	if int(f.reads) >= most {
		return false
	}
	f.reads++
	return true
}

// askSub has the log say where a channel stands that a SUB asks for. It is answered in requestServed.
func (sh *Shard) askSub(s *Session, m *codec.Sub) codec.Code {
	tags := filterOf(m.Ext)
	switch {
	case m.Kind != codec.KindTopic && (m.Kind != codec.KindGroup && m.Kind != codec.KindAll || len(tags) > 0),
		!codec.ValidName(m.Kind, m.Name):
		return codec.CodeInvalid
	case m.Kind == codec.KindTopic && sh.subWaits(s, m.Name), !sh.mayAsk(s, maxSubReads):
		return codec.CodeBusy
	}
	var c *cursor
	if m.Kind == codec.KindTopic {
		gen := s.gen
		_, code := sh.subscribe(s, m.Kind, m.Name, tags)
		if !s.alive(gen) {
			return codec.CodeOK
		}
		if code != codec.CodeOK {
			sh.readDone(s)
			return code
		}
		if i, ok := sh.find(s, m.Kind, m.Name); ok {
			if c = sh.cursorOf(s, i+1); c != nil && c.state != cursorWaiting {
				c = nil // it was there before
			}
		}
	}
	sh.ask(&Read{
		Op: ReadSub, Ref: sh.ref(s), User: string(sh.user(s)), Device: string(sh.device(s)), Kind: m.Kind, Name: string(m.Name),
		Mode: m.Mode, Epoch: m.Epoch, After: m.Seq, Req: m.Req, cursor: c,
	})
	return codec.CodeOK
}

// subWaits says that an earlier SUB for a topic is not answered yet.
func (sh *Shard) subWaits(s *Session, topic []byte) bool {
	i, ok := sh.find(s, codec.KindTopic, topic)
	if !ok {
		return false
	}
	c := sh.cursorOf(s, i+1)
	return c != nil && c.state == cursorWaiting
}

// readDone takes the answer of one of these reads into account.
func (sh *Shard) readDone(s *Session) {
	if s.flow == 0 {
		return
	}
	f := sh.flows.at(s.flow - 1)
	f.reads--
	sh.rest(s)
}

// requestServed answers SUB, PULL and LIST.
func (sh *Shard) requestServed(s *Session, r *Read) {
	sh.readDone(s)
	switch r.Op {
	case ReadSub:
		sh.subServed(s, r)
	case ReadPull:
		if len(r.Frames) == 0 {
			r.Frames = codec.AppendRange(nil, codec.Range{Req: r.Req, Code: r.Code})
		}
		sh.reply(s, r.Frames)
	case ReadList:
		if len(r.Frames) == 0 {
			r.Frames = codec.AppendListed(nil, codec.Listed{Req: r.Req, Code: r.Code})
		}
		sh.reply(s, r.Frames)
	}
}

// subServed answers a SUB: SUBACK first, then kept states, then what is missing.
func (sh *Shard) subServed(s *Session, r *Read) {
	ack := codec.SubAck{Req: r.Req, Code: r.Code}
	if r.Code == codec.CodeOK {
		ack.State, ack.Epoch, ack.Head = r.State, sh.cfg.Log.Epoch(), r.Head
	}
	ob := sh.outOf(s)
	ob.buf = codec.AppendSubAck(ob.buf, ack)
	name := []byte(r.Name)
	if r.Code != codec.CodeOK {
		if c := r.cursor; c != nil && !c.dead {
			sh.leave(s, c.sub-1) // the subscription was made for this SUB
		}
		return
	}
	switch r.Kind {
	case codec.KindTopic:
		i, ok := sh.find(s, r.Kind, name)
		if !ok {
			return // UNSUB came meanwhile
		}
		sh.askStates(s, sh.rooms[sh.subs.at(i).room()].topic)
		if c := r.cursor; c != nil && !c.dead {
			sh.startAt(s, c, r.Next, r.Head)
		} else if c == nil {
			sh.reposition(s, i, r)
		}
	case codec.KindAll:
		sh.askStates(s, sh.node.all)
		if r.Mode == codec.SubFromPosition && r.Next < r.Head {
			c := sh.cursorOf(s, 0)
			if c == nil {
				c = sh.awayFromAll(s)
			}
			sh.startAt(s, c, r.Next, r.Head)
		}
	case codec.KindGroup:
		if i, ok := sh.find(s, r.Kind, name); ok {
			sh.reposition(s, i, r)
		} else if !r.Small {
			sh.joinLog(s, r.Kind, name, r.Next)
		}
	}
}

// reposition has a subscription that is there already go on from the position that a SUB gave.
func (sh *Shard) reposition(s *Session, i uint32, r *Read) {
	if r.Mode != codec.SubFromPosition || r.Next >= r.Head {
		return
	}
	c := sh.cursorOf(s, i+1)
	if c == nil {
		c = sh.fallOut(s, i)
	}
	sh.startAt(s, c, r.Next, r.Head)
}
