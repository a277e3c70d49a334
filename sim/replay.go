package sim

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Player plays a recording of a device back.
type Player struct {
	line    line
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Replay plays a recording (of `telemetryd run --record`) on a line, as Config's
// Listen names it. A GPS recording is played by its clock from the moment a client
// connects. An OBD recording is played as it was asked for: what the client sends is
// looked for in the recording, from where it stands on, and what followed there comes
// back, byte for byte and with its delays; what was never asked there gets "?". A
// client that only listens hears all of it by its clock after three seconds.
func Replay(ctx context.Context, recording io.Reader, listen string) (*Player, error) {
	kind, entries, err := parseRecording(recording)
	if err != nil {
		return nil, err
	}
	l, err := newLine(ctx, listen)
	if err != nil {
		return nil, fmt.Errorf("start the replay: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &Player{line: l, cancel: cancel}
	p.running.Go(func() {
		serve(ctx, l, 0, func(ctx context.Context, t *terminal) {
			if kind == "gps" {
				playClock(ctx, t, entries)
				t.drain(ctx)
				return
			}
			playAnswers(ctx, t, entries)
		})
	})
	return p, nil
}

// Address is where a client finds the device.
func (p *Player) Address() string { return p.line.address() }

// Close ends the replay and waits for its goroutines.
func (p *Player) Close() error {
	p.cancel()
	p.running.Wait()
	return p.line.close()
}

// recorded is an entry of a recording.
type recorded struct {
	at   time.Duration // since the first of all
	sent bool          // by the client
	data []byte
}

// longestGap bounds the pause between two files of a recording.
const longestGap = 5 * time.Second

// parseRecording reads all entries that carry bytes. Lines that are damaged are left
// out; a file without any other is no recording.
func parseRecording(r io.Reader) (kind string, entries []recorded, err error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	var base, last time.Duration
	var broken error // the first, told when nothing else is there
	for number := 1; in.Scan(); number++ {
		line := in.Text()
		if rest, found := strings.CutPrefix(line, "# telemetryd recording 1 "); found {
			kind, _, _ = strings.Cut(rest, " ")
			base = last
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(line, " ", 3)
		if len(parts) < 3 {
			broken = cmp.Or(broken, fmt.Errorf("line %d is no entry of a recording: %.40q", number, line))
			continue
		}
		seconds, err := strconv.ParseFloat(parts[0], 64)
		data, quoteErr := strconv.Unquote(parts[2])
		if err := errors.Join(err, quoteErr); err != nil {
			broken = cmp.Or(broken, fmt.Errorf("line %d is no entry of a recording: %w", number, err))
			continue
		}
		at := base + time.Duration(seconds*float64(time.Second))
		last = at
		switch parts[1] {
		case ">", "]": // ] and [ repeat the beginning of the session
			entries = append(entries, recorded{at, true, []byte(data)})
		case "<", "[":
			entries = append(entries, recorded{at, false, []byte(data)})
		case "=":
		default:
			broken = cmp.Or(broken, fmt.Errorf("line %d is no entry of a recording: mark %.10q", number, parts[1]))
		}
	}
	if err := in.Err(); err != nil {
		return "", nil, fmt.Errorf("read the recording: %w", err)
	}
	if kind != "obd" && kind != "gps" {
		return "", nil, errors.New("no recording of telemetryd: it begins with `# telemetryd recording 1 obd` or gps")
	}
	if len(entries) == 0 && broken != nil {
		return "", nil, broken
	}
	return kind, entries, nil
}

// playClock sends what the device sent, at its times.
func playClock(ctx context.Context, t *terminal, entries []recorded) {
	began, first := time.Now(), true
	var before, shift time.Duration
	for _, e := range entries {
		if e.sent {
			continue
		}
		if first {
			shift, first = e.at, false
		} else if gap := e.at - before; gap > longestGap {
			shift += gap - longestGap
		}
		before = e.at
		if t.wait(ctx, time.Until(began.Add(e.at-shift)), false) != nil || t.hand(e.data, nil) != nil {
			return
		}
	}
}

// listens is how long a client may be silent until it counts as one that only listens.
const listens = 3 * time.Second

// playAnswers answers as the device did.
func playAnswers(ctx context.Context, t *terminal, entries []recorded) {
	place := 0
	var asked []byte
	limit := time.After(listens)
	for {
		select {
		case b, ok := <-t.in:
			if !ok {
				return
			}
			limit = nil
			asked = append(asked, b...)
		case <-limit:
			playClock(ctx, t, entries)
			limit = nil
			continue
		case <-ctx.Done():
			return
		}
		for len(asked) > 0 {
			i := find(entries, place, asked)
			switch {
			case i >= 0:
				asked = asked[:0]
				place = i + 1
				if !answer(ctx, t, entries[place:], entries[i].at) {
					return
				}
			case asked[len(asked)-1] == '\r':
				asked = asked[:0]
				if t.hand([]byte("?\r\r>"), nil) != nil {
					return
				}
			}
			if len(t.pending) == 0 {
				break
			}
			asked, t.pending = append(asked, t.pending...), nil
		}
	}
}

// find looks for a request from place on, then from the beginning; -1 for none.
func find(entries []recorded, place int, asked []byte) int {
	is := func(e recorded) bool { return e.sent && string(e.data) == string(asked) }
	if i := slices.IndexFunc(entries[place:], is); i >= 0 {
		return place + i
	}
	return slices.IndexFunc(entries[:place], is)
}

// answer plays what followed a request until the next one was sent, or until the
// client sends something. It reports whether the client is still there.
func answer(ctx context.Context, t *terminal, entries []recorded, asked time.Duration) bool {
	began := time.Now()
	for _, e := range entries {
		if e.sent {
			return true
		}
		timer := time.NewTimer(time.Until(began.Add(e.at - asked)))
		select {
		case b, ok := <-t.in:
			timer.Stop()
			t.pending = append(t.pending, b...)
			return ok
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		if t.hand(e.data, nil) != nil {
			return false
		}
	}
	return true
}
