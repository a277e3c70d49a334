package command

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// request is what a message asks for.
type request struct {
	id      string // empty: it has none
	command string
	args    map[string]string
	expires time.Time // zero: never
	until   time.Time // the same, with the tolerance for clocks of its form
}

// requestKeys are the keys of a request in JSON.
var requestKeys = []string{"id", "command", "args", "expires"}

var idPattern = regexp.MustCompile(`^[\x21-\x7e]{1,64}$`)

// read makes a request of a message. With an error, the request holds what is known of it.
func (d *Dispatcher) read(m message) (request, error) {
	named, whatever := d.named(m.topic)
	r := request{command: named}
	switch {
	case m.retained:
		return r, refused("retained", "it is a retained message, which would run again at each connection; publish it without the retain flag")
	case m.size > MostPayload:
		return r, refused("too_large", "its payload has %d bytes or more; allowed: %d", min(m.size, MostPayload+1), MostPayload)
	case named != "" && !ValidName(named):
		return request{}, refused("bad_name", "the last level of the topic is no command's name; allowed: 1 to 64 of A-Z a-z 0-9 _ -")
	}
	if d.PublicKey != nil {
		return d.readSigned(m.payload, named)
	}
	if whatever {
		return r, nil
	}
	return parse(m.payload, named)
}

// named is the command that a topic stands for, and whether any message on it runs that.
func (d *Dispatcher) named(topic string) (command string, whatever bool) {
	if run, ok := d.Config.Topics[topic]; ok {
		return run, run != ""
	}
	command, _ = strings.CutPrefix(topic, d.Base+"/")
	if command == topic {
		return "", false
	}
	return command, false
}

// parse reads an unsigned payload. named is what the topic says, empty where the payload has
// to name the command.
func parse(payload []byte, named string) (request, error) {
	text := string(payload)
	if line, ok := strings.CutSuffix(text, "\n"); ok { // as echo, or a file, has it
		text = strings.TrimSuffix(line, "\r")
	}
	switch r := (request{command: named}); {
	case !utf8.ValidString(text):
		return r, refused("not_a_command", "it is not valid UTF-8")
	case text == "" && named == "":
		return r, refused("not_a_command", "it is empty")
	case text == "" || text == named:
		return r, nil
	case strings.HasPrefix(text, "{"):
		return parseJSON([]byte(text), named)
	case looksSigned(text):
		return r, refused("no_key", "it is signed, but the vehicle has no key to check it with (commands: public_key: in the settings)")
	case ValidName(text) && named == "":
		return request{command: text}, nil
	case ValidName(text):
		return r, conflict(named, text)
	case named != "":
		return r, refused("not_a_command", "a topic that names the command takes an empty message, arguments as JSON, or a signed command")
	default:
		return r, refused("not_a_command", "it is neither a command's name (1 to 64 of A-Z a-z 0-9 _ -), nor JSON, nor a signed command")
	}
}

func conflict(topic, payload string) error {
	return refused("conflict", "the topic says %s, the message %s", topic, payload)
}

// parseJSON reads {"id", "command", "args", "expires"}; where the topic names the command,
// an object without any of these is the arguments. Keys count as they are written.
func parseJSON(text []byte, named string) (request, error) {
	r := request{command: named}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return r, refused("not_a_command", "it is no JSON object: %s", clip(err.Error()))
	}
	if named != "" && !slices.ContainsFunc(requestKeys, func(key string) bool { _, there := object[key]; return there }) {
		var err error
		r.args, err = arguments(object)
		return r, err
	}
	var err error
	if raw, ok := object["id"]; ok {
		if r.id, err = scalar(raw); err != nil || !idPattern.MatchString(r.id) {
			r.id = ""
			return r, refused("bad_id", "its id is not allowed; allowed: 1 to 64 printable characters without spaces")
		}
	}
	if raw, ok := object["command"]; ok {
		name, err := scalar(raw)
		switch {
		case err != nil || !ValidName(name):
			return r, refused("bad_name", "its command is no command's name; allowed: 1 to 64 of A-Z a-z 0-9 _ -")
		case named != "" && name != named:
			return r, conflict(named, name)
		}
		r.command = name
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(requestKeys, key) {
			return r, refused("not_a_command", "its key %q is not known; allowed: id, command, args, expires", clip(key))
		}
	}
	if r.command == "" {
		return r, refused("not_a_command", "it names no command")
	}
	if raw, ok := object["expires"]; ok {
		var at string
		if err = json.Unmarshal(raw, &at); err == nil {
			r.expires, err = time.Parse(time.RFC3339, at)
		}
		if err != nil || r.expires.IsZero() {
			r.expires = time.Time{}
			return r, refused("bad_expiry", "its expires is no time; allowed: as 2026-11-23T10:05:00Z")
		}
		r.until = r.expires
	}
	if raw, ok := object["args"]; ok {
		var args map[string]json.RawMessage
		if json.Unmarshal(raw, &args) != nil {
			return r, refused("bad_args", "its args are no JSON object")
		}
		r.args, err = arguments(args)
	}
	return r, err
}

// arguments are the values of an object as texts.
func arguments(object map[string]json.RawMessage) (map[string]string, error) {
	if len(object) > mostArgs {
		return nil, refused("bad_args", "%d arguments; allowed: up to %d", len(object), mostArgs)
	}
	args := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !argNamePattern.MatchString(name) {
			return nil, refused("bad_args", "%q is no name of an argument; allowed: 1 to 32 of a-z 0-9 _", clip(name))
		}
		value, err := scalar(object[name])
		switch {
		case err != nil:
			return nil, refused("bad_args", "the argument %s is no text, number, true or false", name)
		case len(value) > mostValue:
			return nil, refused("bad_args", "the argument %s has %d bytes; allowed: %d", name, len(value), mostValue)
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }):
			return nil, refused("bad_args", "the argument %s has control characters in it", name)
		}
		args[name] = value
	}
	return args, nil
}

// scalar is a text, number or truth value of JSON as a text.
func scalar(raw json.RawMessage) (string, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case float64, bool:
		return strings.TrimSpace(string(raw)), nil // as it was written
	default:
		return "", refused("bad_args", "no single value")
	}
}
