package pebble

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Report is what Check found.
type Report struct {
	Format, Epoch, Place uint64
	Clean                bool // stopped cleanly, or a backup
	Tables, TableBytes   uint64
	Channels             uint64
	Messages, Bytes      uint64 // kept, and the bytes of their frames
	Inboxes, Refs        uint64 // users with references, and these; see InboxesMore
	InboxesMore          bool   // there are more than were counted
	Devices, Nonces      uint64
	Records              uint64
	Findings             []Finding // the first of them
	More                 uint64    // the rest
	Notes                []string
}

// Finding is damage.
type Finding struct {
	Where string // a file, or what it is about
	What  string // is wrong
	Means string
	Do    string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s; %s; %s", f.Where, f.What, f.Means, f.Do)
}

// maxFindings is how many are told one by one.
const maxFindings = 100

func (r *Report) find(f Finding) {
	if len(r.Findings) == maxFindings {
		r.More++
		return
	}
	var said []string // Pebble's errors have several lines, some twice
	for l := range strings.Lines(f.What) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "<") && !slices.Contains(said, l) {
			said = append(said, l)
		}
	}
	f.What = strings.Join(said, "; ")
	r.Findings = append(r.Findings, f)
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Sound tells whether nothing is damaged.
func (r *Report) Sound() bool { return len(r.Findings) == 0 }

// Print writes the report for a person: a line a finding and a note, then what the store holds.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "DAMAGED %v\n", f)
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "DAMAGED and %d more\n", r.More)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	stop, more := "not stopped cleanly", ""
	if r.Clean {
		stop = "stopped cleanly"
	}
	if r.InboxesMore {
		more = "more than "
	}
	fmt.Fprintf(&b, "format %d, epoch %d, place %d, %s\n", r.Format, r.Epoch, r.Place, stop)
	fmt.Fprintf(&b, "%d channels, %d messages of %d bytes; %s%d inboxes, %d references; %d devices, %d nonces; %d records; %d tables of %d bytes\n",
		r.Channels, r.Messages, r.Bytes, more, r.Inboxes, r.Refs, r.Devices, r.Nonces, r.Records, r.Tables, r.TableBytes)
	if r.Sound() {
		b.WriteString("sound\n")
	} else {
		fmt.Fprintf(&b, "damaged: %d findings\n", uint64(len(r.Findings))+r.More)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// What findings advise.
const (
	doRestore = "restore a backup (gannet restore), or keep the folder for who can look into it"
	doNothing = "nothing has to be done"
)
