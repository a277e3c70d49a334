package main

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// torment is a step of the plan.
type torment struct {
	at   time.Duration
	name string
	do   func()
}

// kind plans one torment from a moment on, and tells when it is over.
type kind func(at time.Duration) (steps []torment, over time.Duration)

// hand is one who torments: it deals its kinds in random order, each once before any comes
// again, and has one under way at a time. The hands do not wait for each other.
type hand struct {
	kinds       []kind
	least, most time.Duration // between two
}

// plan is what happens when: a function of the seed. Each kind comes at least once.
func (r *rack) plan(long time.Duration) (steps []torment) {
	for _, h := range []hand{r.hangman(), r.brokerKiller(), r.roadBreaker()} {
		at := 5 * time.Second
		for dealt := 0; at < long; {
			for _, i := range r.random.Perm(len(h.kinds)) {
				if at += r.between(h.least, h.most); at >= long && dealt >= len(h.kinds) {
					break
				}
				var more []torment
				more, at = h.kinds[i](at)
				steps = append(steps, more...)
				dealt++
			}
		}
	}
	slices.SortStableFunc(steps, func(a, b torment) int { return cmp.Compare(a.at, b.at) })
	return steps
}

func (r *rack) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.random.Int64N(int64(most-least)))
}

// counting makes a step count.
func (r *rack) counting(what string, do func()) func() {
	return func() {
		r.done[what]++
		do()
	}
}

// How the daemon ends.
var (
	killed  = ending{"daemon kills", syscall.SIGKILL}
	stopped = ending{"daemon stops", syscall.SIGTERM}
)

type ending struct {
	counts string
	signal syscall.Signal
}

func (r *rack) ends(at time.Duration, e ending) torment {
	return torment{at, e.counts, r.counting(e.counts, func() { r.end(e.signal) })}
}

func (r *rack) starts(at time.Duration) torment { return torment{at, "the daemon starts", r.start} }

// hangman ends the daemon and spoils its disk.
func (r *rack) hangman() hand {
	h := hand{least: 500 * time.Millisecond, most: 4 * time.Second}
	h.kinds = []kind{r.restart(killed), r.restart(killed), r.restart(stopped)}
	if r.disk != nil {
		h.kinds = append(h.kinds, r.diskFull, r.diskFullAtEnd(killed), r.diskFullAtEnd(stopped), r.readOnlyAtStart)
		if r.disk.breaks() {
			h.kinds = append(h.kinds, r.diskBreaks(killed), r.diskBreaks(stopped))
		}
	}
	return h
}

func (r *rack) restart(e ending) kind {
	return func(at time.Duration) ([]torment, time.Duration) {
		again := at + r.between(0, 3*time.Second)
		return []torment{r.ends(at, e), r.starts(again)}, again
	}
}

// full fills the disk, and takes what the daemon gives back of it, too.
func (r *rack) full(at, until time.Duration) []torment {
	steps := []torment{{at, "the disk is full", r.counting("full disks", r.fillDisk)}}
	for again := at + time.Second; again < until; again += time.Second {
		steps = append(steps, torment{again, "", r.fillDisk})
	}
	return append(steps, torment{until, "the disk has room", r.disk.free})
}

func (r *rack) diskFull(at time.Duration) ([]torment, time.Duration) {
	over := at + r.between(3*time.Second, 12*time.Second)
	return r.full(at, over), over
}

// diskFullAtEnd ends the daemon on a full disk, and starts it on one.
func (r *rack) diskFullAtEnd(e ending) kind {
	return func(at time.Duration) ([]torment, time.Duration) {
		end := at + r.between(500*time.Millisecond, 4*time.Second)
		again := end + r.between(0, time.Second)
		over := again + r.between(2*time.Second, 8*time.Second)
		return append(r.full(at, over), r.ends(end, e), r.starts(again)), over
	}
}

func (r *rack) readOnlyAtStart(at time.Duration) ([]torment, time.Duration) {
	over := at + r.between(2*time.Second, 7*time.Second)
	return []torment{
		r.ends(at, killed),
		{at, "the disk is read-only", r.counting("read-only disks", r.disk.protect)},
		r.starts(at),
		{over, "the disk is writable", r.disk.permit},
	}, over
}

func (r *rack) diskBreaks(e ending) kind {
	return func(at time.Duration) ([]torment, time.Duration) {
		end := at + r.between(time.Second, 5*time.Second)
		return []torment{
			{at, "the disk breaks", r.counting("broken disks", r.disk.abort)},
			r.ends(end, e),
			{end, "the disk is repaired", r.disk.repair},
			r.starts(end),
		}, end
	}
}

// brokerKiller kills the broker and starts it again.
func (r *rack) brokerKiller() hand {
	return hand{kinds: []kind{func(at time.Duration) ([]torment, time.Duration) {
		again := at + r.between(0, 5*time.Second)
		return []torment{
			{at, "the broker is killed", r.counting("broker kills", func() { r.broker.end(syscall.SIGKILL) })},
			{again, "the broker starts", r.broker.run},
		}, again
	}}, least: 5 * time.Second, most: 15 * time.Second}
}

// roadBreaker spoils the link.
func (r *rack) roadBreaker() hand {
	return hand{kinds: []kind{r.blackHole(false), r.blackHole(true), r.cutAt(packets.Publish), r.cutAt(packets.Puback), r.slowLink},
		least: time.Second, most: 6 * time.Second}
}

// blackHole swallows what comes; silent connections stay dead behind it until the daemon
// gives up.
func (r *rack) blackHole(silent bool) kind {
	return func(at time.Duration) ([]torment, time.Duration) {
		over := at + r.between(5*time.Second, r.longest)
		return []torment{
			{at, "the link is a black hole", r.counting("black holes", r.link.dig)},
			{over, "the black hole ends", func() { r.link.fill(silent) }},
		}, over
	}
}

// cutAt cuts the next packet of a type somewhere in its middle.
func (r *rack) cutAt(packet byte) kind {
	return func(at time.Duration) ([]torment, time.Duration) {
		part := r.random.Float64()
		return []torment{{at, fmt.Sprintf("the next %s is cut at %.0f %%", packets.PacketNames[packet], 100*part), func() { r.link.cutNext(packet, cut{part}) }}}, at
	}
}

func (r *rack) slowLink(at time.Duration) ([]torment, time.Duration) {
	over := at + r.between(3*time.Second, 12*time.Second)
	rate := 1000 << r.random.IntN(5) // 1 to 16 kB/s
	return []torment{
		{at, fmt.Sprintf("the link takes %d bytes a second", rate), r.counting("slow links", func() { r.link.slow(rate) })},
		{over, "the link is fast", func() { r.link.slow(0) }},
	}, over
}
