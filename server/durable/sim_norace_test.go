//go:build !race

package durable

import "testing"

func TestNoRaceSimulation(t *testing.T) { simulate(t, 25, 20_000) }
