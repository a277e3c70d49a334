package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryd/ledger"
)

// books say what arrived. They are kept at the broker's end of the link, on what the
// broker acknowledged, whether or not the daemon ever heard of it: from the PUBACK on the
// message is the broker's to keep, and not before. A subscriber would be a worse witness:
// a broker that is killed forgets what it has not saved, and the daemon would be blamed.
// So nothing that the daemon takes for delivered can be missing here, unless it is wrong.
type books struct {
	t       testing.TB
	mu      sync.Mutex
	ledger  ledger.Ledger // the consumers' own, which must come to the same end
	streams map[string]*pages
	gaps    []namedGap

	batches, events, duplicates, inversions, invented int
}

// pages are of one stream.
type pages struct {
	got     map[uint64]string // payload of the first copy, by seq
	reached map[string]uint64 // seq, by lane
	start   *streamStarted    // nil while it has not arrived
	last    uint64            // as its status tells
}

type streamStarted struct {
	Previous string `json:"previous_stream_id"`
	Last     uint64 `json:"previous_last_seq"`
}

// namedGap is a data_gap, and who told it.
type namedGap struct {
	by     string
	Stream string `json:"gap_stream_id"`
	First  uint64 `json:"first_seq"`
	Last   uint64 `json:"last_seq"`
	Reason string `json:"reason"`
}

func newBooks(t testing.TB) *books { return &books{t: t, streams: map[string]*pages{}} }

// acknowledged notes a message that the broker has taken.
func (b *books) acknowledged(topic string, payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lane, ok := strings.CutPrefix(topic, "vehicles/van-1/")
	m, err := ledger.Parse(payload)
	if err == nil {
		err = b.ledger.Add(m)
	}
	if err != nil || !ok || m.VehicleID != "van-1" {
		b.invent("on %s: %v: %s", topic, err, payload)
		return
	}
	p := b.streams[m.StreamID]
	if p == nil {
		p = &pages{got: map[uint64]string{}, reached: map[string]uint64{}}
		b.streams[m.StreamID] = p
	}
	if m.State != "" {
		p.last = max(p.last, m.LastSeq)
		return
	}
	if first, twice := p.got[m.Seq]; twice {
		b.duplicates++
		// Copies of one seq differ in nothing but time quality.
		if timeless([]byte(first)) != timeless(payload) {
			b.invent("%s seq %d came in two versions:\n%s\n%s", m.StreamID, m.Seq, first, payload)
		}
		return
	}
	p.got[m.Seq] = string(payload)
	if m.Seq < p.reached[lane] {
		b.inversions++
		b.t.Errorf("order: %s seq %d came first on %s after seq %d", m.StreamID, m.Seq, lane, p.reached[lane])
	}
	p.reached[lane] = max(p.reached[lane], m.Seq)
	if (m.Type != "") != (lane == "events") {
		b.invent("on %s: %s", topic, payload)
	}
	if m.Type == "" {
		b.batches++
		return
	}
	b.events++
	b.event(p, m)
}

func (b *books) event(p *pages, m ledger.Message) {
	var err error
	switch m.Type {
	case "stream_start":
		p.start = new(streamStarted)
		if err = json.Unmarshal(m.Data, p.start); m.Seq != 1 {
			b.t.Errorf("the stream_start of %s has seq %d", m.StreamID, m.Seq)
		}
	case "data_gap":
		g := namedGap{by: m.StreamID}
		err = json.Unmarshal(m.Data, &g)
		b.gaps = append(b.gaps, g)
	}
	if err != nil {
		b.invent("%v: %s", err, m.Data)
	}
}

func (b *books) invent(format string, args ...any) {
	b.t.Helper()
	b.invented++
	b.t.Errorf("invented: "+format, args...)
}

// life is one process of the daemon.
type life struct {
	stream string // "" where it ended before it had one
	small  bool   // its buffer was small
	full   bool   // its disk was full at some time
	// memory: when it ended, its disk failed or had failed just before, so that its newest
	// records may have been in its memory alone.
	memory bool
}

// verdict is what the books prove.
type verdict struct {
	lost, unpromised uint64
	values           int
	reasons          map[string]uint64 // records by reason of their gaps
}

// close proves that every record of every stream arrived or is named as lost, for a cause
// that there was, and that nothing else arrived.
func (b *books) close(t *testing.T, lives []*life, truthFile string) verdict {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	v := verdict{reasons: map[string]uint64{}}
	place := map[string]int{}
	for i, l := range lives {
		if l.stream != "" {
			place[l.stream] = i
		}
	}
	for id := range b.streams {
		if _, ok := place[id]; !ok {
			b.invent("no process had the stream %s", id)
			delete(b.streams, id)
		}
	}
	b.judgeGaps(t, &v, lives, place)
	ends := b.ends(t, lives, place)
	for id, end := range ends {
		p := b.streams[id]
		if p == nil { // all of it was evicted
			p = &pages{}
		}
		var lost []uint64
		for seq := uint64(1); seq <= end; seq++ {
			if p.got[seq] == "" && !b.isNamed(id, seq) {
				lost = append(lost, seq)
			}
		}
		if v.lost += uint64(len(lost)); len(lost) > 0 {
			t.Errorf("lost: of stream %s, which ends at %d, seq %d", id, end, lost)
		}
		for seq, payload := range p.got {
			switch {
			case seq <= end:
			case lives[place[id]].memory:
				v.unpromised++
			default:
				b.invent("seq %d of stream %s, which ends at %d: %s", seq, id, end, payload)
			}
		}
	}
	for _, s := range b.ledger.Report().Streams { // as any consumer sees it
		for _, m := range s.Missing {
			if i, ok := place[s.StreamID]; ok && (m.First <= ends[s.StreamID] || !lives[i].memory) {
				t.Errorf("lost, as package ledger says: seq %d to %d of stream %s", m.First, m.Last, s.StreamID)
			}
		}
	}
	v.values = b.checkValues(t, truthFile)
	if t.Failed() {
		b.show(t, lives, ends)
	}
	return v
}

// show lists the pages, for whoever looks for the cause.
func (b *books) show(t *testing.T, lives []*life, ends map[string]uint64) {
	t.Helper()
	for i, l := range lives {
		if l.stream == "" {
			continue
		}
		n := 0
		if p := b.streams[l.stream]; p != nil {
			n = len(p.got)
		}
		t.Logf("process %d %+v: %d records, highest %d, end %d, start %+v", i, *l, n, b.highest(l.stream), ends[l.stream], b.startOf(l.stream))
	}
	for _, g := range b.gaps {
		t.Logf("gap %+v", g)
	}
}

// ends returns the last seq that each stream promised: what its successor says and, of the
// newest, its own last status.
func (b *books) ends(t *testing.T, lives []*life, place map[string]int) map[string]uint64 {
	t.Helper()
	ends := map[string]uint64{}
	follows := map[string]string{}
	ids := b.known(place)
	for _, id := range ids {
		start := b.startOf(id)
		if start == nil || start.Previous == "" {
			continue
		}
		// Two may follow one only where the first of them was never on the disk.
		other, twice := follows[start.Previous]
		before, known := place[start.Previous]
		if !known || before >= place[id] || twice && !lives[place[other]].memory {
			t.Errorf("stream %s says that %s was before it, and so does %q", id, start.Previous, other)
		}
		follows[start.Previous], ends[start.Previous] = id, start.Last
	}
	for i, id := range ids {
		if _, ok := ends[id]; ok {
			continue
		}
		switch {
		case i == len(ids)-1:
			ends[id] = b.streams[id].last
		case b.isNamed(ids[i+1], 1): // its successor's stream_start was evicted, and tells nothing
			if !lives[place[id]].memory {
				ends[id] = b.highest(id)
			}
		case lives[place[id]].memory: // nothing of it was durable
			ends[id] = 0
		default:
			t.Errorf("no stream follows %s", id)
		}
	}
	return ends
}

// known lists the streams of which a record, a gap or a successor tells, oldest first.
func (b *books) known(place map[string]int) []string {
	ids := map[string]bool{}
	for id, p := range b.streams {
		if len(p.got) > 0 {
			ids[id] = true
		}
		if p.start != nil && p.start.Previous != "" {
			ids[p.start.Previous] = true
		}
	}
	for _, g := range b.gaps {
		ids[g.Stream] = true
	}
	return slices.SortedFunc(maps.Keys(ids), func(x, y string) int { return place[x] - place[y] })
}

func (b *books) startOf(id string) *streamStarted {
	if p := b.streams[id]; p != nil {
		return p.start
	}
	return nil
}

// highest is the highest seq that arrived or was named.
func (b *books) highest(id string) (seq uint64) {
	if p := b.streams[id]; p != nil {
		for got := range p.got {
			seq = max(seq, got)
		}
	}
	for _, g := range b.gaps {
		if g.Stream == id {
			seq = max(seq, g.Last)
		}
	}
	return seq
}

func (b *books) isNamed(id string, seq uint64) bool {
	return slices.ContainsFunc(b.gaps, func(g namedGap) bool { return g.Stream == id && g.First <= seq && seq <= g.Last })
}

// judgeGaps wants a cause for each gap.
func (b *books) judgeGaps(t *testing.T, v *verdict, lives []*life, place map[string]int) {
	t.Helper()
	for _, g := range b.gaps {
		from, ok := place[g.Stream]
		if !ok || g.First < 1 || g.First > g.Last {
			t.Errorf("a gap of nothing that was: %+v", g)
			continue
		}
		v.reasons[g.Reason] += g.Last - g.First + 1
		plausible := false
		switch g.Reason {
		case "evicted": // by a process since then whose buffer or disk had no more room
			plausible = slices.ContainsFunc(lives[from:place[g.by]+1], func(l *life) bool { return l.small || l.full })
		case "lost_in_crash": // never after kill -9 alone: what was synced stays
			plausible = lives[from].memory
		}
		if !plausible {
			t.Errorf("a gap that nothing explains: %+v", g)
		}
	}
}

// checkValues proves every value by the truth log.
func (b *books) checkValues(t *testing.T, truthFile string) (values int) {
	t.Helper()
	all := readTruth(t, truthFile)
	for id, p := range b.streams {
		for seq, payload := range p.got {
			m, err := ledger.Parse([]byte(payload))
			if err != nil {
				t.Fatal(err) // it was read before
			}
			for _, sample := range m.Samples {
				var fields map[string]json.RawMessage
				var text string
				err := json.Unmarshal(sample, &fields)
				if err == nil {
					err = json.Unmarshal(fields["t"], &text)
				}
				at, bad := time.Parse(time.RFC3339Nano, text)
				if err != nil || bad != nil || len(fields) < 2 {
					b.invent("%s seq %d: %v %v: %s", id, seq, err, bad, sample)
				}
				for name, value := range fields {
					if name == "t" || name == "uptime_ms" {
						continue
					}
					if values++; !all.served(name, string(value), at, goodTime) {
						b.invent("%s seq %d: %s=%s at %s was never served", id, seq, name, value, text)
					}
				}
			}
		}
	}
	return values
}

func (v verdict) String() string {
	named := "none"
	for i, reason := range slices.Sorted(maps.Keys(v.reasons)) {
		if i == 0 {
			named = ""
		}
		named += fmt.Sprintf(" %s %d", reason, v.reasons[reason])
	}
	return fmt.Sprintf("lost %d, named as lost: %s, never promised %d; %d values are true", v.lost, strings.TrimSpace(named), v.unpromised, v.values)
}
