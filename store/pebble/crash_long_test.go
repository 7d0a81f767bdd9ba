//go:build !race

package pebble

import "testing"

func TestNoRacePowerLoss(t *testing.T) { seeds(t, 1000, powerLoss) }

func TestNoRaceDiskErrors(t *testing.T) { seeds(t, 1200, diskError) }

func TestNoRaceDamage(t *testing.T) { seeds(t, 1000, damage) }

func TestNoRaceFlips(t *testing.T) { seeds(t, 500, flips) }

func TestNoRaceFlipsBehindACrash(t *testing.T) { seeds(t, 50, crashFlips) }
