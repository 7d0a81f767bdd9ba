package verify

import (
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	if err := (Options{}).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for _, c := range []struct {
		o    Options
		says string
	}{
		{Options{Users: 1}, "users"},
		{Options{Users: maxUsers + 1}, "users"},
		{Options{Devices: 3}, "devices"},
		{Options{Rate: -1}, "rate"},
		{Options{Size: MinSize - 1}, "size"},
		{Options{Size: maxSize + 1}, "size"},
		{Options{Topics: 51}, "topics"},
		{Options{Groups: 1}, "--admin"},
		{Options{Groups: -1}, "groups"},
		{Options{GroupSize: 51}, "group-size"},
		{Options{Churn: -1}, "churn"},
		{Options{TTLShare: 1.1}, "ttl-share"},
		{Options{Window: maxWindow + 1}, "window"},
		{Options{MaxEvents: -1}, "max-events"},
		{Options{For: -1}, "for"},
		{Options{Settle: 25 * time.Hour}, "settle"},
		{Options{UserPrefix: strings.Repeat("x", 60)}, "user-prefix"},
		{Options{UserPrefix: "a\n"}, "user-prefix"},
	} {
		if err := c.o.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: error %v, want one that says %q", c.o, err, c.says)
		}
		if _, err := Start(t.Context(), c.o); err == nil {
			t.Errorf("%+v: Start takes it", c.o)
		}
	}
}
