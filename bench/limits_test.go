package bench

import (
	"errors"
	"strings"
	"testing"
)

func TestTooFewFiles(t *testing.T) {
	err := raiseFileLimit(1 << 40)
	var limit *FileLimitError
	if !errors.As(err, &limit) || !strings.Contains(err.Error(), "ulimit -Hn") {
		t.Fatalf("error %v, want one about the limit of open files", err)
	}
	if err := raiseFileLimit(100); err != nil {
		t.Errorf("100 connections: %v", err)
	}
}
