package obd

import (
	"context"
	"strings"
)

// channel is whom a request goes to and from whom answers are taken: the header
// (ATSH) and the receive filter (ATCRA) in hex; empty for the protocol's own.
type channel struct{ header, filter string }

// unsure is the header of an adapter of which it is not known how it is set.
const unsure = "?"

// use sets the adapter to a channel. taken is false when it does not know the header's
// command: then it is not asked what others would answer.
func (s *session) use(ctx context.Context, c channel) (taken bool, err error) {
	can := busOf(s.protocol).isCAN()
	if s.noFilter || !can { // elsewhere the header of the answer tells
		c.filter = ""
	}
	if c == s.at {
		return true, nil
	}
	if c.header != s.at.header {
		if taken, err = s.setHeader(ctx, c.header); err != nil || !taken {
			return false, err
		}
		if can {
			err = s.setFlow(ctx, c.header)
		}
		if err != nil {
			return false, err
		}
	}
	if c.filter != s.at.filter {
		taken, err := s.set(ctx, "ATCRA"+c.filter)
		if err != nil {
			return false, err
		}
		if !taken && c.filter == "" { // before version 1.4b of the ELM327
			taken, err = s.set(ctx, "ATAR")
		}
		if err != nil {
			return false, err
		}
		if !taken {
			s.noFilter, c.filter = true, ""
		}
	}
	s.at = c
	return true, nil
}

// setHeader sets a header, or the protocol's own. An adapter that knows no headers is
// left as it is, once and for all; one that cannot go back is set up anew.
func (s *session) setHeader(ctx context.Context, header string) (taken bool, err error) {
	if s.noHeader {
		return false, nil
	}
	before := s.at.header
	own := header == ""
	if own {
		header = defaultHeaders[s.protocol]
	}
	s.at.header = unsure
	priority, low := usualPriority, header
	if len(header) == 8 { // 29 bits: the first byte has a command of its own
		priority, low = header[:2], header[2:]
	}
	if err := s.setPriority(ctx, priority); err != nil {
		return false, err
	}
	if taken, err = s.set(ctx, "ATSH"+low); err != nil || taken {
		return taken, err
	}
	if own {
		return false, errLostSettings
	}
	if before == "" { // nothing was changed
		s.noHeader, s.at.header = true, before
		return false, s.setPriority(ctx, usualPriority)
	}
	return false, nil
}

// usualPriority is the first byte of the 29-bit ids of ISO 15765-4, which an adapter
// begins with.
const usualPriority = "18"

func (s *session) setPriority(ctx context.Context, priority string) error {
	if priority == s.priority {
		return nil
	}
	_, err := s.set(ctx, "ATCP"+priority)
	s.priority = priority
	return err
}

// setFlow makes the adapter answer the first frame of a long message. For the ids of
// ISO 15765-4 it does so by itself; other control units wait in vain for the next
// frames unless it is told whom to answer (data sheet, "Altering Flow Control
// Messages"). An adapter that does not know this goes on without.
func (s *session) setFlow(ctx context.Context, header string) error {
	if header == "" || answersTo(header) != "" {
		header = ""
	}
	if header == s.flow {
		return nil
	}
	commands := []string{"ATFCSM0"}
	if header != "" {
		commands = []string{"ATFCSH" + header, "ATFCSD300000", "ATFCSM1"}
	}
	for _, command := range commands {
		if _, err := s.set(ctx, command); err != nil {
			return err
		}
	}
	s.flow = header
	return nil
}

// answersTo is the id that answers to a header by ISO 15765-4: 7E4 has 7EC, 18DAE4F1
// has 18DAF1E4. It is empty for others.
func answersTo(header string) string {
	switch {
	case len(header) == 3 && header >= "7E0" && header <= "7E7":
		return "7E" + string("89ABCDEF"[header[2]-'0'])
	case len(header) == 8 && strings.HasPrefix(header, "18DA") && header[6:] == "F1":
		return "18DAF1" + header[4:6]
	}
	return ""
}

// defaultHeaders are those that an ELM327 begins with (data sheet, "Setting the
// Headers"): functional requests to all ECUs.
var defaultHeaders = map[byte]string{
	'1': "616AF1", '2': "686AF1", '3': "686AF1", '4': "C233F1", '5': "C233F1",
	'6': "7DF", '8': "7DF", '7': "18DB33F1", '9': "18DB33F1",
}

// polling is the channel of mode 01: all ECUs hear it.
func (s *session) polling() channel {
	if s.filtered && busOf(s.protocol).isCAN() {
		return channel{filter: s.speaker}
	}
	return channel{}
}
