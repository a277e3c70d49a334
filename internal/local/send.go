package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"
)

// Send hands an event to the daemon of a state directory. An error says that there is none,
// or that it gave no answer; an Answer may hold one, too.
func Send(ctx context.Context, dir string, r Request) (a Answer, err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("encode the event: %w", err)
	}
	conn, err := dial(dir, talkLimit)
	if err != nil {
		return a, unreachable(dir, err)
	}
	defer conn.Close()
	wait := time.Duration(r.WaitMS) * time.Millisecond
	_ = conn.SetDeadline(time.Now().Add(2*talkLimit + recordLimit + wait))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err = conn.Write(append(line, '\n')); err == nil {
		line, err = bufio.NewReader(io.LimitReader(conn, mostLine)).ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err != nil {
		return a, fmt.Errorf("the daemon of %s gave no answer (%w): it is not known whether the event was recorded", dir, err)
	}
	return a, nil
}

// unreachable is why there is nobody to take an event, and what to do.
func unreachable(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission for the daemon's socket in %s: try again with sudo, or let this user into the group of the daemon (docs/hooks.md)", dir)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no telemetryd runs on the state directory %s: start it, or name its directory with --state-dir (of the installed service: /var/lib/telemetryd)", dir)
	}
	return fmt.Errorf("reach the daemon of %s: %w", dir, err)
}
