package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is the promise that was broken.
type Kind string

// Kinds of findings.
const (
	Lost        Kind = "lost"         // acknowledged, never came, and no GAP or RESET told it
	Duplicated  Kind = "duplicated"   // the same place handed to the application twice
	StoredTwice Kind = "stored-twice" // one message under two numbers
	OutOfOrder  Kind = "out-of-order" // a lower number behind a higher one, or one sender's messages stored in another order than sent
	Hole        Kind = "hole"         // a number was passed over without a GAP, or nobody has its message
	Gone        Kind = "gone"         // acknowledged or received, and later not in the channel's log, or another message is in its place
	NumberTwice Kind = "number-twice" // two messages under one number
	Corrupted   Kind = "altered"      // other bytes, or another sender, than were sent
	Misdirected Kind = "misdirected"  // came to a device that it was not for
	Unanswered  Kind = "unanswered"   // no final answer to a SEND or a PULL by the end
)

// Kinds lists all of them.
var Kinds = []Kind{Lost, Duplicated, StoredTwice, OutOfOrder, Hole, Gone, NumberTwice, Corrupted, Misdirected, Unanswered}

// MaxFindings is how many findings of a kind, and how many gaps, a Verdict describes; the others are counted.
const MaxFindings = 50

// Finding is one promise broken. Text says it for people, with the messages, devices and times.
type Finding struct {
	Kind    Kind      `json:"kind"`
	Text    string    `json:"text"`
	Channel string    `json:"channel,omitempty"`
	Epoch   uint64    `json:"epoch,omitempty"`
	Seq     uint64    `json:"seq,omitempty"`
	Message string    `json:"message,omitempty"` // device and number of the sender, as in payloads
	Device  string    `json:"device,omitempty"`  // who saw it, user/device
	At      time.Time `json:"at"`                // when it could be seen
}

func (f Finding) String() string { return string(f.Kind) + ": " + f.Text }

// Verdict is what Check found.
type Verdict struct {
	Counts   map[Kind]int `json:"counts,omitempty"` // of all findings
	Findings []Finding    `json:"findings,omitempty"`

	Sent     int   `json:"sent"`
	Stored   int   `json:"stored"`   // answered OK or DUPLICATE
	Refused  int   `json:"refused"`  // for good
	Owed     int64 `json:"owed"`     // deliveries to devices that must get them
	Handed   int64 `json:"handed"`   // to applications
	Repeated int64 `json:"repeated"` // came again and were dropped by the receiver
	Excused  int64 `json:"excused"`  // of those owed: did not come, and a GAP or RESET said so
	// Overtaken are messages of a group that came to a device behind the entry that says that its user left.
	Overtaken int64 `json:"overtaken"`
	InLogs    int   `json:"in_logs"`   // messages of the logs as they were read at the end
	Channels  int   `json:"channels"`  // with messages
	Gaps      int   `json:"gaps_told"` // and resets: something is gone
	NoRight   int   `json:"no_right"`  // gaps that say that the device has no right to something, or did not ask for it

	Told []string `json:"told,omitempty"` // the first of Gaps
}

// Clean says that nothing was found.
func (v *Verdict) Clean() bool { return len(v.Counts) == 0 }

// Total is the number of findings, also of those that are not described.
func (v *Verdict) Total() (n int) {
	for _, c := range v.Counts {
		n += c
	}
	return n
}

func (v *Verdict) add(f Finding) {
	if v.Counts == nil {
		v.Counts = make(map[Kind]int)
	}
	if v.Counts[f.Kind]++; v.Counts[f.Kind] <= MaxFindings {
		v.Findings = append(v.Findings, f)
	}
}

// sort brings the findings into the order of the promises, then of time.
func (v *Verdict) sort() {
	slices.SortStableFunc(v.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(Kinds, a.Kind), slices.Index(Kinds, b.Kind)), a.At.Compare(b.At))
	})
}

// Summary counts the findings by kind in one line.
func (v *Verdict) Summary() string {
	if v.Clean() {
		return "no findings"
	}
	var b strings.Builder
	for _, k := range Kinds {
		if n := v.Counts[k]; n > 0 {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%d %s", n, k)
		}
	}
	return b.String()
}
