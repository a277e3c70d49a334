package spool

import "slices"

// span is the LSNs lo to hi, both included.
type span struct{ lo, hi uint64 }

// spans is a set of LSNs: sorted, disjoint, neighbours merged. Its memory is
// per run and not per LSN.
type spans []span

// at returns the index of the first span that ends at or after x.
func (s spans) at(x uint64) int {
	i, _ := slices.BinarySearchFunc(s, x, func(r span, x uint64) int {
		if r.hi < x {
			return -1
		}
		return 1
	})
	return i
}

func (s spans) has(x uint64) bool {
	i := s.at(x)
	return i < len(s) && s[i].lo <= x
}

// floor is the highest LSN up to which the set is complete.
func (s spans) floor() uint64 {
	if len(s) > 0 && s[0].lo <= 1 {
		return s[0].hi
	}
	return 0
}

// absent returns the lowest LSN from x on that is not in the set.
func (s spans) absent(x uint64) uint64 {
	if i := s.at(x); i < len(s) && s[i].lo <= x {
		return s[i].hi + 1
	}
	return x
}

// add puts lo to hi into the set.
func (s *spans) add(lo, hi uint64) {
	if lo > hi {
		return
	}
	i := s.at(lo - min(lo, 1)) // the first that touches or follows
	j := i
	for j < len(*s) && (*s)[j].lo <= hi+1 {
		lo, hi = min(lo, (*s)[j].lo), max(hi, (*s)[j].hi)
		j++
	}
	*s = slices.Replace(*s, i, j, span{lo, hi})
}

// without returns what of r is not in the set.
func (s spans) without(r span) spans {
	var out spans
	lo := r.lo
	for i := s.at(lo); i < len(s) && s[i].lo <= r.hi; i++ {
		if s[i].lo > lo {
			out = append(out, span{lo, s[i].lo - 1})
		}
		lo = s[i].hi + 1
	}
	if lo <= r.hi {
		out = append(out, span{lo, r.hi})
	}
	return out
}

// count is the number of LSNs in the set.
func (s spans) count() (n uint64) {
	for _, r := range s {
		n += r.hi - r.lo + 1
	}
	return n
}
