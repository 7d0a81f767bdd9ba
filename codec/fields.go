package codec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrUnknownType wraps ErrMalformed for a type that version 1 neither knows nor may skip.
var ErrUnknownType = fmt.Errorf("%w: unknown frame type", ErrMalformed)

// Field is one field of a frame as text, for people and for tests of other implementations.
type Field struct{ Name, Value string }

// Fields lists the fields of a frame in wire order, the TLVs first. Names are those of docs/PROTOCOL.md;
// entries of lists are flattened: ext[0].tag, positions[1].name. Values:
//
//	integers              decimal
//	codes                 decimal and name: 304 MALFORMED
//	str8                  the text; as a quoted Go string when it is not printable or begins with a quote
//	token, ticket, data,  hex, and a quoted Go string behind it when that is printable:
//	payload, ext values   6869 "hi"
//
// fromClient matters only for AUTH, whose two directions differ. A frame of types 24 and 25 has req and
// data, one of 26 and 27 data alone; other unknown types are ErrUnknownType.
//
// Fields judges a frame as its Consume function does and returns that function's error, wrapped with the
// field and its place in the frame, together with the fields that could be read.
func Fields(f Frame, fromClient bool) ([]Field, error) {
	l, ok := layoutOf(f.Type, fromClient)
	if !ok {
		return nil, fmt.Errorf("type %d: %w", f.Type, ErrUnknownType)
	}
	w := walker{r: reader{b: f.Body}, end: HeaderLen + len(f.Body)}
	if f.Ext != nil {
		w.end += 2 + len(f.Ext)
	}
	w.ext(f.Ext)
	w.body(l)
	err := check(f, fromClient)
	if err == nil && w.r.bad {
		err = ErrTruncated // only types without a Consume function get here
	}
	if err != nil {
		return w.fields, fmt.Errorf("%s %s: %w", f.Type, w.where(err), err)
	}
	return w.fields, nil
}

// check runs the Consume function of a frame's type.
func check(f Frame, fromClient bool) (err error) {
	switch f.Type {
	case TypeHello:
		_, err = ConsumeHello(f)
	case TypeWelcome:
		_, err = ConsumeWelcome(f)
	case TypeAuth:
		if fromClient {
			_, err = ConsumeAuthToken(f)
		} else {
			_, err = ConsumeAuthResult(f)
		}
	case TypePing, TypePong:
		_, err = ConsumePing(f)
	case TypeBye:
		_, err = ConsumeBye(f)
	case TypeMigrate:
		_, err = ConsumeMigrate(f)
	case TypeSend:
		_, err = ConsumeSend(f)
	case TypeSendAck:
		_, err = ConsumeSendAck(f)
	case TypeMsg:
		_, err = ConsumeMsg(f)
	case TypeAck:
		_, err = ConsumeAck(f)
	case TypeSub:
		_, err = ConsumeSub(f)
	case TypeSubAck:
		_, err = ConsumeSubAck(f)
	case TypeUnsub:
		_, err = ConsumeUnsub(f)
	case TypePull:
		_, err = ConsumePull(f)
	case TypeRange:
		_, err = ConsumeRange(f)
	case TypeGap:
		_, err = ConsumeGap(f)
	case TypePos:
		_, err = ConsumePos(f)
	case TypeReceipt:
		_, err = ConsumeReceipt(f)
	case TypeState:
		_, err = ConsumeState(f)
	case TypeList:
		_, err = ConsumeList(f)
	case TypeListed:
		_, err = ConsumeListed(f)
	case TypeErr:
		_, err = ConsumeErr(f)
	}
	return err
}

// walker reads a body along its layout and remembers where each field began.
type walker struct {
	r      reader
	end    int // length of the frame in bytes
	fields []Field
	at     []int  // offset of each field in the frame, parallel to fields
	n      uint64 // value of the last integer
	failed string // name and form of the field that did not fit
	failAt int
}

func (w *walker) ext(area TLVs) {
	i, at := 0, HeaderLen+2
	for tag, value := range area.All() {
		prefix := "ext[" + strconv.Itoa(i) + "]."
		w.add(prefix+"tag", strconv.Itoa(int(tag)), at)
		w.add(prefix+"value", bytesText(value), at+1)
		i, at = i+1, at+2+len(value)
	}
}

func (w *walker) body(l layout) {
	if !w.items("", l.body) || l.list == "" {
		return
	}
	for i := range w.n {
		if !w.items(l.list+"["+strconv.FormatUint(i, 10)+"].", l.entry) {
			return
		}
	}
}

// items reads one run of fields; false means that one did not fit.
func (w *walker) items(prefix, fields string) bool {
	for item := range strings.SplitSeq(fields, ", ") {
		name, form, _ := strings.Cut(item, " ")
		at := w.end - len(w.r.b)
		value := w.value(form)
		if w.r.bad {
			w.failed, w.failAt = prefix+name+" ("+form+")", at
			return false
		}
		w.add(prefix+name, value, at)
	}
	return true
}

func (w *walker) value(form string) string {
	switch form {
	case "u8":
		w.n = uint64(w.r.u8())
	case "u16":
		w.n = uint64(w.r.u16())
	case "u32":
		w.n = uint64(w.r.u32())
	case "u64":
		w.n = w.r.u64()
	case "code":
		c := Code(w.r.u16())
		return strconv.Itoa(int(c)) + " " + c.String()
	case "GNT":
		return nameText(w.r.take(len(Magic)))
	case "str8":
		return nameText(w.r.str8())
	case "str16":
		return bytesText(w.r.str16())
	case "rest":
		return bytesText(w.r.rest())
	}
	return strconv.FormatUint(w.n, 10)
}

func (w *walker) add(name, value string, at int) {
	w.fields = append(w.fields, Field{name, value})
	w.at = append(w.at, at)
}

// where names the field an error of a Consume function speaks of, and its offset in the frame.
func (w *walker) where(err error) string {
	name := ""
	switch {
	case errors.Is(err, ErrMagic):
		name = "magic"
	case errors.Is(err, ErrUnknownFlags):
		name = "flags"
	case errors.Is(err, ErrMode):
		name = "mode"
	case errors.Is(err, ErrBodyLength):
		name = "data"
	case errors.Is(err, ErrTrailing):
		return fmt.Sprintf("at byte %d, %d left over", w.end-len(w.r.b), len(w.r.b))
	}
	for i, f := range w.fields {
		if f.Name == name {
			w.failed, w.failAt = name, w.at[i]
			break
		}
	}
	return fmt.Sprintf("%s at byte %d", w.failed, w.failAt)
}

func nameText(b []byte) string {
	s := string(b)
	if strings.HasPrefix(s, `"`) || !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return !strconv.IsPrint(c) }) {
		return strconv.Quote(s)
	}
	return s
}

func bytesText(b []byte) string {
	s := hex.EncodeToString(b)
	if len(b) == 0 || !utf8.Valid(b) {
		return s
	}
	for _, c := range string(b) {
		if !strconv.IsPrint(c) && !unicode.IsSpace(c) {
			return s
		}
	}
	return s + " " + strconv.Quote(string(b))
}
