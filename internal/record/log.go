package record

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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

	mu      sync.Mutex
	leftOut int
	closed  bool

	// Of the writing goroutine:
	file    *os.File
	began   time.Time
	size    int64
	pending []byte
	session []entry   // how the port's session began, for files that begin later
	bytes   int       // of it
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
	if l.closed {
		return // told after the end
	}
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

// Close writes what waits and ends the recording. What comes later is left out.
func (l *Log) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.entries)
	}
	l.mu.Unlock()
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
	l.remember(e)
	if l.file == nil || l.size+int64(len(l.pending)) > int64(l.fileBytes()) {
		l.flush()
		l.close()
		if !l.begin(e.at) {
			return
		}
	}
	l.line(e.at.Sub(l.began), e.mark, e.text)
	if len(l.pending) > 64<<10 {
		l.flush()
	}
}

func (l *Log) line(at time.Duration, mark byte, text string) {
	l.pending = strconv.AppendFloat(l.pending, at.Seconds(), 'f', 6, 64)
	l.pending = append(l.pending, ' ', mark, ' ')
	l.pending = strconv.AppendQuoteToASCII(l.pending, text)
	l.pending = append(l.pending, '\n')
}

// remember keeps how a session began: without its beginning, in which adapter and car
// are found, the rest of it cannot be played back.
func (l *Log) remember(e entry) {
	switch {
	case e.mark == '=':
		l.session, l.bytes = nil, 0 // opened, or closed
	case l.bytes+len(e.text) <= l.fileBytes()/16: // four characters a byte at most
		l.session = append(l.session, e)
		l.bytes += len(e.text) + 20
	default:
		l.bytes = fileBytes // full
	}
}

// fileBytes is the size at which the next file is begun.
func (l *Log) fileBytes() int { return int(min(fileBytes, l.limit/files)) }

// begin makes the next file, and room for it.
func (l *Log) begin(now time.Time) bool {
	if !l.failed.IsZero() && now.Sub(l.failed) < retryEvery {
		return false
	}
	err := os.MkdirAll(l.dir, 0o700)
	if err == nil {
		l.makeRoom()
		l.file, err = create(filepath.Join(l.dir, fmt.Sprintf("%s-%s", l.kind, now.UTC().Format("20060102T150405.000Z"))))
	}
	if err != nil {
		l.refused(err)
		return false
	}
	l.began, l.size = now, 0
	l.pending = fmt.Appendf(nil, "%s%s %s\n", header, l.kind, now.UTC().Format("2006-01-02T15:04:05.000Z"))
	if l.kind == "obd" && len(l.session) > 1 { // more than the entry at hand
		for _, e := range l.session[:len(l.session)-1] {
			l.line(0, map[byte]byte{'>': ']', '<': '['}[e.mark], e.text)
		}
	}
	return true
}

// create makes a file of a name that no other has.
func create(name string) (f *os.File, err error) {
	for n := range 100 {
		suffix := ".rec"
		if n > 0 {
			suffix = fmt.Sprintf("_%02d.rec", n) // sorts behind
		}
		if f, err = os.OpenFile(name+suffix, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, err
}

// makeRoom removes the oldest files until one more fits within the limit.
func (l *Log) makeRoom() {
	names, err := filepath.Glob(filepath.Join(l.dir, l.kind+"-*.rec"))
	if err != nil {
		return // only of a malformed pattern
	}
	total := int64(l.fileBytes())
	type old struct {
		name string
		info os.FileInfo
	}
	var all []old
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			all = append(all, old{name, info})
			total += info.Size()
		}
	}
	slices.SortFunc(all, func(a, b old) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	if now := time.Now(); len(all) > 0 && all[len(all)-1].info.ModTime().After(now) {
		// The clock is behind that of an earlier run: the files ahead of it are the older.
		ahead := func(o old) bool { return o.info.ModTime().After(now) }
		i := slices.IndexFunc(all, ahead)
		all = slices.Concat(all[i:], all[:i])
	}
	for _, o := range all {
		if total <= l.limit {
			return
		}
		if err := os.Remove(o.name); err == nil {
			total -= o.info.Size()
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
