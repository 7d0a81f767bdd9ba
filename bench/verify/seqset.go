package verify

import "slices"

// seqSet is a set of seqs that has few holes.
type seqSet struct{ spans []span }

type span struct{ from, to uint64 } // both included

// has says whether a seq is in it.
func (s *seqSet) has(seq uint64) bool {
	i := s.find(seq)
	return i < len(s.spans) && s.spans[i].from <= seq
}

// find is the first span that ends at or above seq.
func (s *seqSet) find(seq uint64) int {
	if n := len(s.spans); n > 0 && s.spans[n-1].to < seq {
		return n
	}
	i, _ := slices.BinarySearchFunc(s.spans, seq, func(x span, seq uint64) int {
		if x.to < seq {
			return -1
		}
		return 1
	})
	return i
}

// add puts from to to into it.
func (s *seqSet) add(from, to uint64) {
	if to < from {
		return
	}
	i := s.find(max(from, 1) - 1) // also one that ends just below
	j := i
	for j < len(s.spans) && (to == ^uint64(0) || s.spans[j].from <= to+1) {
		from, to = min(from, s.spans[j].from), max(to, s.spans[j].to)
		j++
	}
	if j == i {
		s.spans = slices.Insert(s.spans, i, span{from, to})
		return
	}
	s.spans[i] = span{from, to}
	s.spans = slices.Delete(s.spans, i+1, j)
}

// upTo is the end of what it holds from its lowest number on without a hole.
func (s *seqSet) upTo() uint64 {
	if len(s.spans) == 0 {
		return 0
	}
	return s.spans[0].to
}
