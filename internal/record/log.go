package record

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"telemetryd/internal/port"
)

const (
	// fileBytes is the size at which a new file is begun.
	fileBytes = 4 << 20
	// files is in how many at least a small bound is divided.
	files      = 8
	queued     = 1024 // entries that wait for the disk
	flushEvery = time.Second
	retryEvery = 10 * time.Second
)

// Log records one port. It implements port.Tap.
type Log struct {
	dir, kind string
	limit     int64
	log       *slog.Logger
	entries   chan entry
	done      chan struct{}
	ended     sync.Once

	mu      sync.Mutex
	leftOut int

	// Of the writing goroutine:
	file    *os.File
	began   time.Time
	size    int64
	pending []byte
	failed  time.Time // when the disk last refused; zero while it works
}

type entry struct {
	at   time.Time
	mark byte
	text string
}

// Open begins a recording of kind ("obd", "gps") in dir, which is made if it is not
// there. All files of this kind together stay within limit bytes.
func Open(dir, kind string, limit int64, log *slog.Logger) *Log {
	l := &Log{dir: dir, kind: kind, limit: limit, log: log, entries: make(chan entry, queued), done: make(chan struct{})}
	go l.write()
	return l
}

// Opened implements port.Tap.
func (l *Log) Opened(a port.Address) { l.add('=', "open "+a.String()) }

// Sent implements port.Tap.
func (l *Log) Sent(b []byte) { l.add('>', string(b)) }

// Received implements port.Tap.
func (l *Log) Received(b []byte) { l.add('<', string(b)) }

// Closed implements port.Tap.
func (l *Log) Closed(err error) {
	if err == nil {
		l.add('=', "closed")
		return
	}
	l.add('=', "closed: "+err.Error())
}

func (l *Log) add(mark byte, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.leftOut > 0 {
		select {
		case l.entries <- entry{now, '=', fmt.Sprintf("%d entries left out: the disk is slow", l.leftOut)}:
			l.leftOut = 0
		default:
		}
	}
	select {
	case l.entries <- entry{now, mark, text}:
	default:
		l.leftOut++
	}
}

// Close writes what waits and ends the recording. The port must be closed before.
func (l *Log) Close() {
	l.ended.Do(func() { close(l.entries) })
	<-l.done
}

// write is the goroutine that meets the disk.
func (l *Log) write() {
	defer close(l.done)
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	for {
		select {
		case e, ok := <-l.entries:
			if !ok {
				l.flush()
				l.close()
				return
			}
			l.append(e)
		case <-flush.C:
			l.flush()
		}
	}
}

// append adds an entry to what waits for the next flush, in a file begun before.
func (l *Log) append(e entry) {
	if l.file == nil || l.size+int64(len(l.pending)) > min(fileBytes, l.limit/files) {
		l.flush()
		l.close()
		if !l.begin(e.at) {
			return
		}
	}
	l.pending = strconv.AppendFloat(l.pending, e.at.Sub(l.began).Seconds(), 'f', 6, 64)
	l.pending = append(l.pending, ' ', e.mark, ' ')
	l.pending = strconv.AppendQuoteToASCII(l.pending, e.text)
	l.pending = append(l.pending, '\n')
	if len(l.pending) > 64<<10 {
		l.flush()
	}
}

// begin makes the next file, and room for it.
func (l *Log) begin(now time.Time) bool {
	if !l.failed.IsZero() && now.Sub(l.failed) < retryEvery {
		return false
	}
	err := os.MkdirAll(l.dir, 0o700)
	if err == nil {
		l.makeRoom()
		name := fmt.Sprintf("%s-%s.rec", l.kind, now.UTC().Format("20060102T150405.000Z"))
		l.file, err = os.OpenFile(filepath.Join(l.dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	}
	if err != nil {
		l.refused(err)
		return false
	}
	l.began, l.size = now, 0
	l.pending = fmt.Appendf(nil, "%s%s %s\n", header, l.kind, now.UTC().Format("2006-01-02T15:04:05.000Z"))
	return true
}

// makeRoom removes the oldest files until one more fits within the limit.
func (l *Log) makeRoom() {
	names, err := filepath.Glob(filepath.Join(l.dir, l.kind+"-*.rec"))
	if err != nil {
		return // only of a malformed pattern
	}
	slices.Sort(names) // by time
	total := min(fileBytes, l.limit/files)
	sizes := make([]int64, len(names))
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			sizes[i] = info.Size()
			total += sizes[i]
		}
	}
	for i, name := range names {
		if total <= l.limit {
			return
		}
		if err := os.Remove(name); err == nil {
			total -= sizes[i]
		}
	}
}

func (l *Log) flush() {
	if l.file == nil || len(l.pending) == 0 {
		return
	}
	n, err := l.file.Write(l.pending)
	l.size += int64(n)
	l.pending = l.pending[:0]
	if err != nil {
		l.refused(err)
		l.close()
		return
	}
	if !l.failed.IsZero() {
		l.failed = time.Time{}
		l.log.Info("the recording goes on", "kind", l.kind, "dir", l.dir)
	}
}

// refused notes that the disk refused, once until it works again.
func (l *Log) refused(err error) {
	if l.failed.IsZero() {
		l.log.Warn("the recording cannot be written; reading goes on without it", "kind", l.kind, "error", err)
	}
	l.failed = time.Now()
}

func (l *Log) close() {
	if l.file == nil {
		return
	}
	if err := l.file.Close(); err != nil {
		l.refused(err)
	}
	l.file = nil
}

const header = "# telemetryd recording 1 "

// IsRecording reports whether a file that begins so is a recording.
func IsRecording(first []byte) bool { return bytes.HasPrefix(first, []byte(header)) }
