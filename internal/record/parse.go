package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Entry is one line of a recording.
type Entry struct {
	At   time.Duration // since the beginning of its file
	Mark byte          // '>' sent, '<' received, '=' a remark; ']' and '[' as doc.go tells
	Data []byte
}

// longestLine bounds a line: no read brings more than 4 KiB, of four characters each
// at most.
const longestLine = 1 << 20

// errLine is a line that is no entry; the next may be one.
var errLine = errors.New("line")

// Parse yields the entries of a recording; several may follow each other. A line that
// is none yields an error that names it, and the next lines follow; the last line may
// be cut off, as by a power cut, and is left out then. An error of r ends it.
func Parse(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		for number := 1; ; number++ {
			line, whole, err := readLine(in)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(Entry{}, err)
				}
				return
			}
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			e, err := parseLine(line)
			if err != nil && !whole {
				return
			}
			if err != nil {
				err = fmt.Errorf("%w %d: %w", errLine, number, err)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// readLine returns a line without its end, and whether it had one.
func readLine(in *bufio.Reader) (line string, whole bool, err error) {
	var b []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(b)+len(part) <= longestLine {
			b = append(b, part...)
		} else {
			b = b[:0:0]
			b = append(b, "line too long"...)
		}
		switch {
		case err == nil:
			return strings.TrimRight(string(b), "\r\n"), true, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(b) > 0:
			return string(b), false, nil
		default:
			return "", false, err
		}
	}
}

func parseLine(line string) (Entry, error) {
	at, rest, _ := strings.Cut(line, " ")
	mark, quoted, ok := strings.Cut(rest, " ")
	seconds, err := strconv.ParseFloat(at, 64)
	if !ok || err != nil || !(seconds >= 0 && seconds < 1e9) || len(mark) != 1 || !strings.Contains("<>=[]", mark) {
		return Entry{}, fmt.Errorf("%.40q is no entry; wanted: seconds, < or > or =, quoted bytes", line)
	}
	data, err := strconv.Unquote(quoted)
	if err != nil || !strings.HasPrefix(quoted, `"`) {
		return Entry{}, fmt.Errorf("%.40q: the bytes are not quoted as a Go string", line)
	}
	return Entry{time.Duration(seconds * float64(time.Second)), mark[0], []byte(data)}, nil
}

// Received is the stream of bytes that a device sent in a recording. bad is told of
// lines that are none.
func Received(r io.Reader, bad func(error)) io.Reader {
	next, stop := iter.Pull2(Parse(r))
	return &received{next: next, stop: stop, bad: bad}
}

type received struct {
	next func() (Entry, error, bool)
	stop func()
	bad  func(error)
	rest []byte
}

func (r *received) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		e, err, ok := r.next()
		switch {
		case !ok:
			r.stop()
			return 0, io.EOF
		case errors.Is(err, errLine):
			r.bad(err)
		case err != nil:
			return 0, err
		case e.Mark == '<':
			r.rest = e.Data
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
