package publish

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/telemetry"
)

// MQTT 3.1.1 acknowledges what the broker's access rules deny: it is thrown away, and
// nobody is told. So now and then the publisher reads its own retained status back.

const (
	// echoLimit is how long the status may take to come back; echoEvery and echoAgain how
	// long after a check that went well, and one that did not, it is made again.
	echoLimit = 20 * time.Second
	echoEvery = time.Hour
	echoAgain = 5 * time.Minute
)

// echo is a delivery check under way; its channels are nil while none is.
type echo struct {
	came chan struct{}
	late <-chan time.Time
	// subscribed is when the status has to be sent for it: what is retained comes by itself.
	subscribed <-chan struct{}
}

// listen begins a check when it is time for one.
func (s *sender) listen() {
	if s.WriteOnly || s.isParked() || s.echo.came != nil || time.Now().UnixMilli() < s.checkAt.Load() || s.conn.isLost() || s.suspects.any() {
		return
	}
	s.checkAt.Store(time.Now().Add(echoAgain).UnixMilli())
	came := make(chan struct{}, 1)
	s.echo = echo{came: came, late: time.After(echoLimit)}
	token := s.conn.client.Subscribe(s.topic(s.VehicleID, statusOf), 1, func(_ mqtt.Client, m mqtt.Message) {
		var status struct {
			StreamID string          `json:"stream_id"`
			State    telemetry.State `json:"state"`
		}
		// What an earlier stream or the will left there is no echo.
		if json.Unmarshal(m.Payload(), &status) == nil && status.StreamID == s.StreamID && status.State != telemetry.Offline {
			select {
			case came <- struct{}{}:
			default:
			}
		}
	})
	if s.Limits.NoRetain {
		s.echo.subscribed = token.Done()
	}
}

// heard ends a check: with an echo, or without one.
func (s *sender) heard(ok bool) {
	s.echo = echo{}
	s.conn.client.Unsubscribe(s.topic(s.VehicleID, statusOf))
	switch {
	case ok:
		s.checkAt.Store(time.Now().Add(echoEvery).UnixMilli())
		s.Health.Clear("delivery_check", "What is published arrives at the broker")
	case s.quickest > 0: // else the link is too slow to tell
		s.Health.Set("delivery_check", s.noEcho())
	}
}

// closed ends a check with the connection, which the broker closed. With nothing else
// under way it is the subscription that is not allowed, and not asked for again soon.
func (s *sender) closed() {
	if s.echo.came != nil && !slices.ContainsFunc(s.underway, func(m sent) bool { return m.lsn != 0 }) {
		s.checkAt.Store(time.Now().Add(echoEvery).UnixMilli())
		s.Health.Set("delivery_check", s.noEcho())
	}
}

func (s *sender) noEcho() telemetry.Condition {
	who := "this client"
	if s.Credentials.Username != "" {
		who = "the user " + s.Credentials.Username
	}
	all := s.TopicPrefix + "/" + s.VehicleID + "/#"
	return telemetry.Condition{Code: "broker_no_echo", Severity: telemetry.Warning,
		Title: "The broker acknowledges, but what is published does not come back: it may be thrown away",
		Remedy: fmt.Sprintf("Allow %s to write %s and to read %s (mosquitto's acl_file: `topic readwrite %s`). For an account that may only write: --delivery-check no.",
			who, all, s.topic(s.VehicleID, statusOf), all)}
}
