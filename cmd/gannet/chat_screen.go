package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// chatScreen prints lines above the one that is being typed. On a terminal it echoes and edits that line itself, so
// that what arrives does not tear it apart; otherwise it only splits the input into lines. Owned by the chat's loop.
type chatScreen struct {
	out    io.Writer
	width  func() int // columns; nil: no terminal
	prompt string
	line   []rune // being typed
	rest   []byte // input that is no whole character (terminal) or line (pipe) yet
	escape escape
	drawn  string

	height func() int // rows; nil: unknown
	rows   int64      // printed above the prompt so far
	sure   int64      // of these, from which on it is known where they are

	// On a terminal: the process was stopped and goes on, or the window has another size; see terminal.enter.
	changed <-chan os.Signal
	enter   func() error
}

// escape is how far an escape sequence (arrow keys and the like, all ignored) has come.
type escape uint8

const (
	escapeNone escape = iota
	escapeBegun
	escapeCSI
)

// maxLine bounds a line, in bytes; a longer one is cut into several.
const maxLine = 16 << 10

func newChatScreen(out io.Writer, width func() int) *chatScreen {
	return &chatScreen{out: out, width: width, prompt: "> "}
}

// print writes whole lines. An error is not told: there is nobody left to read it.
func (s *chatScreen) print(text string) {
	if s.width == nil {
		io.WriteString(s.out, text+"\n")
		return
	}
	io.WriteString(s.out, "\r\x1b[K"+text+"\n")
	s.count(text)
	s.drawn = ""
	s.draw()
}

func (s *chatScreen) setPrompt(p string) {
	s.prompt = p
	s.draw()
}

// draw shows the prompt and as much of the line's end as fits beside it: all on one row, since only that is taken away.
func (s *chatScreen) draw() {
	if s.width == nil {
		return
	}
	columns := max(1, s.width()-1)
	prompt := s.prompt
	if half := columns / 2; cells(prompt) > half {
		prompt = clip(prompt, half-2) + "> "
	}
	room, from := columns-cells(prompt), len(s.line)
	for ; from > 0; from-- {
		if room -= cellsOf(s.line[from-1]); room < 0 {
			break
		}
	}
	if now := prompt + string(s.line[from:]); now != s.drawn {
		io.WriteString(s.out, "\r\x1b[K"+now)
		s.drawn = now
	}
}

// resume takes the terminal back from the shell.
func (s *chatScreen) resume() {
	_ = s.enter()   // without it the line is typed and sent as a whole
	s.sure = s.rows // what is above may have been wrapped anew
	s.drawn = ""
	s.draw()
}

// editing says whether there is an unfinished line on a terminal.
func (s *chatScreen) editing() bool { return s.width != nil && len(s.line) > 0 }

// feed takes a piece of input and returns the lines that it completes; end is true after Ctrl-D on an empty line.
// At eof the unfinished line of a pipe counts as one.
func (s *chatScreen) feed(b []byte, eof bool) (lines []string, end bool) {
	if s.width != nil {
		lines, end = s.edit(b)
		s.draw()
		return lines, end
	}
	s.rest = append(s.rest, b...)
	for {
		i := bytes.IndexByte(s.rest, '\n')
		n := i + 1
		if i < 0 {
			if i = min(len(s.rest), maxLine); i == 0 || i < maxLine && !eof {
				return lines, false
			}
			n = i
		}
		lines = append(lines, string(s.rest[:i]))
		s.rest = s.rest[n:]
	}
}

// edit is what a terminal does with typed characters: Backspace, Ctrl-U and Ctrl-W take away, Ctrl-D ends.
func (s *chatScreen) edit(b []byte) (lines []string, end bool) {
	s.rest = append(s.rest, b...)
	for len(s.rest) > 0 && utf8.FullRune(s.rest) {
		r, n := utf8.DecodeRune(s.rest)
		s.rest = s.rest[n:]
		switch {
		case s.escape != escapeNone || r == 0x1b:
			s.inEscape(r)
		case r == '\r' || r == '\n':
			lines = append(lines, string(s.line))
			s.line = s.line[:0]
		case r == 0x04:
			if len(s.line) == 0 {
				return lines, true
			}
		case r == 0x7f || r == 0x08:
			s.line = s.line[:max(0, len(s.line)-1)]
		case r == 0x15:
			s.line = s.line[:0]
		case r == 0x17:
			s.line = []rune(cutWord(string(s.line)))
		case r == '\t':
			s.line = append(s.line, ' ')
		case !notPrintable(r) && len(s.line) < maxLine/utf8.UTFMax:
			s.line = append(s.line, r)
		}
	}
	return lines, false
}

// inEscape skips ESC x and ESC [ … final byte.
func (s *chatScreen) inEscape(r rune) {
	switch {
	case r == 0x1b:
		s.escape = escapeBegun
	case s.escape == escapeBegun && (r == '[' || r == 'O'):
		s.escape = escapeCSI
	case s.escape == escapeCSI && (r < 0x40 || r > 0x7e):
	default:
		s.escape = escapeNone
	}
}

func cutWord(s string) string {
	s = strings.TrimRightFunc(s, unicode.IsSpace)
	return s[:strings.LastIndexFunc(s, unicode.IsSpace)+1]
}

// terminal is a keyboard that hands over characters as they are typed, without echo, and the screen beside it.
// Signals like Ctrl-C stay.
type terminal struct {
	in, out  *os.File
	old, raw unix.Termios
}

// openTerminal returns nil unless in and out are both terminals.
func openTerminal(in, out *os.File) *terminal {
	old, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil || !isTerminal(out) {
		return nil
	}
	t := &terminal{in: in, out: out, old: *old, raw: *old}
	t.raw.Lflag &^= unix.ICANON | unix.ECHO
	t.raw.Cc[unix.VMIN], t.raw.Cc[unix.VTIME] = 1, 0
	if t.enter() != nil {
		return nil
	}
	return t
}

// enter is needed again after the process was stopped and goes on: meanwhile the terminal was the shell's.
func (t *terminal) enter() error {
	return unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &t.raw)
}

func (t *terminal) leave() {
	io.WriteString(t.out, "\r\x1b[K")
	unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &t.old)
}

func (t *terminal) width() int { return terminalWidth(t.out) }

func (t *terminal) height() int { return terminalHeight(t.out) }
