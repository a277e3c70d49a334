package gps

// maxSentence is the longest sentence taken, from $ to before the line's end.
// NMEA 0183 allows 82 with CR LF; real receivers send up to 105.
const maxSentence = 256

// framer cuts sentences out of a stream of bytes: from $ to CR or LF, of printable
// characters alone. So it copes with a partial first line, binary messages between
// sentences and every kind of line end. It keeps no more than one sentence.
type framer struct {
	buf [maxSentence]byte
	n   int // characters in buf; 0 outside a sentence
}

// push takes the next byte. It returns a line when b ends one, with an empty
// reason, or what had come of a line when b spoils it, with the reason. The line
// is valid until the next push.
func (f *framer) push(b byte) (line []byte, why Reason) {
	switch {
	case b == '$':
		if f.n > 1 { // "$$" is how ST's Teseo starts a sentence
			line, why = append(line, f.buf[:f.n]...), CutOff
		}
		f.buf[0], f.n = b, 1
		return line, why
	case f.n == 0:
		return nil, ""
	case b == '\r' || b == '\n':
		return f.rest(), ""
	case b < 0x20 || b > 0x7e:
		return f.rest(), Noise
	case f.n == maxSentence:
		return f.rest(), TooLong
	}
	f.buf[f.n] = b
	f.n++
	return nil, ""
}

// rest ends the sentence and returns what has come of it.
func (f *framer) rest() []byte {
	line := f.buf[:f.n]
	f.n = 0
	return line
}

// reset forgets a sentence that has begun.
func (f *framer) reset() { f.n = 0 }

// checked reports whether line ends in a checksum (NMEA 0183: * and the exclusive
// or of what is between $ and *, in two hexadecimal digits), and why not. The body
// is the line without it.
func checked(line []byte) (body []byte, why Reason) {
	for len(line) > 0 && line[len(line)-1] == ' ' {
		line = line[:len(line)-1]
	}
	var sum byte
	for i := 1; i < len(line); i++ {
		if line[i] != '*' {
			sum ^= line[i]
			continue
		}
		if len(line) != i+3 {
			return nil, NoChecksum
		}
		hi, ok1 := hexDigit(line[i+1])
		lo, ok2 := hexDigit(line[i+2])
		switch {
		case !ok1 || !ok2:
			return nil, NoChecksum
		case hi<<4|lo != sum:
			return nil, WrongChecksum
		}
		return line[:i], ""
	}
	return nil, NoChecksum
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
