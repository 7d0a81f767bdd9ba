//go:build !race

package server_test

import "testing"

// Each connection costs this process two descriptors.
func TestNoRaceAnnouncedBytesCostNothing(t *testing.T) {
	announceMuch(t, min(10_000, (files(t)-1000)/2))
}
