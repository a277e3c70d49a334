package command

import (
	"encoding/json"
	"fmt"

	"telemetryd/internal/telemetry"
)

// State is how far a command is.
type State string

// The states of a command: refused, or accepted and then done or failed.
const (
	Accepted State = "accepted"
	Refused  State = "refused"
	Done     State = "done"
	Failed   State = "failed"
)

// Response tells what became of a command.
type Response struct {
	Schema    int     `json:"schema"` // always 1
	VehicleID string  `json:"vehicle_id"`
	ID        string  `json:"id"`
	Command   string  `json:"command"`
	State     State   `json:"state"`
	Reason    string  `json:"reason"`
	Output    any     `json:"output"` // a JSON object
	T         string  `json:"t"`      // FormatTime
	Became    *Became `json:"became,omitempty"`
}

// Became is, in the refusal of a repeated id, what became of the first: its last state, and
// when that was.
type Became struct {
	State  State  `json:"state"`
	Reason string `json:"reason"`
	T      string `json:"t"`
}

// mostOutput is how many bytes of output an answer carries.
const mostOutput = 16 << 10

func (d *Dispatcher) response(r request, s State, reason string) Response {
	return Response{Schema: 1, VehicleID: d.VehicleID, ID: r.id, Command: r.command, State: s, Reason: reason, Output: struct{}{}, T: telemetry.FormatTime(d.now())}
}

// tell answers and writes down a state of a command; it returns the output as it was sent.
func (d *Dispatcher) tell(topic string, j job, s State, reason string, output any) json.RawMessage {
	response := d.response(j.request, s, reason)
	sent, err := json.Marshal(output)
	switch {
	case err != nil: // a mistake in this program
		sent = leftOut(fmt.Sprintf("it cannot be written as JSON: %v", err))
	case len(sent) > mostOutput:
		sent = leftOut(fmt.Sprintf("%d bytes are more than an answer carries", len(sent)))
	}
	response.Output = orEmpty(sent)
	d.send(response)
	d.audit.write(d.line(topic, d.shown(j), s, reason))
	return sent
}

// send hands out an answer, without its output where the broker would not take that.
func (d *Dispatcher) send(r Response) {
	b, err := json.Marshal(r)
	if err == nil && d.Room > 0 && len(b) > d.Room {
		r.Output = leftOut(fmt.Sprintf("with its %d bytes the answer is more than the broker takes (--max-message)", len(b)))
		b, err = json.Marshal(r)
	}
	if err != nil {
		d.Log.Error("an answer is left out", "command", r.Command, "id", r.ID, "error", err) // a mistake in this program
		return
	}
	d.Respond(b)
}

func leftOut(why string) json.RawMessage {
	b, _ := json.Marshal(map[string]string{"left_out": why}) // strings always marshal
	return b
}

// orEmpty makes an object of no output.
func orEmpty(output json.RawMessage) json.RawMessage {
	if len(output) == 0 || string(output) == "null" {
		return json.RawMessage("{}")
	}
	return output
}

// shown is a request as it may be written down: without the values that are secret.
func (d *Dispatcher) shown(j job) request {
	r := j.request
	r.args = map[string]string{}
	for name, value := range j.args {
		if j.rule.args[name].secret {
			value = "***"
		}
		r.args[name] = value
	}
	return r
}
