package main

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"telemetryd/internal/action"
	"telemetryd/internal/command"
	"telemetryd/internal/publish"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// builtins are the commands that this program does itself, by name: those that speak with the
// car, and what it says of itself.
func builtins(state func() telemetry.Status, car map[string]command.Builtin) map[string]command.Builtin {
	all := map[string]command.Builtin{
		"status": func(_ context.Context, args map[string]string) (any, error) {
			if err := onlyArguments(args); err != nil {
				return nil, err
			}
			return state(), nil
		},
	}
	maps.Copy(all, car)
	return all
}

// dispatcher runs the commands that the owner allows; nil when there are none.
func (o options) dispatcher(own map[string]command.Builtin, runner *action.Runner, clock *telemetry.Clock, answers *publish.Outbox, health *status.Health, log *slog.Logger) *command.Dispatcher {
	if len(o.commands.allow) == 0 {
		return nil
	}
	return command.New(command.Config{
		VehicleID: o.vehicleID, Base: o.topicPrefix + "/" + o.vehicleID + "/command", Topics: o.commands.topics,
		Allow: o.commands.allow, Builtins: own, PublicKey: o.commands.publicKey, Dir: filepath.Join(o.stateDir, "commands"),
		Now: func() (time.Time, bool) {
			now, quality := clock.Now()
			return now, quality != telemetry.Unsynced
		},
		Respond: answers.Add, Room: o.limits.Room(o.topicPrefix, o.vehicleID), Runner: runner, Health: health, Log: log,
	})
}
