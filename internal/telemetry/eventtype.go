package telemetry

import (
	"regexp"
	"slices"
	"strings"
)

// AllowedEventType is what IsEventType asks for, for people.
const AllowedEventType = "1 to 64 of a-z 0-9 _, a letter first"

var eventType = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// IsEventType reports whether a text can be the type of an event.
func IsEventType(text string) bool { return eventType.MatchString(text) }

// The types that the daemon gives itself, by their beginning or in full.
var (
	ownFamilies = []string{"stream_", "data_", "clock_", "dtc_", "mil_", "trip_", "harsh_", "geofence_", "command_", "overspeed", "long_idling", "engine_overheated"}
	ownTypes    = []string{
		"freeze_frame", "vehicle_identity", "event_readings", "judgement_limited", "moved_while_parked", "crash_like_stop",
		"low_battery", "parked", "unparked", "driving", "online", "offline", // the last are states that hooks are on
	}
)

// IsOwnEvent reports whether the daemon alone says that such a thing happened: a consumer
// takes it as found in the vehicle's readings, or in the stream itself.
func IsOwnEvent(kind string) bool {
	return slices.Contains(ownTypes, kind) || slices.ContainsFunc(ownFamilies, func(f string) bool { return strings.HasPrefix(kind, f) })
}
