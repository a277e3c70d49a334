package command

import (
	"errors"
	"fmt"
	"strings"

	"telemetryd/internal/telemetry"
)

// refusal is why a message does not run: a code to count by, and words for who sent it.
type refusal struct {
	code, text string
	became     *outcome // of the first message with this id
}

func (r *refusal) Error() string { return r.text }

func refused(code, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// errUnsynced is said while nobody can tell what has expired.
var errUnsynced = refused("unsynced", "the vehicle does not know the time yet (no GPS fix, no network time), so it cannot tell whether this has expired; try again later, or without expires if it is not signed")

// repeated refuses an id that was used before.
func repeated(o outcome) error {
	text := fmt.Sprintf("the id %s was used before: %s is %s since %s", o.ID, o.Command, o.State, telemetry.FormatTime(o.At))
	if o.State == Accepted {
		text = fmt.Sprintf("the id %s was used before: %s is under way", o.ID, o.Command)
	}
	return &refusal{code: "repeated", text: text, became: &o}
}

func asRefusal(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	return &refusal{code: "other", text: err.Error()}
}

// clip keeps short what others wrote.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
