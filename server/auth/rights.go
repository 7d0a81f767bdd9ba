package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gannet/codec"
)

// Bounds of a Rights that comes from outside.
const (
	MaxPatterns = 64          // in Pub and in Sub each
	MaxPattern  = codec.MaxID // bytes
)

// Rights says what a session may do. Pub and Sub are lists of topic patterns:
//
//	a.b     the topic a.b
//	a.b.*   every topic that begins with "a.b."
//	*       every topic
//
// A star anywhere else is no pattern (see Validate). A Rights is not changed once it is in use.
type Rights struct {
	Pub []string `json:"pub,omitempty"` // topics that may be sent to
	Sub []string `json:"sub,omitempty"` // topics that may be subscribed to
	All bool     `json:"all,omitempty"` // may broadcast to every session
}

// Everything allows all there is.
var Everything = &Rights{Pub: []string{"*"}, Sub: []string{"*"}, All: true}

// AllTopics allows every topic in both directions, but no broadcast to every session.
var AllTopics = &Rights{Pub: []string{"*"}, Sub: []string{"*"}}

// MayPublish says whether a message may be sent to topic. It does not allocate.
func (r *Rights) MayPublish(topic []byte) bool { return anyMatches(r.Pub, topic) }

// MaySubscribe says whether topic may be subscribed to. It does not allocate.
func (r *Rights) MaySubscribe(topic []byte) bool { return anyMatches(r.Sub, topic) }

// MayBroadcast says whether a message may be sent to every session (channel kind "all").
func (r *Rights) MayBroadcast() bool { return r.All }

func anyMatches(patterns []string, topic []byte) bool {
	for _, p := range patterns {
		if matches(p, topic) {
			return true
		}
	}
	return false
}

func matches(pattern string, topic []byte) bool {
	n := len(pattern)
	if n >= 2 && pattern[n-2:] == ".*" {
		return len(topic) >= n-1 && string(topic[:n-1]) == pattern[:n-1]
	}
	return pattern == "*" || string(topic) == pattern
}

// Validate returns an error that names the first pattern that is none, or the list that is too long.
func (r *Rights) Validate() error {
	if err := validatePatterns("pub", r.Pub); err != nil {
		return err
	}
	return validatePatterns("sub", r.Sub)
}

func validatePatterns(list string, patterns []string) error {
	if len(patterns) > MaxPatterns {
		return fmt.Errorf("%s has %d topic patterns, at most %d are allowed", list, len(patterns), MaxPatterns)
	}
	for i, p := range patterns {
		if err := validatePattern(p); err != nil {
			return fmt.Errorf("%s: topic pattern %d: %w", list, i+1, err)
		}
	}
	return nil
}

func validatePattern(p string) error {
	if !codec.ValidID([]byte(p)) {
		return fmt.Errorf("not 1 to %d bytes of UTF-8 without control characters", MaxPattern)
	}
	star := strings.IndexByte(p, '*')
	if star >= 0 && p != "*" && (star != len(p)-1 || !strings.HasSuffix(p, ".*")) {
		return errors.New(`a star may only stand alone or behind a dot at the end, as in "news.*"`)
	}
	return nil
}

// Key returns a canonical text: equal for Rights that allow the same, different for all others. Callers that
// hold many sessions keep one Rights a key. Order, repetition and patterns that another one covers make no
// difference.
func (r *Rights) Key() string {
	b := make([]byte, 0, 64)
	b = append(b, "pub"...)
	b = appendPatterns(b, r.Pub)
	b = append(b, " sub"...)
	b = appendPatterns(b, r.Sub)
	if r.All {
		b = append(b, " all"...)
	}
	return string(b)
}

// appendPatterns quotes each pattern, so that no pattern can look like two.
func appendPatterns(b []byte, patterns []string) []byte {
	distinct := slices.Clone(patterns)
	slices.Sort(distinct)
	distinct = slices.Compact(distinct)
	for _, p := range distinct {
		covered := slices.ContainsFunc(distinct, func(q string) bool { return q != p && matches(q, []byte(p)) })
		if !covered {
			b = strconv.AppendQuote(append(b, ' '), p)
		}
	}
	return b
}
