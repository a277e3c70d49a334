package main

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A parked vehicle says how it is for five minutes, then once an hour; the engine's start is
// told at once, and so is a new connection.
func TestFewWhileParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parked, n := false, 0
		message := fewWhile(func() bool { return parked }, func([]byte) []byte {
			n++
			return fmt.Append(nil, n)
		})
		during := func(d time.Duration) (sent int) {
			for range d / (5 * time.Second) {
				time.Sleep(5 * time.Second)
				if message([]byte("last")) != nil {
					sent++
				}
			}
			return sent
		}
		if got := during(time.Minute); got != 12 {
			t.Errorf("driving: %d in a minute", got)
		}
		parked = true
		if got := during(5 * time.Minute); got < 59 || got > 61 {
			t.Errorf("just parked: %d in five minutes", got)
		}
		if got := during(24 * time.Hour); got < 23 || got > 25 {
			t.Errorf("parked: %d in a day", got)
		}
		if message(nil) == nil {
			t.Error("nothing on a new connection")
		}
		parked = false
		if got := during(5 * time.Second); got != 1 {
			t.Error("the start is not told at once")
		}
	})
}
