package telemetry

// State is what the publisher says of itself.
type State string

// The states of a publisher. Offline is also its last will.
const (
	Online  State = "online"
	Parked  State = "parked"
	Offline State = "offline"
)

// Condition is something a person should know about: a code for machines, a
// title and what to do for people.
type Condition struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Title    string   `json:"-"`
	Remedy   string   `json:"-"`
}

// Status is the retained status message.
type Status struct {
	Schema           int         `json:"schema"` // always 1
	VehicleID        string      `json:"vehicle_id"`
	State            State       `json:"state"`
	T                string      `json:"t"` // FormatTime
	Version          string      `json:"version"`
	StreamID         string      `json:"stream_id"`
	LastSeq          uint64      `json:"last_seq"`
	OldestUnackedSeq uint64      `json:"oldest_unacked_seq,omitempty"` // of this stream; absent when all is acknowledged
	Health           []Condition `json:"health"`
	Rates            []Rate      `json:"rates,omitempty"` // of the car's signals, while it is read
	Data             *Data       `json:"data,omitempty"`  // with a data budget
}

// Data is what the link to the broker has carried in this month of its plan, in bytes.
type Data struct {
	SentBytes     uint64 `json:"sent_bytes"`
	ReceivedBytes uint64 `json:"received_bytes"`
	BudgetBytes   uint64 `json:"budget_bytes,omitempty"`
	ForecastBytes uint64 `json:"forecast_bytes"`  // both ways, at the month's end
	Since         string `json:"since,omitempty"` // FormatTime; absent until the time was known once
}

// Rate tells how often a signal is wanted and how often it is read, in hertz.
type Rate struct {
	Signal   string  `json:"signal"`
	Wanted   float64 `json:"wanted_hz,omitempty"` // absent: as often as possible
	Achieved float64 `json:"achieved_hz"`
}
