package local

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// Recorder is where events are recorded.
type Recorder interface {
	Emit(ctx context.Context, e telemetry.Event) (spool.Record, error)
}

// Store is the buffer that they are in then.
type Store interface {
	Get(lsn uint64) (spool.Record, bool, error)
	Trouble() (spool.Trouble, bool)
}

// Receipts tell what the broker has acknowledged.
type Receipts interface{ Has(lsn uint64) bool }

// Health is where conditions are reported.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Config says where the socket is and where events go.
type Config struct {
	Dir      string // the state directory
	Recorder Recorder
	Store    Store
	Receipts Receipts
	Uptime   func() time.Duration
	Health   Health

	lookEvery time.Duration // 0 means lookEvery
}

const (
	// most programs may be connected, and mostWaiting of them may wait for the broker: there
	// is always room for one more event.
	most        = 16
	mostWaiting = 8
	// talkLimit is how long a program may take to send its line, or to take the answer.
	talkLimit = 5 * time.Second
	// recordLimit is how long a disk may take to be waited for.
	recordLimit = 10 * time.Second
	// So many events a second are taken, emergencies counted by themselves: each costs a sync
	// of the card, and a script may run in a circle.
	perSecond, atOnce = 5, 50
	// askEvery is how often the receipts are looked at for one who waits; every goneAfter
	// looks, whether the buffer still has the event.
	askEvery  = 20 * time.Millisecond
	goneAfter = 50
	// lookEvery is how often the socket is looked for in its place, or opened again.
	lookEvery = 10 * time.Second
)

type server struct {
	Config
	slots   chan struct{}
	waiting atomic.Int32
	limits  map[bool]*rate.Limiter // by whether it is an emergency
}

// Serve takes events until ctx ends. Where the socket cannot be opened, that is a condition,
// and tried again.
func Serve(ctx context.Context, c Config) {
	c.lookEvery = cmp.Or(c.lookEvery, lookEvery)
	s := &server{Config: c, slots: make(chan struct{}, most), limits: map[bool]*rate.Limiter{
		false: rate.NewLimiter(perSecond, atOnce), true: rate.NewLimiter(perSecond, atOnce),
	}}
	for ctx.Err() == nil {
		l, err := listen(c.Dir)
		if err == nil {
			c.Health.Clear("local", "Programs on this machine can emit events again")
			s.serve(ctx, l)
			continue
		}
		c.Health.Set("local", telemetry.Condition{Code: "emit_unavailable", Severity: telemetry.Warning,
			Title:  fmt.Sprintf("Programs on this machine cannot emit events, a panic button neither: %v", err),
			Remedy: fmt.Sprintf("is the disk of %s writable? It is tried again", c.Dir)})
		select {
		case <-time.After(c.lookEvery):
		case <-ctx.Done():
		}
	}
}

// serve serves a socket until ctx ends or the socket is not in its place any more.
func (s *server) serve(ctx context.Context, l *listener) {
	var running sync.WaitGroup
	defer running.Wait()
	looking, gone := context.WithCancel(ctx)
	defer gone()
	running.Go(func() {
		look := time.NewTicker(s.lookEvery)
		defer look.Stop()
		for looking.Err() == nil && l.stands() {
			select {
			case <-look.C:
			case <-looking.Done():
			}
		}
		l.Close() // ends Accept
	})
	for {
		s.slots <- struct{}{}
		conn, err := l.Accept()
		if err != nil {
			<-s.slots
			if !errors.Is(err, net.ErrClosed) { // too many files are open
				select {
				case <-time.After(time.Second):
					continue
				case <-ctx.Done():
				}
			}
			return
		}
		running.Go(func() {
			defer func() { <-s.slots }()
			s.talk(ctx, conn)
		})
	}
}

// talk is one request and its answer. What fails here is the program's affair.
func (s *server) talk(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(talkLimit))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReaderSize(io.LimitReader(conn, mostLine), mostLine).ReadSlice('\n')
	var answer Answer
	switch {
	case len(line) == 0: // it only looked whether somebody is here
		return
	case ctx.Err() != nil:
		answer.Error = "the daemon stops"
	case len(line) == mostLine && err != nil:
		answer.Error = fmt.Sprintf("the request is larger than %d bytes", mostLine)
	case err != nil:
		answer.Error = "the request has no end of line"
	default:
		answer = s.record(ctx, line)
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return // texts, numbers and booleans
	}
	_ = conn.SetWriteDeadline(time.Now().Add(talkLimit))
	_, _ = conn.Write(append(b, '\n'))
}

// record records a request and tells what became of it.
func (s *server) record(ctx context.Context, line []byte) Answer {
	at := s.Uptime()
	r, err := parse(line)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	e, err := r.Event(at)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	if !s.limits[e.Severity == telemetry.Emergency].Allow() {
		return Answer{Error: fmt.Sprintf("too many events: %d a second are taken over some time; does a script run in a circle?", perSecond)}
	}
	// A stop of the daemon does not leave open whether it was recorded.
	recording, done := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer done()
	record, err := s.Recorder.Emit(recording, e)
	if errors.Is(err, context.DeadlineExceeded) {
		return Answer{Error: fmt.Sprintf("the disk has not taken the event within %v; it may still be recorded", recordLimit)}
	}
	if err != nil {
		return Answer{Error: err.Error()}
	}
	answer := Answer{StreamID: record.StreamID, Seq: record.Seq, Durable: true}
	if trouble, bad := s.Store.Trouble(); bad {
		answer.Durable, answer.Trouble = false, trouble.Err.Error()
	}
	if r.WaitMS > 0 {
		s.await(ctx, record.LSN, time.Duration(r.WaitMS)*time.Millisecond, &answer)
	}
	return answer
}

// await waits until the broker has an event, or will never get it.
func (s *server) await(ctx context.Context, lsn uint64, limit time.Duration, answer *Answer) {
	if s.waiting.Add(1) > mostWaiting {
		limit = 0
	}
	defer s.waiting.Add(-1)
	end := time.After(limit)
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	for looks := 1; ; looks++ {
		if answer.Acknowledged = s.Receipts.Has(lsn); answer.Acknowledged {
			return
		}
		if looks%goneAfter == 0 {
			if _, there, err := s.Store.Get(lsn); err == nil && !there {
				answer.Acknowledged = s.Receipts.Has(lsn) // the receipt comes first
				answer.GivenUp = !answer.Acknowledged
				return
			}
		}
		select {
		case <-ask.C:
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}
