package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"gannet/client"
)

// ticks show how far a message has got, in two columns.
var ticks = [...]string{client.Sending: "… ", client.Sent: "✓ ", client.Delivered: "✓✓", client.Read: "✓✓", client.Failed: "✗ "}

// tickColumn is where they stand in a line, counted from 1: behind the time.
const tickColumn = len("15:04 ") + 1

// ownLine is a line that this user said, whose tick changes.
type ownLine struct {
	id      uint64 // of the message; 0: from the history
	channel client.Channel
	seq     uint64 // 0: not known yet
	state   client.SendState
	text    string // what was said
	row     int64  // of the screen's rows, its first one
}

// printOwn prints a line with a tick; on a pipe there is none, changes follow as lines of their own.
func (s *chatScreen) printOwn(l *ownLine, line string) {
	l.row = s.rows
	if s.width != nil {
		at := tickColumn - 1
		line = line[:at] + s.tick(l.state) + " " + line[at:]
	}
	s.print(line)
}

// tick of a message that was read has a colour.
func (s *chatScreen) tick(state client.SendState) string {
	t := ticks[state]
	if state != client.Read {
		return t
	}
	if os.Getenv("NO_COLOR") != "" {
		return "\x1b[1m" + t + "\x1b[0m"
	}
	return "\x1b[1;36m" + t + "\x1b[0m"
}

// retick shows the new state of a line, if it is still on the screen. The cursor goes there and comes back.
func (s *chatScreen) retick(l *ownLine) {
	up := s.rows - l.row
	if s.width == nil || l.row < s.sure || up < 1 || up >= int64(s.rowsShown()) {
		return
	}
	io.WriteString(s.out, fmt.Sprintf("\x1b7\x1b[%dA\x1b[%dG%s\x1b8", up, tickColumn, s.tick(l.state)))
}

func (s *chatScreen) rowsShown() int {
	if s.height == nil {
		return 24
	}
	return s.height()
}

// count notes how many rows a text took. When terminals may differ about that, what is above is no longer sure to be found.
func (s *chatScreen) count(text string) {
	if s.width == nil {
		return
	}
	width := max(1, s.width())
	for line := range strings.SplitSeq(text, "\n") {
		least, most := rowsOf(line, width)
		s.rows += most
		if least != most {
			s.sure = s.rows
		}
	}
}

// rowsOf is how many rows a line takes at least and at most.
func rowsOf(line string, width int) (least, most int64) {
	line = withoutStyle(line)
	narrow, wide := 0, 0 // columns if characters that may be wide are not, and if they are
	for _, r := range line {
		n := cellsOf(r)
		narrow += min(n, 1)
		wide += n
		if n == 2 && wide%width == 1 {
			wide++ // it did not fit into the row
		}
	}
	rows := func(cells int) int64 { return int64(max(1, (cells+width-1)/width)) }
	return rows(narrow), rows(wide)
}

// withoutStyle leaves out the sequences that tick makes.
func withoutStyle(line string) string {
	for _, style := range []string{"\x1b[1;36m", "\x1b[1m", "\x1b[0m"} {
		line = strings.ReplaceAll(line, style, "")
	}
	return line
}
