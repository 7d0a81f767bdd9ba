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
	case !sh.mayAsk(s):
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
	case !sh.mayAsk(s):
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

// mayAsk takes one of the reads that a session may have with the log.
func (sh *Shard) mayAsk(s *Session) bool {
	f := sh.flowOf(s, sh.took)
	if int(f.reads) >= sh.cfg.MaxReads {
		return false
	}
	f.reads++
	return true
}

// askSub has the log say where a channel stands that a SUB asks for. It is answered in requestServed.
func (sh *Shard) askSub(s *Session, m *codec.Sub, tags []string) codec.Code {
	var c *cursor
	switch m.Kind {
	case codec.KindTopic:
		if i, ok := sh.find(s, m.Kind, m.Name); ok {
			if c := sh.cursorOf(s, i+1); c != nil && c.state == cursorWaiting {
				return codec.CodeBusy // an earlier SUB is not answered yet
			}
		}
		if !sh.mayAsk(s) {
			return codec.CodeBusy
		}
		gen := s.gen
		_, code := sh.subscribe(s, m.Kind, m.Name, tags)
		if s.gen != gen || s.phase != phaseLive {
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
	case codec.KindGroup, codec.KindAll:
		if len(tags) > 0 || !codec.ValidName(m.Kind, m.Name) {
			return codec.CodeInvalid
		}
		if !sh.mayAsk(s) {
			return codec.CodeBusy
		}
	default:
		return codec.CodeInvalid
	}
	sh.ask(&Read{
		Op: ReadSub, Ref: sh.ref(s), User: string(sh.user(s)), Device: string(sh.device(s)), Kind: m.Kind, Name: string(m.Name),
		Mode: m.Mode, Epoch: m.Epoch, After: m.Seq, Req: m.Req, cursor: c,
	})
	return codec.CodeOK
}

func (sh *Shard) readDone(s *Session) {
	if s.flow != 0 {
		sh.flows.at(s.flow-1).reads--
	}
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
				s.flags |= flagAllAway
				c = sh.newCursor(s, 0, 0)
			}
			sh.moveTo(s, c, r.Next, r.Head)
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
		g := sh.subs.at(i).group()
		sh.rooms[sh.subs.at(i).room()].groups[g].away++ // first, so that exit does not forget the filter
		sh.exit(i)
		sh.rooms[sh.subs.at(i).room()].groups[g].away--
		c = sh.stayAway(s, i, g)
	}
	sh.moveTo(s, c, r.Next, r.Head)
}

func (sh *Shard) moveTo(s *Session, c *cursor, last, head uint64) {
	if c.state == cursorReading {
		return // its read goes on from where it was; what the client has it drops
	}
	sh.unwait(c)
	sh.startAt(s, c, last, head)
}
